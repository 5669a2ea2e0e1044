//! Which server hosts which element, so that all constraints hold and messages travel little (paper,
//! 4.2.4: *the ALM finds a new placement*).
//!
//! [`place`] is the whole interface: a [`Problem`] in, a [`Placement`] out, the same one for the same
//! problem and budget. What must not be touched stands still: a failure moves only what it displaced,
//! unless an essential element has no place otherwise. Best is what leaves no essential element
//! without a place, then the least critical others, then the least latency weighted by traffic, then
//! the emptiest servers.

mod construct;
mod domains;
mod exact;
mod improve;
mod instance;
mod obstacle;
mod partial;
mod problem;
mod random;
mod reasons;
mod repair;
mod score;
mod survey;

use alloc::vec::Vec;

pub use obstacle::{Filter, NoPlace, Obstacle, Resource, Shortage};
pub use problem::{AGENT_RESERVE, Budget, Eviction, Move, Placement, Problem, kbps_needed};
pub use survey::{hopeless, misplaced};

use construct::{Outcome, construct};
use instance::Instance;
use partial::Partial;
use random::Random;

/// How often a search that was given up starts again on other ways.
const RESTARTS_MAX: usize = 3;

/// The share of the steps that a search for any placement may take, and that is kept back for those
/// without one: one in so many.
const SHARE: u64 = 4;

/// Finds a server for each open element.
#[must_use]
pub fn place(problem: &Problem<'_>, budget: Budget) -> Placement {
    let instance = Instance::new(problem);
    let mut partial = Partial::new(&instance, budget);
    let mut random = Random::new(problem.seed);
    let mut open = instance.open();
    open.sort_by_key(|block| instance.urgency(*block));
    let kept_back = budget.steps / SHARE;
    place_any(&mut partial, &open, &mut random, budget);
    let mut is_optimal = false;
    if open.len() <= exact::BLOCKS_MAX {
        is_optimal = exact::improve(&mut partial, &open, 2 * kept_back);
        // It knows nothing of how full servers are.
        improve::descend(&mut partial, &open);
    }
    if !is_optimal {
        improve::improve(&mut partial, &open, &mut random, kept_back);
    }
    let sakes = repair::repair(&mut partial, &open);
    partial.into_placement(is_optimal, &sakes)
}

/// Places all open blocks, or as many as possible, the most urgent first.
fn place_any(partial: &mut Partial<'_, '_>, open: &[usize], random: &mut Random, budget: Budget) {
    let attempts_max = budget.steps / SHARE / (1 + open.len() as u64);
    if place_all(partial, open, random, attempts_max) {
        return;
    }
    let is_essential = |block: &usize| partial.instance.blocks[*block].essential;
    let essential: Vec<usize> = open.iter().copied().filter(is_essential).collect();
    if essential.len() < open.len() {
        place_all(partial, &essential, random, attempts_max);
    }
    for block in open {
        if partial.at[*block].is_none()
            && let Some(server) = partial.best_host(*block)
        {
            partial.put(*block, server);
        }
    }
}

/// Places all of these blocks or none; says which.
fn place_all(
    partial: &mut Partial<'_, '_>,
    open: &[usize],
    random: &mut Random,
    attempts_max: u64,
) -> bool {
    let mut outcome = construct(partial, open, attempts_max, None);
    for _ in 0..RESTARTS_MAX {
        if outcome == Outcome::GivenUp {
            outcome = construct(partial, open, attempts_max, Some(random));
        }
    }
    outcome == Outcome::Placed
}
