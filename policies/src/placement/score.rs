//! How good a placement is.

use super::instance::Instance;

/// What a placement comes to; less is better, and what stands first counts first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    /// How many essential blocks have no place.
    pub(super) essential_lost: u64,
    /// The criticalities of all blocks without a place, each plus one.
    pub(super) lost: u64,
    /// Latency weighted by traffic, in microseconds times bytes a second.
    pub(super) cost: u64,
}

impl Score {
    /// The same with more latency.
    #[must_use]
    pub(super) fn costing(self, cost: u64) -> Self {
        let cost = self.cost.saturating_add(cost);
        Self { cost, ..self }
    }

    /// The same with one more block left out.
    #[must_use]
    pub(super) fn losing(self, instance: &Instance<'_>, block: usize) -> Self {
        let known = &instance.blocks[block];
        Self {
            essential_lost: self.essential_lost + u64::from(known.essential),
            lost: self.lost + u64::from(known.criticality) + 1,
            ..self
        }
    }
}
