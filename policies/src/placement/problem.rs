//! What is asked of a placement, and what it answers.

use alloc::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::obstacle::NoPlace;
use crate::ids::EntityId;
use crate::model::{Binding, Resources, Topology};

/// What the fog agent and its backup need of every server that hosts anything.
pub const AGENT_RESERVE: Resources = Resources {
    cpu_milli: 100,
    ram_mb: 64,
    disk_mb: 0,
};

/// Which elements need a server, and what may be done for it.
#[derive(Clone, Debug)]
pub struct Problem<'t> {
    /// Who there is, what they need and offer.
    pub topology: &'t Topology,
    /// The servers that are alive and take elements.
    pub servers: BTreeSet<EntityId>,
    /// Channels, appliances and servers that are out of order: no way goes over them.
    pub down: BTreeSet<EntityId>,
    /// Which elements run, and on which server. Those on a server that is not in `servers` use it up
    /// and stay there.
    pub fixed: BTreeMap<EntityId, EntityId>,
    /// The elements that need a server.
    pub open: BTreeSet<EntityId>,
    /// Which of the fixed may be stopped for somebody more critical. An essential one never is.
    pub evictable: BTreeSet<EntityId>,
    /// Which of the fixed may be moved if an essential element has no place otherwise.
    pub movable: BTreeSet<EntityId>,
    /// The servers on which an element must not be placed, because it failed there.
    pub barred: BTreeMap<EntityId, BTreeSet<EntityId>>,
    /// Which of all equally good ways the search takes.
    pub seed: u64,
}

impl<'t> Problem<'t> {
    /// The first placement of an application: elements are where the topology says, all others open.
    #[must_use]
    pub fn initial(topology: &'t Topology) -> Self {
        let placed = |(id, element): (&EntityId, &crate::model::Element)| {
            Some((id.clone(), element.server.clone()?))
        };
        let fixed: BTreeMap<_, _> = topology.elements.iter().filter_map(placed).collect();
        let is_open = |id: &&EntityId| !fixed.contains_key(*id);
        let open = topology.elements.keys().filter(is_open).cloned().collect();
        Self {
            topology,
            servers: topology.servers.keys().cloned().collect(),
            down: BTreeSet::new(),
            fixed,
            open,
            evictable: BTreeSet::new(),
            movable: BTreeSet::new(),
            barred: BTreeMap::new(),
            seed: 0,
        }
    }

    /// The placement after servers were lost: what ran on `lost` is open, all others stay if they
    /// can, and may be stopped or moved for what is essential. `lost` is also down: no way goes over
    /// it.
    #[must_use]
    pub fn after_loss(
        topology: &'t Topology,
        running: &BTreeMap<EntityId, EntityId>,
        lost: &BTreeSet<EntityId>,
    ) -> Self {
        let is_there = |server: &&EntityId| !lost.contains(*server);
        let stays = |(_, server): &(&EntityId, &EntityId)| is_there(server);
        let fixed: BTreeMap<_, _> = running
            .iter()
            .filter(stays)
            .map(|(element, server)| (element.clone(), server.clone()))
            .collect();
        let displaced = running.keys().filter(|id| !fixed.contains_key(*id));
        Self {
            topology,
            servers: topology.servers.keys().filter(is_there).cloned().collect(),
            down: lost.clone(),
            open: displaced.cloned().collect(),
            evictable: fixed.keys().cloned().collect(),
            movable: fixed.keys().cloned().collect(),
            fixed,
            barred: BTreeMap::new(),
            seed: 0,
        }
    }
}

/// How long a search may go on. One step looks at one element on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most steps. What is needed to place each element once is done in any case.
    pub steps: u64,
}

impl Budget {
    /// After a failure: everybody waits for the answer.
    pub const FAILOVER: Self = Self { steps: 400_000 };
    /// At the first deployment, and where nobody waits.
    pub const DEPLOYMENT: Self = Self { steps: 10_000_000 };
}

/// Where everything runs, and what it costs others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Where every element runs afterwards, those that stay where they are included.
    pub hosts: BTreeMap<EntityId, EntityId>,
    /// Which of the running elements have to move, so that others find a place.
    pub moved: BTreeMap<EntityId, Move>,
    /// Which of the running elements have to stop for good.
    pub evicted: BTreeMap<EntityId, Eviction>,
    /// Which open elements have no place.
    pub unplaced: BTreeMap<EntityId, NoPlace>,
    /// How long a message takes on average over all bindings, weighted by traffic, in microseconds.
    pub latency_micros: u64,
    /// Whether it is proved that no placement is better that leaves the running elements alone.
    pub is_optimal: bool,
    /// How many steps the search took.
    pub steps: u64,
}

/// A running element that changes its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// From where.
    pub from: EntityId,
    /// To where.
    pub to: EntityId,
    /// Who needs the room.
    pub for_the_sake_of: EntityId,
}

/// A running element that loses its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eviction {
    /// Where it ran.
    pub from: EntityId,
    /// Who needs the room.
    pub for_the_sake_of: EntityId,
}

/// The bandwidth that a binding needs of each channel on its way, in kilobits a second: what its
/// author asks for, and at least what passes by the author's estimate.
#[must_use]
pub fn kbps_needed(binding: &Binding) -> u32 {
    let asked = binding.bandwidth_kbps_min.unwrap_or(0);
    let (Some(rate), Some(bytes)) = (binding.rate_hz, binding.payload_bytes) else {
        return asked;
    };
    // Both are within limits that the loader checks; the cast saturates in any case.
    let passing = (rate * f64::from(bytes) * 8.0 / 1_000.0) as u32;
    asked.max(passing)
}
