//! Every actuator says what repeating one of its commands does (V15).

use lamplighter_policies::model::Topology;

use crate::diagnostics::{Code, Fault, Faults, Severity};
use crate::resolve::Places;

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    for (id, appliance) in &topology.appliances {
        let written = places.has_key(id, "class");
        let place = places.key(id, "class");
        let modelled = places.has_key(id, "model");
        if appliance.role.acts() && !written && !modelled {
            let reason = format!("actuator `{id}` has no `class`, so it is taken as irreversible");
            faults.add(
                Fault::new(Code::V15, place, reason)
                    .severity(Severity::Warning)
                    .label("irreversible commands are never repeated after a failure")
                    .cure(
                        "name its `model`, or write `class = \"set\"` if its commands set a state",
                    ),
            );
        } else if !appliance.role.acts() && written {
            let reason = format!("`{id}` is a sensor: its `class` means nothing");
            let fault = Fault::new(Code::V15, place, reason).severity(Severity::Warning);
            faults.add(fault.cure("remove `class`, or give it a `role` that acts"));
        }
    }
}
