//! What an author may say about saving, and how long a log may grow (V17, V18, V19).

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Direction, Element, LocalStorage, LogChoice, Topology};

use crate::diagnostics::{Code, Fault, Faults, Severity};
use crate::resolve::Places;

/// The most bytes of log between two checkpoints, by the author's own estimates: what can be
/// replayed within seconds.
const LOG_BYTES_MAX: f64 = 64.0 * 1024.0 * 1024.0;

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    for (id, element) in &topology.elements {
        override_allowed(topology, id, element, places, faults);
    }
    log_bounds(topology, places, faults);
}

fn override_allowed(
    topology: &Topology,
    id: &EntityId,
    element: &Element,
    places: &Places,
    faults: &mut Faults,
) {
    let place = places.key(id, "log");
    let weaken = places.has_key(id, "unsafe_weaken");
    match element.log {
        LogChoice::Derived | LogChoice::Pessimistic => {}
        LogChoice::Optimistic => {
            let volatile = |id: &EntityId| {
                let server = topology.servers.get(id);
                server.is_some_and(|server| server.storage == LocalStorage::Volatile)
            };
            // Without a place it may come to any server.
            let server = match &element.server {
                Some(server) => Some(server).filter(|id| volatile(id)),
                None => topology.servers.keys().find(|id| volatile(id)),
            };
            if let Some(server) = server {
                let where_it_is = match element.server {
                    Some(_) => "is placed on",
                    None => "may be placed on",
                };
                let reason = format!(
                    "element `{id}` cannot be logged optimistically: it {where_it_is} `{server}`, \
                     whose storage is volatile"
                );
                faults.add(
                    Fault::new(Code::V18, place, reason)
                        .also(
                            places.of(server),
                            "its storage does not survive its failure",
                        )
                        .cure("remove `log`, or place the element on persistent storage"),
                );
            }
        }
        LogChoice::None if weaken => faults.add(
            Fault::new(
                Code::V17,
                place,
                format!("nothing that reaches element `{id}` is logged"),
            )
            .severity(Severity::Warning)
            .label("what is under way when it fails is lost"),
        ),
        LogChoice::None => faults.add(
            Fault::new(
                Code::V17,
                place,
                format!("element `{id}` asks for less than its storage needs"),
            )
            .label("what is under way when it fails would be lost")
            .cure("remove `log`, or write `unsafe_weaken = true` to accept the loss"),
        ),
    }
}

/// The log between two checkpoints stays small enough to be replayed (V19).
fn log_bounds(topology: &Topology, places: &Places, faults: &mut Faults) {
    let mut rates = std::collections::BTreeMap::<&EntityId, (f64, f64)>::new();
    for binding in topology.bindings.values() {
        let (Some(rate), Some(bytes)) = (binding.rate_hz, binding.payload_bytes) else {
            continue;
        };
        for flow in &binding.flows {
            let Some(receiver) = flow.target.element() else {
                continue;
            };
            if flow.direction(receiver) == Some(Direction::Incoming) {
                let (events, volume) = rates.entry(receiver).or_default();
                *events += rate;
                *volume += rate * f64::from(bytes);
                break;
            }
        }
    }
    for (id, (rate, volume)) in rates {
        let Some(element) = topology.elements.get(id) else {
            continue;
        };
        if rate == 0.0 || element.log == LogChoice::None {
            continue;
        }
        let by_count = element.checkpoint.every as f64 / rate;
        let seconds = element.checkpoint.interval.as_secs_f64().min(by_count);
        let bytes = seconds * volume;
        if bytes > LOG_BYTES_MAX {
            let reason = format!(
                "between two checkpoints the log of element `{id}` grows to {:.0} MiB",
                bytes / 1024.0 / 1024.0
            );
            faults.add(
                Fault::new(Code::V19, places.key(id, "checkpoint"), reason)
                    .label("at most 64 MiB are replayed in reasonable time")
                    .cure("checkpoint more often: a smaller `every` or `interval`"),
            );
        }
    }
}
