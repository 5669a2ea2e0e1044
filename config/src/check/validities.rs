//! What holds too shortly for clocks that differ never acts after a failure (V16).

use lamplighter_policies::model::Topology;
use lamplighter_policies::physical_world::Validity;

use crate::diagnostics::{Code, Fault, Faults};
use crate::resolve::Places;
use crate::values::show;

/// An event acts only while every clock within the bound says that it holds. When it occurred is known
/// as badly as what time it is, so twice the bound is lost of its validity.
pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    let lost = topology.detection.skew_max * 2;
    for written in places.validities() {
        let Validity::For(span) = *written.get_ref() else {
            continue;
        };
        if span > lost {
            continue;
        }
        let reason = format!(
            "what holds for {} can never be replayed or sent to an appliance",
            show(span)
        );
        let label = format!(
            "clocks may differ by {} either way",
            show(topology.detection.skew_max)
        );
        faults.add(
            Fault::new(Code::V16, written.span(), reason)
                .label(label)
                .cure(format!(
                    "write more than {}, or \"immediate\" for what acts at once or never; or keep \
                     the clocks closer together and say so with `clock_skew` in [detection]",
                    show(lost)
                )),
        );
    }
}
