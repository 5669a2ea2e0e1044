//! A first placement of all open blocks, by backtracking.
//!
//! Next is the block with hardly a server left, else the one that is most drawn to what is placed;
//! servers in the order of what the block adds there. The first finds places at all, the second good
//! ones (Xia et al., 2018: dynamic component ordering, anchor-based ordering of fog nodes).

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::domains::Domains;
use super::instance::End;
use super::partial::Partial;
use super::random::Random;

/// A block with at most this many servers left is next, whatever draws others.
const SCARCE: usize = 2;

/// Of how many of the best servers a noisy search chooses.
const NOISE: usize = 3;

/// What became of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every block has a place.
    Placed,
    /// It is proved that they have none together.
    Impossible,
    /// The search was given up.
    GivenUp,
}

/// One decision of the search.
struct Frame {
    block: usize,
    /// The servers not yet tried, the best last.
    servers: Vec<usize>,
    mark: usize,
}

/// Places all of these blocks, or none of them.
pub(super) fn construct(
    partial: &mut Partial<'_, '_>,
    open: &[usize],
    attempts_max: u64,
    noise: Option<&mut Random>,
) -> Outcome {
    let domains = Domains::of_all(partial, open);
    let mut search = Search {
        pull: vec![0; partial.instance.blocks.len()],
        waiting: open.to_vec(),
        domains,
        noise,
    };
    for block in open {
        search.pull[*block] = anchored(partial, *block);
    }
    search.run(partial, attempts_max)
}

struct Search<'r> {
    /// By block, the weight of its ties to all that has a place.
    pull: Vec<u64>,
    waiting: Vec<usize>,
    domains: Domains,
    noise: Option<&'r mut Random>,
}

impl Search<'_> {
    fn run(&mut self, partial: &mut Partial<'_, '_>, attempts_max: u64) -> Outcome {
        let has_none = |block: &usize| self.domains.count(*block) == 0;
        if self.waiting.iter().any(has_none) {
            return Outcome::Impossible;
        }
        let mut frames: Vec<Frame> = Vec::new();
        let mut attempts = 0;
        loop {
            let Some(next) = self.next(partial) else {
                return Outcome::Placed;
            };
            let block = self.waiting.swap_remove(next);
            let servers = self.order(partial, block);
            let mark = self.domains.mark();
            frames.push(Frame {
                block,
                servers,
                mark,
            });
            // Forward where it goes, back where it does not.
            while !self.advance(partial, &mut frames, &mut attempts) {
                let Some(frame) = frames.pop() else {
                    return Outcome::Impossible;
                };
                self.waiting.push(frame.block);
                let Some(before) = frames.last() else {
                    return Outcome::Impossible;
                };
                self.retreat(partial, before.block, before.mark);
            }
            if attempts > attempts_max || !partial.may_go_on() {
                for frame in frames.iter().rev() {
                    self.retreat(partial, frame.block, frame.mark);
                }
                return Outcome::GivenUp;
            }
        }
    }

    /// Puts the block of the last frame on its next server that leaves one to all others.
    fn advance(
        &mut self,
        partial: &mut Partial<'_, '_>,
        frames: &mut [Frame],
        attempts: &mut u64,
    ) -> bool {
        let Some(frame) = frames.last_mut() else {
            return false;
        };
        while let Some(server) = frame.servers.pop() {
            *attempts += 1;
            partial.put(frame.block, server);
            self.draw(partial, frame.block, u64::saturating_add);
            let put = (frame.block, server);
            if self.domains.narrow(partial, put, &self.waiting) {
                return true;
            }
            let (block, mark) = (frame.block, frame.mark);
            self.retreat(partial, block, mark);
        }
        false
    }

    fn retreat(&mut self, partial: &mut Partial<'_, '_>, block: usize, mark: usize) {
        partial.take(block);
        self.draw(partial, block, u64::saturating_sub);
        self.domains.undo(mark);
    }

    /// A block that got or lost its place draws its neighbours.
    fn draw(&mut self, partial: &Partial<'_, '_>, block: usize, change: fn(u64, u64) -> u64) {
        for tie in &partial.instance.blocks[block].ties {
            if let End::Block(other) = tie.end {
                self.pull[other] = change(self.pull[other], tie.weight);
            }
        }
    }

    /// Which of those waiting is next, by its place in the list.
    fn next(&self, partial: &Partial<'_, '_>) -> Option<usize> {
        let key = |block: usize| {
            let left = self.domains.count(block);
            let scarce = if left <= SCARCE { left } else { SCARCE + 1 };
            let demand = partial.instance.blocks[block].demand;
            let size = demand[0] + demand[1];
            (scarce, Reverse(self.pull[block]), Reverse(size), block)
        };
        let waiting = self.waiting.iter().enumerate();
        waiting
            .min_by_key(|(_, block)| key(**block))
            .map(|(index, _)| index)
    }

    /// The servers of a block, the best last.
    fn order(&mut self, partial: &mut Partial<'_, '_>, block: usize) -> Vec<usize> {
        let left: Vec<usize> = self.domains.servers(block).collect();
        let mut servers = Vec::with_capacity(left.len());
        for server in left {
            if partial.fits(block, server) {
                servers.push((Reverse((partial.merit(block, server), server)), server));
            }
        }
        servers.sort_unstable();
        if let Some(random) = &mut self.noise {
            let choice = servers.len().min(NOISE);
            if choice > 1 {
                let (last, chosen) = (servers.len() - 1, random.below(choice));
                servers.swap(last, last - chosen);
            }
        }
        servers.into_iter().map(|(_, server)| server).collect()
    }
}

/// The weight of a block's ties to all that has a place already.
fn anchored(partial: &Partial<'_, '_>, block: usize) -> u64 {
    let ties = partial.instance.blocks[block].ties.iter();
    let placed = ties.filter(|tie| match tie.end {
        End::Place(_) => true,
        End::Block(other) => partial.at[other].is_some(),
    });
    placed.map(|tie| tie.weight).fold(0, u64::saturating_add)
}
