//! A placement in the making: who is where, and what is left.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::instance::{End, Hindrance, Instance, Tie};
use super::problem::{Budget, Eviction, Move, Placement};
use super::reasons::no_place;
use super::repair::Sakes;
use super::score::Score;

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
    steps_max: u64,
}

impl<'i, 'p> Partial<'i, 'p> {
    /// Only what runs already.
    pub(super) fn new(instance: &'i Instance<'p>, budget: Budget) -> Self {
        let mut partial = Self {
            instance,
            at: vec![None; instance.blocks.len()],
            used: vec![[0; 3]; instance.servers_count],
            hosted: vec![0; instance.servers_count],
            load: vec![0; instance.network.channels().len()],
            steps: 0,
            steps_max: budget.steps,
        };
        for (block, known) in instance.blocks.iter().enumerate() {
            if let Some(server) = known.fixed {
                partial.put(block, server);
            }
        }
        partial
    }

    /// Whether the search may go on.
    pub(super) fn may_go_on(&self) -> bool {
        self.steps < self.steps_max
    }

    /// How long the search may still go on.
    pub(super) fn steps_left(&self) -> u64 {
        self.steps_max.saturating_sub(self.steps)
    }

    /// Counts steps that were done elsewhere.
    pub(super) fn spend(&mut self, steps: u64) {
        self.steps += steps;
    }

    /// How good it is as far as the open blocks go.
    pub(super) fn score(&self) -> Score {
        let instance = self.instance;
        let mut score = Score::default();
        let is_open = |block: usize| instance.blocks[block].fixed.is_none();
        for (block, known) in instance.blocks.iter().enumerate() {
            if !is_open(block) {
                continue;
            }
            let Some(server) = self.at[block] else {
                score = score.losing(instance, block);
                continue;
            };
            for tie in &known.ties {
                // A tie between two open blocks is seen from both.
                let is_counted = match tie.end {
                    End::Block(other) => !is_open(other) || other > block,
                    End::Place(_) => true,
                };
                if let (true, Some(place)) = (is_counted, self.place_of(tie.end)) {
                    let micros = instance.micros(tie, place, server);
                    score = score.costing(tie.weight.saturating_mul(micros.into()));
                }
            }
        }
        score
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

    /// Takes a block from its server, if it has one; says which.
    pub(super) fn take(&mut self, block: usize) -> Option<usize> {
        let server = self.at[block].take()?;
        let demand = self.instance.blocks[block].demand;
        for (used, amount) in self.used[server].iter_mut().zip(demand) {
            *used -= amount;
        }
        self.hosted[server] -= 1;
        self.change_load(block, server, u64::saturating_sub);
        Some(server)
    }

    /// The server on which a block adds least, if any can take it now.
    pub(super) fn best_host(&mut self, block: usize) -> Option<usize> {
        self.good_host(block, false)
    }

    /// The best server that can take a block now; the second best, if there is one and it is asked
    /// for.
    pub(super) fn good_host(&mut self, block: usize, second: bool) -> Option<usize> {
        let instance = self.instance;
        let (mut best, mut next) = (None, None);
        for server in instance.candidates(block).iter().copied() {
            if !self.fits(block, server) {
                continue;
            }
            let merit = Some((self.merit(block, server), server));
            if best.is_none() || merit < best {
                next = best;
                best = merit;
            } else if next.is_none() || merit < next {
                next = merit;
            }
        }
        let chosen = if second { next.or(best) } else { best };
        chosen.map(|(_, server)| server)
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

    /// How much of a resource of a server is used.
    pub(super) fn used(&self, server: usize, kind: usize) -> u64 {
        self.used[server][kind]
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
    pub(super) fn into_placement(self, is_optimal: bool, sakes: &Sakes) -> Placement {
        let instance = self.instance;
        let mut placement = Placement {
            is_optimal,
            steps: self.steps,
            latency_micros: self.latency_micros(),
            ..Placement::default()
        };
        for (block, known) in instance.blocks.iter().enumerate() {
            let name = |server: usize| instance.network.place(server).clone();
            let sake = sakes.get(&block).unwrap_or(&block);
            let for_the_sake_of = instance.blocks[*sake].elements[0];
            for element in &known.elements {
                let element = (*element).clone();
                let for_the_sake_of = for_the_sake_of.clone();
                match (known.fixed, self.at[block]) {
                    (Some(from), Some(to)) if from != to => {
                        let (from, to) = (name(from), name(to));
                        placement.hosts.insert(element.clone(), to.clone());
                        let moved = Move {
                            from,
                            to,
                            for_the_sake_of,
                        };
                        placement.moved.insert(element, moved);
                    }
                    (_, Some(server)) => {
                        placement.hosts.insert(element, name(server));
                    }
                    (Some(from), None) => {
                        let from = name(from);
                        let evicted = Eviction {
                            from,
                            for_the_sake_of,
                        };
                        placement.evicted.insert(element, evicted);
                    }
                    (None, None) => {
                        placement.unplaced.insert(element, no_place(&self, block));
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
}
