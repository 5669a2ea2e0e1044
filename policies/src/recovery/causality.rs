//! What fails with what (paper, 3.4, Figure 2): from the roots, which failed by themselves, to all that
//! fails because of them.
//!
//! A server takes its fog node and the elements on it, and the appliances that only it reaches; a
//! channel takes the bindings that have no other way, and what is cut off without it; elements and
//! appliances take their bindings. The manager decides about roots only: what they induce belongs to
//! the same recovery.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::model::{Binding, Network, Topology};
use crate::placement::kbps_needed;

/// What must be known to follow a failure.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'t> {
    /// Who there is, and what joins them.
    pub topology: &'t Topology,
    /// On which server each element runs; one that is not here runs nowhere.
    pub hosts: &'t BTreeMap<EntityId, EntityId>,
    /// What failed before, and is no news.
    pub down: &'t BTreeSet<EntityId>,
    /// The server on which the global manager runs. Where it is not known it counts as being where
    /// most servers are joined.
    pub manager: Option<&'t EntityId>,
}

/// Everything that fails with some roots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// What failed; `None` is a root.
    pub failed: BTreeMap<EntityId, Option<Cause>>,
}

/// Why something fails that is no root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What it fails with.
    pub parent: EntityId,
    /// How it hangs on that.
    pub how: How,
}

/// How a failure passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum How {
    /// It runs there.
    HostedBy,
    /// It is reached only over it.
    ReachedOver,
    /// It is a binding of it.
    EndedBy,
    /// It is a binding without another way.
    CarriedBy,
}

impl Closure {
    /// The roots.
    pub fn roots(&self) -> impl Iterator<Item = &EntityId> {
        let failed = self.failed.iter();
        failed
            .filter(|(_, cause)| cause.is_none())
            .map(|(id, _)| id)
    }

    /// The way from something that failed to its root, itself first and the root last; empty if it did
    /// not fail.
    #[must_use]
    pub fn way_to_root<'c>(&'c self, entity: &EntityId) -> Vec<&'c EntityId> {
        let mut way = Vec::new();
        let mut at = self.failed.get_key_value(entity);
        while let Some((id, cause)) = at {
            way.push(id);
            let parent = cause.as_ref().map(|cause| &cause.parent);
            at = parent.and_then(|parent| self.failed.get_key_value(parent));
        }
        way
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostedBy => "runs on",
            Self::ReachedOver => "is reached only over",
            Self::EndedBy => "has an end at",
            Self::CarriedBy => "has no way but over",
        })
    }
}

/// Follows failures from their roots to all that they induce.
#[must_use]
pub fn closure(surroundings: Surroundings<'_>, roots: &BTreeSet<EntityId>) -> Closure {
    let mut spread = Spread {
        surroundings,
        before: View::new(surroundings, surroundings.down),
        closure: Closure::default(),
        open: VecDeque::new(),
    };
    for root in roots {
        spread.closure.failed.insert(root.clone(), None);
        spread.open.push_back(root.clone());
    }
    while let Some(entity) = spread.open.pop_front() {
        spread.pass_on(&entity);
    }
    spread.closure
}

/// Of failures that were reported together, those from which all others follow.
#[must_use]
pub fn choose_roots(
    surroundings: Surroundings<'_>,
    reported: &BTreeSet<EntityId>,
) -> BTreeSet<EntityId> {
    let mut roots = reported.clone();
    // What can only follow is asked first, what only causes last.
    let mut order: Vec<&EntityId> = reported.iter().collect();
    order.sort_by_key(|id| kind(surroundings.topology, id));
    for id in order {
        roots.remove(id);
        if !closure(surroundings, &roots).failed.contains_key(id) {
            roots.insert(id.clone());
        }
    }
    roots
}

fn kind(topology: &Topology, id: &EntityId) -> u8 {
    if topology.channels.contains_key(id) {
        4
    } else if topology.servers.contains_key(id) {
        3
    } else if topology.appliances.contains_key(id) {
        2
    } else {
        u8::from(topology.elements.contains_key(id))
    }
}

struct Spread<'t> {
    surroundings: Surroundings<'t>,
    before: View<'t>,
    closure: Closure,
    open: VecDeque<EntityId>,
}

impl<'t> Spread<'t> {
    fn pass_on(&mut self, entity: &EntityId) {
        let topology = self.surroundings.topology;
        let is_server = topology.servers.contains_key(entity);
        if is_server {
            let hosts = self.surroundings.hosts.iter();
            let hosted = hosts.filter(|(_, server)| *server == entity);
            for (element, _) in hosted {
                self.induce(element, entity, How::HostedBy);
            }
        }
        if is_server || topology.channels.contains_key(entity) {
            self.cut_off(entity);
        } else {
            let ends =
                |binding: &Binding| binding.from == *entity || binding.to.as_ref() == Some(entity);
            for (id, binding) in &topology.bindings {
                if ends(binding) {
                    self.induce(id, entity, How::EndedBy);
                }
            }
        }
    }

    /// What nobody reaches any more, and the bindings without a way.
    fn cut_off(&mut self, entity: &EntityId) {
        let topology = self.surroundings.topology;
        let failed = self.closure.failed.keys();
        let down = failed.chain(self.surroundings.down).cloned().collect();
        let now = View::new(self.surroundings, &down);
        let places = topology.servers.keys().chain(topology.appliances.keys());
        for place in places {
            if self.before.is_joined(place) && !now.is_joined(place) {
                self.induce(place, entity, How::ReachedOver);
            }
        }
        for (id, binding) in &topology.bindings {
            if self.before.is_carried(binding) && !now.is_carried(binding) {
                self.induce(id, entity, How::CarriedBy);
            }
        }
    }

    fn induce(&mut self, entity: &EntityId, parent: &EntityId, how: How) {
        if !self.closure.failed.contains_key(entity) {
            let parent = parent.clone();
            let cause = Some(Cause { parent, how });
            self.closure.failed.insert(entity.clone(), cause);
            self.open.push_back(entity.clone());
        }
    }
}

/// Who is joined with whom while some things are down.
struct View<'t> {
    hosts: &'t BTreeMap<EntityId, EntityId>,
    network: Network<'t>,
    islands: Vec<usize>,
    /// The island of the manager.
    main: Option<usize>,
    /// For bindings that need bandwidth, who is joined over channels that have it.
    wide: BTreeMap<u32, Vec<usize>>,
}

impl<'t> View<'t> {
    fn new(surroundings: Surroundings<'t>, down: &BTreeSet<EntityId>) -> Self {
        let Surroundings {
            topology,
            hosts,
            manager,
            ..
        } = surroundings;
        let network = Network::new(topology, down);
        let islands = network.islands(0);
        let is_up = |index: &usize| !down.contains(network.place(*index));
        // A manager whose server failed is started again where most are joined.
        let main = manager
            .and_then(|manager| network.index(manager))
            .filter(is_up);
        let main = main.or_else(|| largest(&network, &islands, is_up));
        let needs = topology.bindings.values().map(kbps_needed);
        let needs: BTreeSet<u32> = needs.filter(|kbps| *kbps > 0).collect();
        let wide = needs.into_iter().map(|kbps| (kbps, network.islands(kbps)));
        let wide = wide.collect();
        Self {
            hosts,
            main: main.map(|index| islands[index]),
            islands,
            wide,
            network,
        }
    }

    /// Whether the manager reaches a server or appliance.
    fn is_joined(&self, place: &EntityId) -> bool {
        let island = self.network.index(place).map(|index| self.islands[index]);
        island.is_some() && island == self.main
    }

    /// Whether the ends of a binding are apart and joined by channels that carry it.
    fn is_carried(&self, binding: &Binding) -> bool {
        let place = |id: &EntityId| self.network.index(self.hosts.get(id).unwrap_or(id));
        let ends = (place(&binding.from), binding.to.as_ref().and_then(place));
        let (Some(one), Some(other)) = ends else {
            return false;
        };
        let islands = match kbps_needed(binding) {
            0 => &self.islands,
            kbps => &self.wide[&kbps],
        };
        one != other && islands[one] == islands[other]
    }
}

/// A server of the island with the most of them; of equal ones, of that with the least index.
fn largest(
    network: &Network<'_>,
    islands: &[usize],
    is_up: impl Fn(&usize) -> bool,
) -> Option<usize> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    let servers = (0..network.places_count()).filter(|index| network.is_server(*index));
    for server in servers.filter(is_up) {
        *sizes.entry(islands[server]).or_default() += 1;
    }
    let best = sizes
        .iter()
        .max_by_key(|(island, size)| (**size, core::cmp::Reverse(**island)));
    best.map(|(island, _)| *island)
}
