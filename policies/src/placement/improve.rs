//! A better placement of many blocks: one by one, in pairs, and by taking a few neighbours away and
//! placing them anew (large neighbourhood search). It may be stopped at any step.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use super::instance::End;
use super::partial::Partial;
use super::random::Random;

/// How many blocks are taken away at a time, at most.
const CLUSTER_MAX: usize = 12;

/// How many fruitless rounds for each block end the search.
const PATIENCE: usize = 200;

/// To score so many blocks counts as one step.
const BLOCKS_A_STEP: u64 = 8;

/// One in so many placements of a repair takes the second best server.
const SURPRISE: usize = 4;

/// Makes the present placement of these blocks better, until nothing helps or only `reserve`
/// steps of the budget are left.
pub(super) fn improve(
    partial: &mut Partial<'_, '_>,
    open: &[usize],
    random: &mut Random,
    reserve: u64,
) {
    descend(partial, open);
    let has_choice = |block: &usize| partial.instance.candidates(*block).len() > 1;
    let is_complete = open.iter().all(|block| partial.at[*block].is_some());
    if open.len() < 2 || is_complete && !open.iter().any(has_choice) {
        return;
    }
    let mut best = partial.score();
    let mut fruitless = 0;
    while partial.steps_left() > reserve && fruitless < PATIENCE * open.len() {
        let cluster = cluster(partial, open, random);
        let before: Vec<_> = cluster
            .iter()
            .map(|block| (*block, partial.take(*block)))
            .collect();
        refill(partial, &cluster, random);
        let score = partial.score();
        partial.spend(open.len() as u64 / BLOCKS_A_STEP);
        fruitless = if score < best { 0 } else { fruitless + 1 };
        if score <= best {
            best = score;
        } else {
            restore(partial, &before);
        }
    }
    descend(partial, open);
}

/// Moves and swaps blocks as long as that makes something better. Equal cost goes to the emptier
/// server.
pub(super) fn descend(partial: &mut Partial<'_, '_>, open: &[usize]) {
    let mut goes_on = true;
    while goes_on && partial.may_go_on() {
        goes_on = false;
        for block in open {
            if relocate(partial, *block) || swap(partial, *block, open) {
                goes_on = true;
            }
            if !partial.may_go_on() {
                return;
            }
        }
    }
}

/// Puts a block where it adds least; says whether that is elsewhere.
fn relocate(partial: &mut Partial<'_, '_>, block: usize) -> bool {
    let before = partial.take(block);
    let best = partial.best_host(block);
    let Some(server) = best.or(before) else {
        return false;
    };
    // The best is compared as a whole, so a move is progress and there is no way round in a circle.
    let is_better = before.is_none_or(|before| {
        before != server && partial.merit(block, server) < partial.merit(block, before)
    });
    let to = if is_better {
        server
    } else {
        before.unwrap_or(server)
    };
    partial.put(block, to);
    is_better
}

/// Exchanges a block with one that is where it would rather be; says whether it did.
fn swap(partial: &mut Partial<'_, '_>, block: usize, open: &[usize]) -> bool {
    let Some(here) = partial.at[block] else {
        return false;
    };
    let instance = partial.instance;
    let present = partial.cost(block, here);
    for other in open {
        let Some(there) = partial.at[*other] else {
            continue;
        };
        partial.spend(1);
        if there == here || partial.cost(block, there) >= present {
            continue;
        }
        let may =
            |block: usize, server: usize| instance.candidates(block).binary_search(&server).is_ok();
        if !may(block, there) || !may(*other, here) {
            continue;
        }
        let before = pair_cost(partial, block, *other);
        partial.take(block);
        partial.take(*other);
        if partial.fits(block, there) {
            partial.put(block, there);
            if partial.fits(*other, here) {
                partial.put(*other, here);
                if pair_cost(partial, block, *other) < before {
                    return true;
                }
                partial.take(*other);
            }
            partial.take(block);
        }
        partial.put(*other, there);
        partial.put(block, here);
    }
    false
}

/// What two placed blocks cost. A tie between the two counts twice, before and after.
fn pair_cost(partial: &Partial<'_, '_>, one: usize, other: usize) -> u64 {
    let cost = |block: usize| partial.at[block].map_or(0, |at| partial.cost(block, at));
    cost(one).saturating_add(cost(other))
}

/// Some open blocks that are tied with each other, those without a place first.
fn cluster(partial: &Partial<'_, '_>, open: &[usize], random: &mut Random) -> Vec<usize> {
    let size_max = CLUSTER_MAX.min((open.len() / 4).max(2));
    let size = 2 + random.below(size_max - 1);
    let lost = open
        .iter()
        .copied()
        .filter(|block| partial.at[*block].is_none());
    let mut cluster: Vec<usize> = lost.take(CLUSTER_MAX / 2).collect();
    let start = open[random.below(open.len())];
    let mut seen = vec![false; partial.at.len()];
    for block in &cluster {
        seen[*block] = true;
    }
    let mut queue = VecDeque::from([start]);
    let wanted = cluster.len() + size;
    while cluster.len() < wanted {
        let Some(block) = queue.pop_front() else {
            // The neighbourhood is small: somebody else's joins.
            let more = open[random.below(open.len())];
            if seen[more] {
                break;
            }
            queue.push_back(more);
            continue;
        };
        if seen[block] {
            continue;
        }
        seen[block] = true;
        cluster.push(block);
        let ties = &partial.instance.blocks[block].ties;
        let offset = random.below(ties.len().max(1));
        let from_there = ties.iter().cycle().skip(offset).take(ties.len());
        queue.extend(from_there.filter_map(|tie| match tie.end {
            End::Block(other) if partial.instance.blocks[other].fixed.is_none() => Some(other),
            End::Block(_) | End::Place(_) => None,
        }));
    }
    cluster
}

/// Places the blocks that were taken away, greedily and not always the same way.
fn refill(partial: &mut Partial<'_, '_>, cluster: &[usize], random: &mut Random) {
    let mut order: Vec<usize> = cluster.to_vec();
    for last in (1..order.len()).rev() {
        order.swap(last, random.below(last + 1));
    }
    order.sort_by_key(|block| !partial.instance.blocks[*block].essential);
    for block in order {
        let surprises = random.below(SURPRISE) == 0;
        if let Some(server) = partial.good_host(block, surprises) {
            partial.put(block, server);
        }
    }
}

fn restore(partial: &mut Partial<'_, '_>, before: &[(usize, Option<usize>)]) {
    for (block, _) in before {
        partial.take(*block);
    }
    for (block, server) in before {
        if let Some(server) = server {
            partial.put(*block, *server);
        }
    }
}
