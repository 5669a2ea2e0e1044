//! Recovery validity (rvt): until when an event may still act on the world (paper, 4.2.1).

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Now, WallClock};

/// How long after its occurrence an event still speaks of the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Validity {
    /// Holds at the instant it occurs and never in a recovered state.
    Immediate,
    /// Holds for this long.
    For(Duration),
    /// Holds until something overrides it.
    #[default]
    Unbounded,
}

impl Validity {
    /// The instant at which an event that occurred at `occurred_at` stops holding; `None` is never.
    #[must_use]
    pub fn expires_at(self, occurred_at: WallClock) -> Option<WallClock> {
        match self {
            Self::Immediate => Some(occurred_at),
            Self::For(span) => Some(occurred_at + span),
            Self::Unbounded => None,
        }
    }
}

/// The earlier of two expiries, where `None` is never.
#[must_use]
pub fn earliest(a: Option<WallClock>, b: Option<WallClock>) -> Option<WallClock> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

impl Now {
    /// Whether anything is known of the store's clock; while one was set and nobody knows whose, nothing
    /// surely holds and nothing is surely over.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.skew < Duration::MAX
    }

    /// Whether something that expires at `expires_at` holds now whatever the clock error within the
    /// skew bound. Only what surely holds may act on the world.
    #[must_use]
    pub fn surely_before(&self, expires_at: Option<WallClock>) -> bool {
        expires_at.is_none_or(|end| self.latest() < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_holds_only_while_no_clock_within_the_skew_says_otherwise() {
        let now = |wall| Now {
            wall: WallClock(wall),
            skew: Duration::from_micros(5),
            ..Now::default()
        };
        let end = Some(WallClock(100));
        assert!(now(94).surely_before(end));
        assert!(!now(95).surely_before(end));
        assert!(now(i64::MAX).surely_before(None));
    }

    #[test]
    fn an_immediate_event_expires_as_it_occurs() {
        assert_eq!(
            Validity::Immediate.expires_at(WallClock(7)),
            Some(WallClock(7))
        );
    }
}
