//! Which server hosts which element, so that all constraints hold and messages travel little (paper,
//! 4.2.4: *the ALM finds a new placement*).
//!
//! [`place`] is the whole interface: a [`Problem`] in, a [`Placement`] out, the same one for the same
//! problem and budget. What must not be touched stands still: a failure moves only what it displaced,
//! unless an essential element has no place otherwise. Best is what leaves no essential element
//! without a place, then the least critical others, then the least latency weighted by traffic.

mod instance;
mod obstacle;
mod partial;
mod problem;

pub use obstacle::{Filter, NoPlace, Obstacle, Resource, Shortage};
pub use problem::{AGENT_RESERVE, Budget, Eviction, Move, Placement, Problem, kbps_needed};

use instance::Instance;
use partial::Partial;

/// Finds a server for each open element.
#[must_use]
pub fn place(problem: &Problem<'_>, _: Budget) -> Placement {
    let instance = Instance::new(problem);
    let mut partial = Partial::new(&instance);
    let mut open = instance.open();
    open.sort_by_key(|block| instance.urgency(*block));
    for block in open {
        let best = partial.best_host(block);
        if let Some(host) = best {
            partial.put(block, host);
        }
    }
    partial.into_placement(false)
}
