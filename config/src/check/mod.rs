//! What is bad only as a whole: rules over a topology whose references resolve (V04, V08 to V22,
//! V24).

mod actuation;
mod cycles;
mod joined;
mod liveness;
mod paths;
mod placing;
mod room;
mod saving;
mod spaces;
mod substitutes;
mod validities;

use lamplighter_policies::model::Topology;

use crate::diagnostics::Faults;
use crate::resolve::Places;

/// Adds every fault of the topology.
pub(crate) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    cycles::check(topology, places, faults);
    paths::check(topology, places, faults);
    room::check(topology, places, faults);
    joined::check(topology, places, faults);
    actuation::check(topology, places, faults);
    liveness::check(topology, places, faults);
    saving::check(topology, places, faults);
    spaces::check(topology, places, faults);
    validities::check(topology, places, faults);
    substitutes::check(topology, places, faults);
    // Last: what is wrong with paths and room is told by itself first.
    placing::check(topology, places, faults);
}
