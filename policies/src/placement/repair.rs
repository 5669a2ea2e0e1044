//! Room for those that found none: the less critical give way, and if that is not enough for an
//! essential element, others move (paper, 4.2.4; in this order, so that as little as possible is
//! touched).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::partial::Partial;
use super::score::Score;

/// How many running elements may be moved for the sake of one.
const MOVES_MAX: usize = 3;

/// Whom each block gave way to.
pub(super) type Sakes = BTreeMap<usize, usize>;

/// Finds places for open blocks that have none; says who gave way to whom.
pub(super) fn repair(partial: &mut Partial<'_, '_>, open: &[usize]) -> Sakes {
    let mut sakes = Sakes::new();
    let mut lost: Vec<usize> = open.to_vec();
    lost.retain(|block| partial.at[*block].is_none());
    lost.sort_by_key(|block| partial.instance.urgency(*block));
    for block in lost {
        if partial.at[block].is_none() && !evict(partial, block, &mut sakes) {
            chain(partial, block, &mut sakes);
        }
    }
    sakes
}

/// What it costs if blocks have no place.
fn lost(partial: &Partial<'_, '_>, blocks: &[usize]) -> Score {
    let none = Score::default();
    let losing = |sum: Score, block: &usize| sum.losing(partial.instance, *block);
    blocks.iter().fold(none, losing)
}

/// Who counts less gives way first: not essential, less critical.
fn rank(partial: &Partial<'_, '_>, block: usize) -> (bool, u8) {
    let known = &partial.instance.blocks[block];
    (known.essential, known.criticality)
}

/// Places a block by stopping less critical ones on one server, as few and as little critical as
/// possible, and together worth less. Those that may move go elsewhere if there is room.
fn evict(partial: &mut Partial<'_, '_>, block: usize, sakes: &mut Sakes) -> bool {
    let candidates = partial.instance.candidates(block).to_vec();
    let mut best = None;
    for server in candidates {
        let Some(victims) = victims(partial, block, server) else {
            continue;
        };
        if lost(partial, &victims) >= lost(partial, &[block]) {
            continue;
        }
        let ranks = victims.iter().map(|victim| rank(partial, *victim));
        let (worst, count) = (ranks.max(), victims.len());
        let key = (worst, count, partial.cost(block, server), server);
        if best.as_ref().is_none_or(|(best, _)| key < *best) {
            best = Some((key, victims));
        }
    }
    let Some(((_, _, _, server), victims)) = best else {
        return false;
    };
    for victim in &victims {
        partial.take(*victim);
    }
    partial.put(block, server);
    for victim in victims {
        sakes.insert(victim, block);
        let known = &partial.instance.blocks[victim];
        if (known.fixed.is_none() || known.may_move)
            && let Some(elsewhere) = partial.best_host(victim)
        {
            partial.put(victim, elsewhere);
        }
    }
    true
}

/// The least critical blocks whose end lets `block` run on a server; none of them could stay. `None`
/// if even all of them are not enough.
fn victims(partial: &mut Partial<'_, '_>, block: usize, server: usize) -> Option<Vec<usize>> {
    let own = rank(partial, block);
    let gives_way = |victim: &usize| {
        let known = &partial.instance.blocks[*victim];
        let may = !known.essential && (known.fixed.is_none() || known.may_be_evicted);
        may && partial.at[*victim] == Some(server) && rank(partial, *victim) < own
    };
    let mut weaker: Vec<usize> = (0..partial.at.len()).filter(gives_way).collect();
    weaker.sort_by_key(|victim| (rank(partial, *victim), *victim));
    let mut taken = Vec::new();
    let mut weaker = weaker.into_iter();
    while !partial.fits(block, server) {
        let Some(victim) = weaker.next() else {
            break;
        };
        partial.take(victim);
        taken.push(victim);
    }
    let is_enough = partial.fits(block, server);
    let mut needed = Vec::new();
    if is_enough {
        partial.put(block, server);
    }
    // The most critical is asked first whether it can stay after all.
    for victim in taken.iter().rev() {
        if !is_enough || partial.fits(*victim, server) {
            partial.put(*victim, server);
        } else {
            needed.push(*victim);
        }
    }
    if is_enough {
        partial.take(block);
    }
    for victim in &needed {
        partial.put(*victim, server);
    }
    is_enough.then_some(needed)
}

/// Places an essential block by moving as few others as possible.
fn chain(partial: &mut Partial<'_, '_>, block: usize, sakes: &mut Sakes) {
    if !partial.instance.blocks[block].essential {
        return;
    }
    for moves in 1..=MOVES_MAX {
        let mut chain = Chain {
            moves_left: moves,
            moved: Vec::new(),
            homeless: Vec::from([block]),
        };
        if chain.settle(partial) {
            sakes.extend(chain.moved.iter().map(|moved| (*moved, block)));
            return;
        }
    }
}

struct Chain {
    moves_left: usize,
    moved: Vec<usize>,
    /// Who needs a server, the next last.
    homeless: Vec<usize>,
}

impl Chain {
    /// Finds servers for all that need one, and moves others as long as moves are left. What it cannot
    /// do it leaves as it was.
    fn settle(&mut self, partial: &mut Partial<'_, '_>) -> bool {
        let Some(block) = self.homeless.pop() else {
            return true;
        };
        let instance = partial.instance;
        let candidates = instance.candidates(block).iter().copied();
        let home = instance.blocks[block].fixed;
        let mut servers = Vec::new();
        for server in candidates.filter(|server| Some(*server) != home) {
            let is_full = !partial.fits(block, server);
            servers.push((is_full, partial.cost(block, server), server));
        }
        servers.sort_unstable();
        for (_, _, server) in servers {
            if self.make_room(partial, block, server, 0) {
                return true;
            }
        }
        self.homeless.push(block);
        false
    }

    /// Puts a block on a server, from which others go until it fits: only those from `first` on, so
    /// that no set of them is tried twice.
    fn make_room(
        &mut self,
        partial: &mut Partial<'_, '_>,
        block: usize,
        server: usize,
        first: usize,
    ) -> bool {
        if partial.fits(block, server) {
            partial.put(block, server);
            if self.settle(partial) {
                return true;
            }
            partial.take(block);
            return false;
        }
        if self.moves_left == 0 || !partial.may_go_on() {
            return false;
        }
        for other in first..partial.at.len() {
            let known = &partial.instance.blocks[other];
            let may = known.fixed.is_none() || known.may_move;
            if !may || partial.at[other] != Some(server) || self.moved.contains(&other) {
                continue;
            }
            partial.take(other);
            self.moves_left -= 1;
            self.moved.push(other);
            self.homeless.push(other);
            if self.make_room(partial, block, server, other + 1) {
                return true;
            }
            self.homeless.pop();
            self.moved.pop();
            self.moves_left += 1;
            partial.put(other, server);
        }
        false
    }
}
