//! What may be lost with a server: the mark that the stable store keeps of a local log, and what a
//! restart concludes from it (paper, 4.2.1, Figure 4: optimistic saving on persistent storage).
//!
//! Before the first record that is only local, the stable store is told which local log may be
//! ahead of it; an orderly stop takes that back. A restart that finds the mark and the whole local
//! log goes on as if nothing had happened. Without the log nobody can know what was in it: from the
//! stable head on records may be missing, and what is said from there on is of a new lineage, because
//! the same indices will hold other inputs.

use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::log::Lost;
use crate::ids::EntityId;
use crate::physical_world::Position;

/// What the stable store knows of an element's local log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The lineage of what the element says; it rises with each loss.
    pub lineage: u32,
    /// The log that may hold more than the stable store; `None` if none does.
    pub ahead: Option<LocalLog>,
}

/// A log on the storage of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalLog {
    /// A random number: a directory that was made anew is another log.
    pub id: u128,
    /// The server, for people.
    pub server: EntityId,
    /// The boot of the machine that wrote it, where it would not survive the machine's end.
    pub boot: Option<String>,
}

/// What was found where a local log should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is out of reach for good, and why.
    Nothing(String),
    /// It can be read.
    Log {
        /// Which it is.
        id: u128,
        /// The index of the last record of which it is known that it was there.
        head: u64,
        /// What is damaged after that, if anything.
        damage: Option<String>,
        /// The boot of the machine at present.
        boot: String,
    },
}

impl Default for Mark {
    fn default() -> Self {
        Self {
            lineage: 1,
            ahead: None,
        }
    }
}

impl Mark {
    /// Whether the records of this log are the element's, so that those after the stable head belong
    /// into the stable store.
    #[must_use]
    pub fn names(&self, found: &Found) -> bool {
        match (&self.ahead, found) {
            (Some(ahead), Found::Log { id, .. }) => ahead.id == *id,
            (Some(_), Found::Nothing(_)) | (None, _) => false,
        }
    }

    /// What may be missing; `None` if it is certain that nothing is. `stable_head` is the end of the
    /// stable log with all that the local one gave.
    #[must_use]
    pub fn missing(&self, found: &Found, stable_head: u64) -> Option<Lost> {
        let ahead = self.ahead.as_ref()?;
        let reason = match found {
            Found::Nothing(reason) => reason.clone(),
            Found::Log { id, .. } if *id != ahead.id => "another log is in its place".into(),
            Found::Log {
                damage: Some(damage),
                ..
            } => damage.clone(),
            Found::Log { head, .. } if *head < stable_head => {
                format!("it ends at {head} and held all up to {stable_head} once")
            }
            Found::Log { boot, .. } if ahead.boot.as_ref().is_some_and(|old| old != boot) => {
                "the machine was started again, which it need not have survived whole".into()
            }
            Found::Log { .. } => return None,
        };
        Some(Lost {
            lineage: self.lineage + 1,
            log: ahead.id,
            from: stable_head + 1,
            reason: format!("the local log of server {}: {reason}", ahead.server),
        })
    }
}

/// Events that a receiver has and its sender lost: they were said, and nothing the sender knows
/// led to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphaned {
    /// The binding on which they arrived.
    pub binding: EntityId,
    /// Who said them.
    pub source: EntityId,
    /// The last event that the source still knows of.
    pub after: Position,
    /// The last orphan.
    pub upto: Position,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(boot: Option<&str>) -> Mark {
        Mark {
            lineage: 3,
            ahead: Some(LocalLog {
                id: 7,
                server: EntityId::new("pi").unwrap(),
                boot: boot.map(Into::into),
            }),
        }
    }

    fn found(id: u128, head: u64) -> Found {
        Found::Log {
            id,
            head,
            damage: None,
            boot: "today".into(),
        }
    }

    fn lost(reason: &str) -> Lost {
        Lost {
            lineage: 4,
            log: 7,
            from: 10,
            reason: format!("the local log of server pi: {reason}"),
        }
    }

    #[test]
    fn without_a_mark_nothing_is_missing_whatever_is_there() {
        for there in [Found::Nothing("gone".into()), found(7, 3)] {
            assert_eq!(Mark::default().missing(&there, 9), None);
            assert!(!Mark::default().names(&there));
        }
    }

    #[test]
    fn the_whole_local_log_proves_that_nothing_is_missing() {
        assert_eq!(ahead(None).missing(&found(7, 9), 9), None);
        assert_eq!(ahead(None).missing(&found(7, 12), 12), None);
        assert_eq!(ahead(Some("today")).missing(&found(7, 9), 9), None);
        assert!(ahead(None).names(&found(7, 9)));
    }

    #[test]
    fn anything_less_is_a_loss_from_the_first_record_that_nobody_has() {
        let gone = Found::Nothing("it is gone".into());
        assert_eq!(ahead(None).missing(&gone, 9), Some(lost("it is gone")));
        let other = ahead(None).missing(&found(8, 20), 9);
        assert_eq!(other, Some(lost("another log is in its place")));
        assert!(!ahead(None).names(&found(8, 20)));
        let short = ahead(None).missing(&found(7, 5), 9);
        assert_eq!(short, Some(lost("it ends at 5 and held all up to 9 once")));
        let damaged = Found::Log {
            id: 7,
            head: 9,
            damage: Some("index 10 is damaged".into()),
            boot: "today".into(),
        };
        assert_eq!(
            ahead(None).missing(&damaged, 9),
            Some(lost("index 10 is damaged"))
        );
        let rebooted = ahead(Some("yesterday")).missing(&found(7, 9), 9);
        let reason = "the machine was started again, which it need not have survived whole";
        assert_eq!(rebooted, Some(lost(reason)));
    }
}
