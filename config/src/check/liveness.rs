//! What is watched for can show that an appliance is there (V22).

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Appliance, ApplianceApi, Topology};

use crate::diagnostics::{Code, Fault, Faults};
use crate::resolve::Places;

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    for (id, appliance) in &topology.appliances {
        unwatchable(id, appliance, places, faults);
        if appliance.liveness.probe.is_none() || appliance.model.answers {
            continue;
        }
        let reason = format!("`{id}` is asked whether it is there, and it answers nobody");
        let cure = match appliance.model.name.as_str() {
            "" => "give it a `model` that answers, or watch `silent_after` or `availability`",
            _ => "write `answers = true` in its model, or watch `silent_after` or `availability`",
        };
        let fault = Fault::new(Code::V22, places.key(id, "probe"), reason);
        faults.add(
            fault
                .label("without an answer it would count as failed")
                .cure(cure),
        );
    }
}

/// What an agent cannot watch of an appliance that is not on the broker.
fn unwatchable(id: &EntityId, appliance: &Appliance, places: &Places, faults: &mut Faults) {
    let liveness = &appliance.liveness;
    let (asked, heard) = (liveness.probe.is_some(), liveness.silent_after.is_some());
    let (reason, cure) = match appliance.api {
        ApplianceApi::Http if heard && !asked => (
            format!("`{id}` speaks only when it is asked, so its silence says nothing"),
            "write `probe` beside or instead of `silent_after`",
        ),
        ApplianceApi::Program if asked || heard => (
            format!("`{id}` is spoken to by the program's adapter, which agents do not have"),
            "watch `availability` or `bridge`, topics on which somebody says that it is there",
        ),
        ApplianceApi::Mqtt
        | ApplianceApi::Http
        | ApplianceApi::Simulated
        | ApplianceApi::Program => return,
    };
    let place = if asked {
        places.key(id, "probe")
    } else {
        places.of(id)
    };
    faults.add(Fault::new(Code::V22, place, reason).cure(cure));
}
