//! What is watched for can show that an appliance is there (V22).

use lamplighter_policies::model::Topology;

use crate::diagnostics::{Code, Fault, Faults};
use crate::resolve::Places;

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    for (id, appliance) in &topology.appliances {
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
