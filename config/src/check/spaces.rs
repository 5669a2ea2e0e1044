//! Appliances stand inside their spaces, and spaces that overlap are told (V21).

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Space, Topology};

use crate::diagnostics::{Code, Fault, Faults, Severity};
use crate::resolve::Places;

/// How many overlaps are told.
const OVERLAPS_MAX: usize = 16;

/// How many pairs of spaces are compared at most.
const PAIRS_MAX: usize = 1_000_000;

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    for (id, appliance) in &topology.appliances {
        let Some(position) = appliance.position else {
            continue;
        };
        for space in &appliance.spaces {
            if topology
                .spaces
                .get(space)
                .is_none_or(|it| it.contains(position))
            {
                continue;
            }
            let [x, y, z] = position;
            let reason = format!("appliance `{id}` stands at [{x}, {y}, {z}], outside `{space}`");
            faults.add(
                Fault::new(Code::V21, places.key(id, "position"), reason)
                    .also(places.of(space), "the space it claims")
                    .cure("correct the position, or take the space out of `spaces`"),
            );
        }
    }
    overlaps(topology, places, faults);
}

/// Sorted by their least x, so that only neighbours are compared.
fn overlaps(topology: &Topology, places: &Places, faults: &mut Faults) {
    let mut spaces: Vec<(&EntityId, &Space)> = topology.spaces.iter().collect();
    spaces.sort_by(|(_, one), (_, other)| one.min[0].total_cmp(&other.min[0]));
    let mut told = 0;
    let mut compared = 0;
    for (index, (id, space)) in spaces.iter().enumerate() {
        for (other_id, other) in &spaces[index + 1..] {
            compared += 1;
            if other.min[0] >= space.max[0] {
                break;
            }
            if told == OVERLAPS_MAX || compared > PAIRS_MAX {
                return;
            }
            if space.overlaps(other) {
                told += 1;
                faults.add(
                    Fault::new(
                        Code::V21,
                        places.of(other_id),
                        format!("spaces `{id}` and `{other_id}` overlap"),
                    )
                    .severity(Severity::Advice)
                    .also(places.of(id), "the other one")
                    .label("what happens in both belongs to both"),
                );
            }
        }
    }
}
