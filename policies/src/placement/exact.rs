//! The best placement of few blocks, and the proof that it is (depth first, branch and bound).
//!
//! What a partial placement comes to at least: what it costs already, and for each block that waits
//! the least that it adds to what is placed. A block may also be left out, which counts more than any
//! latency.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::domains::Domains;
use super::instance::{End, NO_WAY};
use super::partial::Partial;
use super::score::Score;

/// The most blocks for which it is tried.
pub(super) const BLOCKS_MAX: usize = 14;

/// How many looks at the table of costs count as one step.
const LOOKS_A_STEP: u64 = 8;

/// Finds a better placement of the open blocks than the present one; says whether none can be better
/// than what is there afterwards. It goes on until the budget has only `reserve` steps left.
pub(super) fn improve(partial: &mut Partial<'_, '_>, open: &[usize], reserve: u64) -> bool {
    let best = partial.score();
    let best_at: Vec<_> = open.iter().map(|block| partial.at[*block]).collect();
    for block in open {
        partial.take(*block);
    }
    let domains = Domains::new(partial, open);
    let mut added = vec![Vec::new(); partial.instance.blocks.len()];
    for block in open {
        let servers = 0..partial.instance.servers_count;
        let cost = |server| match domains.allows(*block, server) {
            true => partial.cost(*block, server),
            false => 0,
        };
        added[*block] = servers.map(cost).collect();
    }
    let mut search = Search {
        open,
        waiting: open.to_vec(),
        domains,
        added,
        best,
        best_at,
        reserve,
        was_cut: false,
    };
    search.go_on(partial, Score::default());
    for (block, server) in open.iter().zip(&search.best_at) {
        if let Some(server) = server {
            partial.put(*block, *server);
        }
    }
    !search.was_cut
}

struct Search<'o> {
    open: &'o [usize],
    waiting: Vec<usize>,
    domains: Domains,
    /// By block and server, the cost to all that has a place.
    added: Vec<Vec<u64>>,
    best: Score,
    best_at: Vec<Option<usize>>,
    reserve: u64,
    was_cut: bool,
}

impl Search<'_> {
    fn go_on(&mut self, partial: &mut Partial<'_, '_>, so_far: Score) {
        if partial.steps_left() <= self.reserve {
            self.was_cut = true;
            return;
        }
        if self.waiting.is_empty() {
            if so_far < self.best {
                self.best = so_far;
                let at = self.open.iter().map(|block| partial.at[*block]);
                self.best_at = at.collect();
            }
            return;
        }
        let (least, next) = self.least(partial, so_far);
        if least >= self.best {
            return;
        }
        let block = self.waiting.swap_remove(next);
        let own = self.least_of(block).unwrap_or(0);
        for server in self.order(block) {
            let cost = self.added[block][server];
            let at_least = least.costing(cost - own);
            if at_least >= self.best {
                // All that follow cost more.
                break;
            }
            if !partial.fits(block, server) {
                continue;
            }
            let mark = self.domains.mark();
            self.put(partial, block, server);
            self.domains.narrow(partial, (block, server), &self.waiting);
            // Where it leaves a block without a server the bound knows what that costs.
            self.go_on(partial, so_far.costing(cost));
            self.domains.undo(mark);
            self.take(partial, block, server);
        }
        let without = so_far.losing(partial.instance, block);
        if without < self.best {
            self.go_on(partial, without);
        }
        self.waiting.push(block);
        let last = self.waiting.len() - 1;
        self.waiting.swap(next, last);
    }

    fn put(&mut self, partial: &mut Partial<'_, '_>, block: usize, server: usize) {
        partial.put(block, server);
        self.shift(partial, block, server, u64::saturating_add);
    }

    fn take(&mut self, partial: &mut Partial<'_, '_>, block: usize, server: usize) {
        partial.take(block);
        self.shift(partial, block, server, u64::saturating_sub);
    }

    /// Changes what the neighbours of a block add by its place.
    fn shift(
        &mut self,
        partial: &mut Partial<'_, '_>,
        block: usize,
        server: usize,
        change: fn(u64, u64) -> u64,
    ) {
        let instance = partial.instance;
        for tie in &instance.blocks[block].ties {
            let End::Block(other) = tie.end else {
                continue;
            };
            if partial.at[other].is_some() || self.added[other].is_empty() {
                continue;
            }
            partial.spend(1 + self.added[other].len() as u64 / LOOKS_A_STEP);
            for (at, added) in self.added[other].iter_mut().enumerate() {
                let micros = instance.micros(tie, server, at);
                if micros != NO_WAY {
                    *added = change(*added, tie.weight.saturating_mul(micros.into()));
                }
            }
        }
    }

    /// What the present placement comes to at least, and which block is next: the one with the
    /// fewest servers, then the one that adds most.
    fn least(&self, partial: &mut Partial<'_, '_>, so_far: Score) -> (Score, usize) {
        let mut least = so_far;
        let mut next = None;
        for (index, block) in self.waiting.iter().enumerate() {
            let looks = self.added[*block].len() as u64;
            partial.spend(1 + looks / LOOKS_A_STEP);
            let own = self.least_of(*block);
            least = match own {
                Some(cost) => least.costing(cost),
                None => least.losing(partial.instance, *block),
            };
            let key = (self.domains.count(*block), Reverse(own), *block);
            if next.as_ref().is_none_or(|(best, _)| key < *best) {
                next = Some((key, index));
            }
        }
        (least, next.map_or(0, |(_, index)| index))
    }

    fn least_of(&self, block: usize) -> Option<u64> {
        let servers = self.domains.servers(block);
        servers.map(|server| self.added[block][server]).min()
    }

    fn order(&self, block: usize) -> Vec<usize> {
        let mut servers: Vec<usize> = self.domains.servers(block).collect();
        servers.sort_by_key(|server| (self.added[block][*server], *server));
        servers
    }
}
