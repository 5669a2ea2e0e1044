//! Those who are named as substitutes can do what is needed (V20).

use lamplighter_policies::model::{Candidates, Topology};
use lamplighter_policies::recovery::{Lack, capabilities, missing, needed};

use crate::diagnostics::{Code, Fault, Faults};
use crate::resolve::Places;

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    for (id, appliance) in &topology.appliances {
        let Candidates::Only(candidates) = &appliance.substitution.with else {
            continue;
        };
        // What it needs and does not have itself is a fault of its own.
        let mut needs = needed(appliance);
        needs.retain(|name, _| appliance.functions.contains(name));
        for candidate in candidates {
            let Some(other) = topology.appliances.get(candidate) else {
                continue;
            };
            let tolerance = &appliance.substitution.tolerance;
            let lacks = missing(&capabilities(other), &needs, tolerance);
            if lacks.is_empty() || (needs.is_empty() && !appliance.functions.is_empty()) {
                continue;
            }
            let why: Vec<_> = lacks.iter().map(Lack::to_string).collect();
            let reason = format!(
                "`{candidate}` cannot take the place of `{id}`: {}",
                why.join(", ")
            );
            let cure = match lacks.first() {
                Some(Lack::Nothing) => "give both a `model`, or `functions`",
                Some(Lack::Values(_)) => {
                    "name another, or say in `tolerance` how far it may be off"
                }
                Some(Lack::Missing(_) | Lack::Access(_)) | None => {
                    "name another, or say in `needs` what is used of it"
                }
            };
            faults.add(
                Fault::new(Code::V20, places.named(id, candidate), reason)
                    .also(places.of(candidate), "declared here")
                    .cure(cure),
            );
        }
    }
}
