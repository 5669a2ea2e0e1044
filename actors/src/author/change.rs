//! What an element is told about the entities that it depends on.

use lamplighter_policies::ids::EntityId;

/// A change among the entities behind an element's bindings (paper, 4.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What is behind this port failed. The framework already waits or degrades.
    Failed {
        /// The output port, or the binding where the element only receives.
        output: String,
    },
    /// What failed is back.
    Recovered {
        /// The output port, or the binding where the element only receives.
        output: String,
    },
    /// Another entity has taken the place of what failed.
    Replaced {
        /// The output port, or the binding where the element only receives.
        output: String,
        /// Which entity.
        by: EntityId,
    },
}
