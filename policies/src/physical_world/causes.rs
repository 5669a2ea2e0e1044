//! What an event follows from, piggybacked on it (paper, 4.2.1: validity follows causality).
//!
//! An output carries the events of the physical world that it follows from, as long as these have an
//! end. Where nobody says how long it holds itself, it holds as long as all of them do.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::event::EventId;
use super::validity::earliest;
use crate::time::WallClock;

/// How many causes travel with an event at most: those that end first.
pub const ROOTS_MAX: usize = 4;

/// An event of the physical world from which others follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Until when it holds. First, so that what ends first comes first.
    #[serde(rename = "x")]
    pub expires_at: WallClock,
    /// Which.
    #[serde(rename = "e")]
    pub id: EventId,
    /// When it occurred.
    #[serde(rename = "o")]
    pub occurred_at: WallClock,
}

/// The causes of an event that have an end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Causes {
    /// In the order in which they end.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    roots: Vec<Root>,
    /// Whether there were more, which end later.
    #[serde(rename = "t", default, skip_serializing_if = "core::ops::Not::not")]
    truncated: bool,
}

impl Causes {
    /// One cause; none if it has no end.
    #[must_use]
    pub fn of(id: &EventId, occurred_at: WallClock, expires_at: Option<WallClock>) -> Self {
        let root = expires_at.map(|expires_at| Root {
            expires_at,
            id: id.clone(),
            occurred_at,
        });
        Self {
            roots: root.into_iter().collect(),
            truncated: false,
        }
    }

    /// The causes of what follows from both.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.roots.extend(other.roots.iter().cloned());
        self.roots
            .sort_by(|one, other| (one.expires_at, &one.id).cmp(&(other.expires_at, &other.id)));
        self.roots.dedup();
        self.truncated |= other.truncated || self.roots.len() > ROOTS_MAX;
        self.roots.truncate(ROOTS_MAX);
        self
    }

    /// Whether nothing with an end is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The causes that are known, in the order in which they end.
    #[must_use]
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Whether there were more, which end later.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// When the first of them ends: how long what follows from them holds, unless something ends
    /// sooner. `None` is never.
    #[must_use]
    pub fn expires_at(&self) -> Option<WallClock> {
        self.roots.first().map(|root| root.expires_at)
    }

    /// Until when something holds that follows from these and from an event that ends at `end`.
    #[must_use]
    pub fn or_sooner(&self, end: Option<WallClock>) -> Option<WallClock> {
        earliest(self.expires_at(), end)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::ids::EntityId;
    use crate::physical_world::Position;

    fn cause(source: &str, end: i64) -> Causes {
        let id = EventId {
            source: EntityId::new(source).unwrap(),
            position: Position::new(1, 1, 0),
        };
        Causes::of(&id, WallClock(0), Some(WallClock(end)))
    }

    fn ends(causes: &Causes) -> Vec<i64> {
        causes
            .roots()
            .iter()
            .map(|root| root.expires_at.0)
            .collect()
    }

    #[test]
    fn what_follows_from_several_events_ends_with_the_first_of_them() {
        let both = cause("door", 30).and(&cause("motion", 10));
        assert_eq!(both.expires_at(), Some(WallClock(10)));
        assert_eq!(both.or_sooner(Some(WallClock(5))), Some(WallClock(5)));
        assert_eq!(both.or_sooner(None), Some(WallClock(10)));
        assert_eq!(both.clone().and(&both), both);
    }

    #[test]
    fn an_event_without_an_end_is_no_cause_that_travels() {
        let endless = Causes::of(&cause("door", 1).roots()[0].id, WallClock(0), None);
        assert_eq!(endless, Causes::default());
        assert_eq!(endless.expires_at(), None);
    }

    #[test]
    fn of_too_many_causes_those_that_end_first_are_kept() {
        let all = (1..=6).rev().fold(Causes::default(), |all, end| {
            all.and(&cause(&format!("sensor-{end}"), end))
        });
        assert_eq!(
            (ends(&all), all.is_truncated()),
            (alloc::vec![1, 2, 3, 4], true)
        );
    }
}
