//! The state of the physical world that a recovery goes by (paper, 4.2.4):
//! `E_rec = Norm({ e ∈ E_pf ∪ E_rpf | exp(e) > t_r })`.
//!
//! Where the paper prints `(E_pf \ E_exp) ∪ E_rpf`, an event that was sensed during the repair never
//! expires and overrides nothing, although the paper's own words ask for both. `Norm` looks for what
//! overrides among all events, the expired ones included. Where nothing overrides and nothing of the
//! repair has expired, the two are equal.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::world::{Entry, Key};
use super::{EventId, World};
use crate::ids::EntityId;
use crate::model::Topology;
use crate::time::{Now, WallClock};

/// One event of the physical world, with the quantity that it speaks of.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Happened {
    /// The quantity.
    pub key: Key,
    /// The event.
    pub entry: Entry,
}

/// What holds at `now`, the instant at which a recovery commits, of what was known before the
/// failure and what was learnt since.
///
/// The sets may come from several elements, so what is later is decided by when it occurred, then by
/// the event's identity. `accumulates` says of which quantities every event counts by itself.
pub fn recovered(
    before: impl IntoIterator<Item = Happened>,
    since: impl IntoIterator<Item = Happened>,
    now: Now,
    accumulates: impl Fn(&Key) -> bool,
) -> Vec<Happened> {
    let mut quantities: BTreeMap<Key, BTreeMap<(WallClock, EventId), Entry>> = BTreeMap::new();
    for Happened { key, entry } in before.into_iter().chain(since) {
        let place = (entry.occurred_at, entry.event.clone());
        quantities.entry(key).or_default().insert(place, entry);
    }
    let mut recovered = Vec::new();
    for (key, mut events) in quantities {
        if !accumulates(&key)
            && let Some((latest, _)) = events.last_key_value()
        {
            let latest = latest.clone();
            events = events.split_off(&latest);
        }
        let live = events.into_values().filter(|entry| entry.surely_holds(now));
        recovered.extend(live.map(|entry| Happened {
            key: key.clone(),
            entry,
        }));
    }
    recovered
}

/// Of every geographical space the events that hold at `now`, as far as these elements know. An event
/// of an appliance belongs to every space that the appliance belongs to.
pub fn spaces<'a>(
    topology: &Topology,
    worlds: impl IntoIterator<Item = &'a World>,
    now: Now,
) -> BTreeMap<EntityId, Vec<Happened>> {
    let known = worlds.into_iter().flat_map(World::entries);
    let known = known.map(|(key, entry)| Happened {
        key,
        entry: entry.clone(),
    });
    let accumulates = |key: &Key| {
        let model = topology.appliances.get(&key.subject).map(|a| &a.model);
        let property = model.and_then(|model| model.properties.get(&key.attribute));
        property.is_some_and(|property| property.accumulates)
    };
    let holding = recovered(known, [], now, accumulates);
    let of_space = |space: &EntityId| {
        let inside = |happened: &&Happened| {
            let appliance = topology.appliances.get(&happened.key.subject);
            appliance.is_some_and(|appliance| appliance.spaces.contains(space))
        };
        (
            space.clone(),
            holding.iter().filter(inside).cloned().collect(),
        )
    };
    topology.spaces.keys().map(of_space).collect()
}
