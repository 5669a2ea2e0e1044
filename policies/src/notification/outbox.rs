//! What somebody is to be told until they say that they know it: only the newest, again and again.
//!
//! What is older than what is to be told now is of no use to anybody, so an outbox never holds more
//! than one message for each recipient.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Monotonic;

/// The wait before it is said again, at first; it doubles.
pub const SAY_AGAIN_MIN: Duration = Duration::from_millis(50);
/// The longest such wait.
pub const SAY_AGAIN_MAX: Duration = Duration::from_secs(1);

/// Messages that were not acknowledged, one for each recipient.
#[derive(Clone, Debug)]
pub struct LatestOnly<K, M> {
    rows: BTreeMap<K, Row<M>>,
}

#[derive(Clone, Debug)]
struct Row<M> {
    message: M,
    at: Monotonic,
    interval: Duration,
}

impl<K, M> Default for LatestOnly<K, M> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone, M: Clone> LatestOnly<K, M> {
    /// Has `message` said to `recipient` from `at` on, in place of whatever was to be said before.
    pub fn put(&mut self, at: Monotonic, recipient: K, message: M) {
        let row = Row {
            message,
            at,
            interval: SAY_AGAIN_MIN,
        };
        self.rows.insert(recipient, row);
    }

    /// What is to be said now. Each message is given again after 50, 100, 200 ... 1000 ms until it is
    /// acknowledged.
    pub fn due(&mut self, now: Monotonic) -> Vec<(K, M)> {
        let mut due = Vec::new();
        for (recipient, row) in &mut self.rows {
            if row.at <= now {
                row.at = now + row.interval;
                row.interval = (row.interval * 2).min(SAY_AGAIN_MAX);
                due.push((recipient.clone(), row.message.clone()));
            }
        }
        due
    }

    /// What is to be said to a recipient, if anything.
    #[must_use]
    pub fn message(&self, recipient: &K) -> Option<&M> {
        self.rows.get(recipient).map(|row| &row.message)
    }

    /// The recipient knows it, or need not: nothing more is said.
    pub fn remove(&mut self, recipient: &K) -> Option<M> {
        self.rows.remove(recipient).map(|row| row.message)
    }

    /// Whoever could not be reached is there: what is to be said is said at once to those of whom
    /// `is_there` holds.
    pub fn reached(&mut self, now: Monotonic, is_there: impl Fn(&K) -> bool) {
        for (recipient, row) in &mut self.rows {
            if is_there(recipient) {
                row.at = row.at.min(now);
                row.interval = SAY_AGAIN_MIN;
            }
        }
    }

    /// Drops what is for recipients of whom `keep` does not hold.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &M) -> bool) {
        self.rows
            .retain(|recipient, row| keep(recipient, &row.message));
    }

    /// When something is to be said next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.rows.values().map(|row| row.at).min()
    }

    /// How many recipients have not acknowledged what they are told.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> Monotonic {
        Monotonic(at * 1_000_000)
    }

    #[test]
    fn a_message_is_said_again_at_doubling_intervals_up_to_a_second_until_it_is_acknowledged() {
        let mut outbox = LatestOnly::default();
        outbox.put(ms(0), "lamp", 1);
        let mut said_at = Vec::new();
        while let Some(at) = outbox.next_deadline().filter(|at| *at < ms(4_000)) {
            assert_eq!(outbox.due(at), [("lamp", 1)]);
            said_at.push(at);
        }
        assert_eq!(said_at, [0, 50, 150, 350, 750, 1_550, 2_550, 3_550].map(ms));
        assert_eq!(outbox.remove(&"lamp"), Some(1));
        assert_eq!((outbox.next_deadline(), outbox.waiting()), (None, 0));
    }

    #[test]
    fn only_the_newest_is_kept_for_each_recipient() {
        let mut outbox = LatestOnly::default();
        outbox.put(ms(0), "lamp", 1);
        outbox.put(ms(0), "door", 1);
        outbox.put(ms(0), "lamp", 2);
        assert_eq!(outbox.due(ms(0)), [("door", 1), ("lamp", 2)]);
        assert_eq!(outbox.waiting(), 2);
    }

    #[test]
    fn what_is_held_back_is_not_said_before_its_time() {
        let mut outbox = LatestOnly::default();
        outbox.put(ms(100), "lamp", 1);
        assert_eq!(outbox.due(ms(99)), []);
        assert_eq!(outbox.due(ms(100)), [("lamp", 1)]);
    }

    #[test]
    fn one_who_is_back_is_told_at_once() {
        let mut outbox = LatestOnly::default();
        outbox.put(ms(0), "lamp", 1);
        outbox.put(ms(0), "door", 1);
        outbox.due(ms(0));
        outbox.reached(ms(10), |recipient| *recipient == "lamp");
        assert_eq!(outbox.due(ms(10)), [("lamp", 1)]);
    }
}
