//! A placement in the making: who is where, and what is left.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::instance::{End, Hindrance, Instance, Tie};
use super::obstacle::{NoPlace, Obstacle, Resource, Shortage};
use super::problem::Placement;

/// Who is where so far. It never breaks a constraint that it did not find broken.
pub(super) struct Partial<'i, 'p> {
    pub(super) instance: &'i Instance<'p>,
    /// By block.
    pub(super) at: Vec<Option<usize>>,
    used: Vec<[u64; 3]>,
    hosted: Vec<u32>,
    /// By channel, in kilobits a second.
    load: Vec<u64>,
    steps: u64,
}

impl<'i, 'p> Partial<'i, 'p> {
    /// Only what runs already.
    pub(super) fn new(instance: &'i Instance<'p>) -> Self {
        let mut partial = Self {
            instance,
            at: vec![None; instance.blocks.len()],
            used: vec![[0; 3]; instance.servers_count],
            hosted: vec![0; instance.servers_count],
            load: vec![0; instance.network.channels().len()],
            steps: 0,
        };
        for (block, known) in instance.blocks.iter().enumerate() {
            if let Some(server) = known.fixed {
                partial.put(block, server);
            }
        }
        partial
    }

    /// Puts a block on a server.
    pub(super) fn put(&mut self, block: usize, server: usize) {
        self.change_load(block, server, u64::saturating_add);
        let demand = self.instance.blocks[block].demand;
        for (used, amount) in self.used[server].iter_mut().zip(demand) {
            *used += amount;
        }
        self.hosted[server] += 1;
        self.at[block] = Some(server);
    }

    /// The server on which a block adds least, if any can take it now.
    pub(super) fn best_host(&mut self, block: usize) -> Option<usize> {
        let instance = self.instance;
        let candidates = instance.candidates(block).iter().copied();
        let mut best = None;
        for server in candidates {
            if self.fits(block, server) {
                let merit = (self.merit(block, server), server);
                if best.as_ref().is_none_or(|best| merit < *best) {
                    best = Some(merit);
                }
            }
        }
        best.map(|(_, server)| server)
    }

    /// Whether a candidate can take a block now.
    pub(super) fn fits(&mut self, block: usize, server: usize) -> bool {
        self.steps += 1;
        self.present_hindrance(block, server).is_none()
    }

    /// What a block on a server adds, less being better: latency by traffic, then how full the
    /// server is.
    pub(super) fn merit(&self, block: usize, server: usize) -> (u64, u64, u32) {
        let fullness = self.fullness(block, server);
        (self.cost(block, server), fullness, self.hosted[server])
    }

    /// Latency weighted by traffic to all that has a place, if a block were on a server.
    pub(super) fn cost(&self, block: usize, server: usize) -> u64 {
        let ties = self.instance.blocks[block].ties.iter();
        let cost = |tie: &Tie<'p>| {
            let place = self.place_of(tie.end)?;
            let micros = self.instance.micros(tie, place, server);
            Some(tie.weight.saturating_mul(u64::from(micros)))
        };
        ties.filter_map(cost).fold(0, u64::saturating_add)
    }

    /// What keeps a block from a server now, though it might run there.
    pub(super) fn present_hindrance(&self, block: usize, server: usize) -> Option<Hindrance> {
        let instance = self.instance;
        let known = &instance.blocks[block];
        let elsewhere = |other: &&usize| self.at[**other].is_some_and(|at| at != server);
        if let Some(with) = known.together.iter().find(elsewhere) {
            return Some(Hindrance::Together(*with));
        }
        let here = |other: &&usize| self.at[**other] == Some(server);
        if let Some(from) = known.apart.iter().find(here) {
            return Some(Hindrance::Apart(*from));
        }
        if let Some(offers) = instance.offers[server] {
            let is_short = |kind: &usize| {
                let demand = known.demand[*kind];
                demand > 0 && self.used[server][*kind] + demand > offers[*kind]
            };
            if let Some(kind) = (0..3).find(is_short) {
                return Some(Hindrance::Room(kind));
            }
        }
        let mut ties = known.ties.iter().enumerate();
        let far = ties.find_map(|(index, tie)| match tie.end {
            End::Block(other) => instance.too_far(index, tie, self.at[other]?, server),
            End::Place(_) => None,
        });
        far.or_else(|| self.overload(block, server))
    }

    /// The tie and the channel that would be overloaded.
    fn overload(&self, block: usize, server: usize) -> Option<Hindrance> {
        let instance = self.instance;
        let mut added: BTreeMap<usize, u64> = BTreeMap::new();
        for (index, tie) in instance.blocks[block].ties.iter().enumerate() {
            if tie.kbps == 0 {
                continue;
            }
            let Some(place) = self.place_of(tie.end) else {
                continue;
            };
            for channel in instance.channels(tie, place, server) {
                let sum = added.entry(channel).or_default();
                *sum += u64::from(tie.kbps);
                let (_, known) = instance.network.channels()[channel];
                let carried = self.load[channel] + *sum;
                if known
                    .bandwidth_kbps
                    .is_some_and(|max| carried > u64::from(max))
                {
                    return Some(Hindrance::Bandwidth(index, channel));
                }
            }
        }
        None
    }

    fn change_load(&mut self, block: usize, server: usize, change: fn(u64, u64) -> u64) {
        let instance = self.instance;
        for tie in &instance.blocks[block].ties {
            if tie.kbps == 0 {
                continue;
            }
            let Some(place) = self.place_of(tie.end) else {
                continue;
            };
            for channel in instance.channels(tie, place, server) {
                self.load[channel] = change(self.load[channel], u64::from(tie.kbps));
            }
        }
    }

    fn place_of(&self, end: End) -> Option<usize> {
        match end {
            End::Block(other) => self.at[other],
            End::Place(place) => Some(place),
        }
    }

    /// How full a server is with a block, in thousandths of its scarcest resource.
    fn fullness(&self, block: usize, server: usize) -> u64 {
        let Some(offers) = self.instance.offers[server] else {
            return 0;
        };
        let demand = self.instance.blocks[block].demand;
        let share = |kind: usize| {
            let used = self.used[server][kind] + demand[kind];
            used * 1_000 / offers[kind].max(1)
        };
        (0..3).map(share).max().unwrap_or(0)
    }

    /// Names instead of numbers.
    pub(super) fn into_placement(self, is_optimal: bool) -> Placement {
        let instance = self.instance;
        let mut placement = Placement {
            is_optimal,
            steps: self.steps,
            latency_micros: self.latency_micros(),
            ..Placement::default()
        };
        for (block, known) in instance.blocks.iter().enumerate() {
            for element in &known.elements {
                let element = (*element).clone();
                match self.at[block] {
                    Some(server) => {
                        let server = instance.network.place(server).clone();
                        placement.hosts.insert(element, server);
                    }
                    None => {
                        placement.unplaced.insert(element, self.no_place(block));
                    }
                }
            }
        }
        placement
    }

    /// The weighted average of all latencies.
    fn latency_micros(&self) -> u64 {
        let (mut sum, mut weights) = (0_u64, 0_u64);
        for (block, known) in self.instance.blocks.iter().enumerate() {
            let Some(server) = self.at[block] else {
                continue;
            };
            for tie in &known.ties {
                let Some(place) = self.place_of(tie.end) else {
                    continue;
                };
                // A tie between two blocks is seen from both; an anchor counts as much.
                let weight = match tie.end {
                    End::Block(_) => tie.weight,
                    End::Place(_) => tie.weight.saturating_mul(2),
                };
                let micros = self.instance.micros(tie, place, server);
                weights = weights.saturating_add(weight);
                sum = sum.saturating_add(weight.saturating_mul(u64::from(micros)));
            }
        }
        sum / weights.max(1)
    }

    fn no_place(&self, block: usize) -> NoPlace {
        let instance = self.instance;
        let servers = (0..instance.servers_count).filter(|server| instance.takes[*server]);
        let told = |server| {
            let hindrance = instance
                .lasting_hindrance(block, server)
                .or_else(|| self.present_hindrance(block, server));
            let obstacle = hindrance.map_or(Obstacle::Competition, |hindrance| {
                self.obstacle(block, server, hindrance)
            });
            (instance.network.place(server).clone(), obstacle)
        };
        NoPlace {
            servers: servers.map(told).collect(),
        }
    }

    fn obstacle(&self, block: usize, server: usize, hindrance: Hindrance) -> Obstacle {
        let instance = self.instance;
        let known = &instance.blocks[block];
        let id = instance.network.place(server);
        let offered = &instance.problem.topology.servers[id];
        let elements = || known.elements.iter();
        let element = |id| &instance.problem.topology.elements[id];
        let binding = |tie: usize| known.ties[tie].binding.clone();
        let first_of = |block: usize| instance.blocks[block].elements[0].clone();
        let shortage = |kind: usize, used: u64| {
            let offers = instance.offers[server].map_or(0, |offers| offers[kind]);
            Shortage {
                resource: [Resource::Processor, Resource::Memory, Resource::Disk][kind],
                needs: known.demand[kind],
                offers: offers.saturating_sub(used),
            }
        };
        match hindrance {
            Hindrance::Barred => Obstacle::Barred,
            Hindrance::Pinned => {
                let mut pinned = elements().map(|id| element(*id));
                let pinned =
                    pinned.find(|it| it.placement.pinned && it.server.as_ref() != Some(id));
                let server = pinned.and_then(|it| it.server.clone());
                Obstacle::Pinned(server.unwrap_or_else(|| id.clone()))
            }
            Hindrance::Architecture => {
                Obstacle::Architecture(offered.architecture.clone().unwrap_or_default())
            }
            Hindrance::Label => {
                let labels = elements().flat_map(|id| &element(*id).placement.labels);
                let mut missing = labels.filter(|label| !offered.labels.contains(*label));
                Obstacle::Label(missing.next().cloned().unwrap_or_default())
            }
            Hindrance::Zone => Obstacle::Zone(offered.zone.clone()),
            Hindrance::Together(with) => Obstacle::Together(first_of(with)),
            Hindrance::Apart(from) => Obstacle::Apart(first_of(from)),
            Hindrance::Small(kind) => Obstacle::Small(shortage(kind, 0)),
            Hindrance::Room(kind) => Obstacle::Room(shortage(kind, self.used[server][kind])),
            Hindrance::Path(tie) => Obstacle::Path {
                binding: binding(tie),
            },
            Hindrance::Latency(tie, micros) => Obstacle::Latency {
                binding: binding(tie),
                takes: Duration::from_micros(micros.into()),
                allows: Duration::from_micros(known.ties[tie].micros_max.into()),
            },
            Hindrance::Bandwidth(tie, channel) => Obstacle::Bandwidth {
                binding: binding(tie),
                channel: instance.network.channels()[channel].0.clone(),
            },
        }
    }
}
