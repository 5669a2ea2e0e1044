//! What configurators tell each other (paper, Algorithm 1).
//!
//! A follower subscribes to each element that it depends on, is told how that element is, now and
//! whenever it changes, and acknowledges what is in its own log.

use serde::{Deserialize, Serialize};

use super::Situation;
use crate::ids::EntityId;

/// One message from the configurator of an element to that of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BetweenElements {
    /// Whose configurator says it.
    pub from: EntityId,
    /// For whose configurator it is.
    pub to: EntityId,
    /// What is said.
    pub said: Said,
}

/// What one configurator says to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// Follower to prerequisite: tell me how you are, now and whenever it changes.
    Subscribe,
    /// Prerequisite to follower: so I am.
    Reconfigured(Situation),
    /// Follower to prerequisite: it is in my log.
    Acknowledged {
        /// The incarnation in the [`Situation`].
        incarnation: u64,
        /// The version in it.
        version: u64,
    },
}
