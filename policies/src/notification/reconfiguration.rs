//! What configurators tell each other (paper, Algorithm 1).
//!
//! A follower subscribes to each element that it depends on, is told how that element is, now and
//! whenever it changes, and acknowledges what is in its own log.

use serde::{Deserialize, Serialize};

use super::{Situation, Told};
use crate::ids::EntityId;

/// What the global manager last decided about an entity, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// Under which term.
    pub term: u64,
    /// The number of the change.
    pub epoch: u64,
    /// Whether the entity is up by it.
    pub is_up: bool,
}

impl Newest {
    /// Whether one who knows `known` of the entity must hear of it. That one of which nothing is known is
    /// up is supposed anyhow.
    #[must_use]
    pub fn is_news_beside(&self, known: Option<&Told>) -> bool {
        match known {
            Some(known) => (known.term, known.epoch) < (self.term, self.epoch),
            None => !self.is_up,
        }
    }
}

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
