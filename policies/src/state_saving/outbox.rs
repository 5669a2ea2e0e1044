//! What was sent on one binding and not yet acknowledged by its receiver's log.
//!
//! Acknowledgement is end to end: nothing but the receiver's word removes an event from here.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::physical_world::{Causes, Position};
use crate::protocol::messages::Envelope;
use crate::time::{Monotonic, WallClock};

/// The wait before unacknowledged events are sent again, at first.
const RESEND_AFTER_MIN: Duration = Duration::from_millis(200);
/// The longest such wait; it doubles up to here while nothing is acknowledged.
const RESEND_AFTER_MAX: Duration = Duration::from_secs(5);
/// The most events that are sent again at a time.
pub const RESEND_MAX: usize = 256;

/// The part of an outbox that a checkpoint saves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedOutbox {
    /// The last position ever put in; the next event names it as the one before.
    pub last: Position,
    /// What was not acknowledged, in order.
    pub retained: VecDeque<Envelope>,
}

/// The sending end of one binding.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    saved: SavedOutbox,
    acknowledged: Position,
    sent: Position,
    resend: Option<Resend>,
}

#[derive(Clone, Copy, Debug)]
struct Resend {
    at: Monotonic,
    interval: Duration,
}

impl Outbox {
    /// What a checkpoint is to save.
    #[must_use]
    pub fn saved(&self) -> &SavedOutbox {
        &self.saved
    }

    /// How many events no receiver has acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.saved.retained.len()
    }

    /// The last position that the receiver's log is known to hold.
    #[must_use]
    pub fn last_acknowledged(&self) -> Position {
        self.acknowledged
    }

    /// Goes back to what a checkpoint saved, keeping what has been learnt since: replay puts the same
    /// events in again, and those that were acknowledged or sent stay so.
    pub fn restore(&mut self, saved: SavedOutbox) {
        self.saved = saved;
        self.forget_acknowledged();
    }

    /// Puts an event in. It is sent by [`Outbox::unsent`].
    pub fn put(
        &mut self,
        position: Position,
        occurred_at: WallClock,
        expires_at: Option<WallClock>,
        causes: &Causes,
        payload: Vec<u8>,
    ) {
        let after = core::mem::replace(&mut self.saved.last, position);
        if position > self.acknowledged {
            let envelope = Envelope {
                position,
                after,
                occurred_at,
                expires_at,
                causes: causes.clone(),
                payload,
            };
            self.saved.retained.push_back(envelope);
        }
    }

    /// The events that were never sent by this process, in order, now taken as sent.
    pub fn unsent(&mut self, now: Monotonic) -> Vec<Envelope> {
        let start = self
            .saved
            .retained
            .partition_point(|e| e.position <= self.sent);
        let unsent: Vec<_> = self.saved.retained.range(start..).cloned().collect();
        if let Some(last) = unsent.last() {
            self.sent = last.position;
            self.arm(now);
        }
        unsent
    }

    /// The receiver's log holds everything up to `upto`.
    pub fn acknowledged(&mut self, now: Monotonic, upto: Position) {
        if upto <= self.acknowledged {
            return;
        }
        self.acknowledged = upto;
        self.forget_acknowledged();
        self.resend = None;
        self.arm(now);
    }

    /// The receiver wants everything after `mark` again. What it has up to there may not be in its log
    /// yet, so this acknowledges nothing.
    pub fn resume(&mut self, now: Monotonic, mark: Position) -> Vec<Envelope> {
        self.again(now, mark, RESEND_AFTER_MIN)
    }

    /// When unacknowledged events are to be sent again.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.resend.map(|resend| resend.at)
    }

    /// The events to send again because the receiver has been silent; none before the deadline.
    pub fn due(&mut self, now: Monotonic) -> Vec<Envelope> {
        match self.resend {
            Some(resend) if resend.at <= now => {
                let interval = (resend.interval * 2).min(RESEND_AFTER_MAX);
                self.again(now, Position::default(), interval)
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn again(&mut self, now: Monotonic, after: Position, interval: Duration) -> Vec<Envelope> {
        let retained = &self.saved.retained;
        let start = retained.partition_point(|envelope| envelope.position <= after);
        let again: Vec<_> = retained.range(start..).take(RESEND_MAX).cloned().collect();
        if let Some(last) = again.last() {
            self.sent = self.sent.max(last.position);
        }
        let waiting = !self.saved.retained.is_empty();
        self.resend = waiting.then_some(Resend {
            at: now + interval,
            interval,
        });
        again
    }

    fn arm(&mut self, now: Monotonic) {
        if self.resend.is_none() && !self.saved.retained.is_empty() {
            let interval = RESEND_AFTER_MIN;
            self.resend = Some(Resend {
                at: now + interval,
                interval,
            });
        }
    }

    fn forget_acknowledged(&mut self) {
        let upto = self.acknowledged;
        while self
            .saved
            .retained
            .front()
            .is_some_and(|e| e.position <= upto)
        {
            self.saved.retained.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn at(index: u64) -> Position {
        Position::new(1, index, 0)
    }

    fn with(count: u64) -> Outbox {
        let mut outbox = Outbox::default();
        for index in 1..=count {
            outbox.put(at(index), WallClock(0), None, &Causes::default(), vec![]);
        }
        outbox
    }

    fn places(envelopes: &[Envelope]) -> Vec<(u64, u64)> {
        envelopes
            .iter()
            .map(|e| (e.after.index, e.position.index))
            .collect()
    }

    const MS: u64 = 1_000_000;

    #[test]
    fn events_are_sent_once_each_naming_the_one_before() {
        let mut outbox = with(2);
        assert_eq!(places(&outbox.unsent(Monotonic(0))), [(0, 1), (1, 2)]);
        outbox.put(at(5), WallClock(0), None, &Causes::default(), vec![]);
        assert_eq!(places(&outbox.unsent(Monotonic(0))), [(2, 5)]);
        assert_eq!(outbox.unsent(Monotonic(0)), []);
    }

    #[test]
    fn silence_brings_everything_unacknowledged_again_at_doubling_intervals() {
        let mut outbox = with(3);
        outbox.unsent(Monotonic(0));
        outbox.acknowledged(Monotonic(10 * MS), at(1));
        assert_eq!(outbox.next_deadline(), Some(Monotonic(210 * MS)));
        assert_eq!(outbox.due(Monotonic(209 * MS)), []);
        assert_eq!(places(&outbox.due(Monotonic(210 * MS))), [(1, 2), (2, 3)]);
        assert_eq!(outbox.next_deadline(), Some(Monotonic(610 * MS)));
        outbox.acknowledged(Monotonic(300 * MS), at(3));
        assert_eq!((outbox.next_deadline(), outbox.unacknowledged()), (None, 0));
    }

    #[test]
    fn a_receiver_that_is_back_gets_all_after_its_mark() {
        let mut outbox = with(4);
        outbox.unsent(Monotonic(0));
        assert_eq!(
            places(&outbox.resume(Monotonic(0), at(2))),
            [(2, 3), (3, 4)]
        );
        assert_eq!(outbox.unacknowledged(), 4);
    }

    #[test]
    fn replay_puts_the_same_events_in_without_sending_them_again() {
        let mut outbox = with(2);
        let checkpoint = outbox.saved().clone();
        outbox.put(at(3), WallClock(0), None, &Causes::default(), vec![]);
        outbox.unsent(Monotonic(0));
        outbox.acknowledged(Monotonic(0), at(2));
        outbox.restore(checkpoint);
        outbox.put(at(3), WallClock(0), None, &Causes::default(), vec![]);
        assert_eq!(
            places(&Vec::from(outbox.saved().retained.clone())),
            [(2, 3)]
        );
        assert_eq!(outbox.unsent(Monotonic(0)), []);
    }
}
