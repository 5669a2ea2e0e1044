//! A value that forgets itself when its validity ends.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A value that speaks of the physical world until its validity ends, in live operation as after a
/// recovery, wherever the last checkpoint fell. [`Event::valid`](super::Event::valid) makes one that
/// holds as long as the event.
///
/// ```
/// use lamplighter::Timestamp;
/// use lamplighter::prelude::*;
///
/// let presence = Valid::until(Timestamp(10), "hall");
/// assert_eq!(presence.get(Timestamp(9)), Some(&"hall"));
/// assert_eq!(presence.get(Timestamp(10)), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Valid<T> {
    value: Option<T>,
    expires_at: Option<Timestamp>,
}

impl<T> Valid<T> {
    /// A value that holds until overridden.
    #[must_use]
    pub fn always(value: T) -> Self {
        Self {
            value: Some(value),
            expires_at: None,
        }
    }

    /// A value that holds until just before `end`.
    #[must_use]
    pub fn until(end: Timestamp, value: T) -> Self {
        Self {
            value: Some(value),
            expires_at: Some(end),
        }
    }

    pub(crate) fn with_expiry(expires_at: Option<Timestamp>, value: T) -> Self {
        Self {
            value: Some(value),
            expires_at,
        }
    }

    /// The value, if it still holds at `now`; in a handler, `now` is `ctx.now()`.
    #[must_use]
    pub fn get(&self, now: Timestamp) -> Option<&T> {
        let holds = self.expires_at.is_none_or(|end| now < end);
        self.value.as_ref().filter(|_| holds)
    }

    /// Until when it holds; `None` is until overridden, or that there is no value.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Forgets the value now.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<T> Default for Valid<T> {
    /// No value.
    fn default() -> Self {
        Self {
            value: None,
            expires_at: None,
        }
    }
}
