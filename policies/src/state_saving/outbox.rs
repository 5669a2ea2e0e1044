//! What was sent on one binding and not yet acknowledged by its receiver's log.
//!
//! Acknowledgement is end to end: nothing but the receiver's word removes an event from here.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
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
    /// While nothing is sent: the last position that may have been sent before.
    held_after: Option<Position>,
}

/// How much is put into an outbox while nothing is sent from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldLimit {
    /// How many events.
    pub events: usize,
    /// How many bytes of payload.
    pub bytes: usize,
}

impl Default for HoldLimit {
    /// 1024 events and 1 MiB.
    fn default() -> Self {
        Self {
            events: 1_024,
            bytes: 1 << 20,
        }
    }
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
        self.held_after = None;
        self.forget_acknowledged();
    }

    /// Nothing is sent from here on, so what is put in can be left out again.
    pub fn hold(&mut self) {
        let last = self.saved.last;
        self.held_after.get_or_insert(last.max(self.sent));
    }

    /// All that is left may be sent.
    pub fn release(&mut self) {
        self.held_after = None;
    }

    /// Leaves out what `is_over` says of the events that were put in since [`Outbox::hold`], and beyond
    /// the limit those of the physical world of which a newer one follows from the same causes, and then
    /// the oldest, which are given back. What may have been sent before stays: the receiver may have it.
    pub fn keep_within(
        &mut self,
        limit: HoldLimit,
        is_over: impl Fn(&Envelope) -> bool,
    ) -> Vec<Envelope> {
        let Some(held_after) = self.held_after else {
            return Vec::new();
        };
        let retained = &mut self.saved.retained;
        let start = retained.partition_point(|envelope| envelope.position <= held_after);
        let mut held = retained.split_off(start);
        let Some(mut before) = held.front().map(|first| first.after) else {
            return Vec::new();
        };
        held.retain(|envelope| !is_over(envelope));
        if !limit.holds(&held) {
            overridden_are_left_out(&mut held);
        }
        let mut left_out = Vec::new();
        while !limit.holds(&held) {
            match held.pop_front() {
                Some(oldest) => left_out.push(oldest),
                None => break,
            }
        }
        // Each names the one before it among those that are left: the receiver must see no gap.
        for envelope in &mut held {
            envelope.after = core::mem::replace(&mut before, envelope.position);
        }
        self.saved.last = before;
        retained.append(&mut held);
        left_out
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
        let resend = self.resend.filter(|_| !self.is_held());
        resend.map(|resend| resend.at)
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

    /// Whether nothing is sent.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held_after.is_some()
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

impl HoldLimit {
    fn holds(self, held: &VecDeque<Envelope>) -> bool {
        let bytes: usize = held.iter().map(|envelope| envelope.payload.len()).sum();
        held.len() <= self.events && bytes <= self.bytes
    }
}

/// Of the events that follow from the same things sensed, through the same port, only the last stays.
fn overridden_are_left_out(held: &mut VecDeque<Envelope>) {
    let mut seen = BTreeSet::new();
    let mut kept = VecDeque::with_capacity(held.len());
    while let Some(envelope) = held.pop_back() {
        let sources = envelope.causes.roots().iter().map(|root| &root.id.source);
        let key: (Vec<u8>, Vec<EntityId>) = (port(&envelope), sources.cloned().collect());
        if envelope.causes.is_empty() || seen.insert(key) {
            kept.push_front(envelope);
        }
    }
    *held = kept;
}

/// What tells the ports of one binding apart: a payload is a map with one entry, whose key is the
/// variant of the receiver's input.
fn port(envelope: &Envelope) -> Vec<u8> {
    let payload = &envelope.payload;
    let length = match payload.as_slice() {
        [0x81, text, ..] if text & 0xe0 == 0xa0 => 2 + usize::from(text & 0x1f),
        [0x81, 0xd9, length, ..] => 3 + usize::from(*length),
        _ => 0,
    };
    payload.get(..length).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::physical_world::EventId;

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

    /// An event that holds until `expires_at` and follows from what `source` sensed.
    fn sensed(outbox: &mut Outbox, index: u64, source: &str, expires_at: i64) {
        let id = EventId {
            source: EntityId::new(source).unwrap(),
            position: at(index),
        };
        let expires_at = Some(WallClock(expires_at));
        let causes = Causes::of(&id, WallClock(0), expires_at);
        let payload = vec![0x81, 0xa1, b'M', 7];
        outbox.put(at(index), WallClock(0), expires_at, &causes, payload);
    }

    #[test]
    fn what_is_over_is_left_out_of_what_waits_and_the_chain_has_no_gap() {
        let mut outbox = with(2);
        outbox.unsent(Monotonic(0));
        outbox.hold();
        for (index, until) in [(3, 50), (4, 200), (5, 60)] {
            sensed(&mut outbox, index, "hall", until);
        }
        let over = |envelope: &Envelope| envelope.expires_at < Some(WallClock(100));
        assert_eq!(outbox.keep_within(HoldLimit::default(), over), []);
        // What may have been sent before it was held is not touched, though it never expires.
        let left = Vec::from(outbox.saved().retained.clone());
        assert_eq!(places(&left), [(0, 1), (1, 2), (2, 4)]);
        outbox.put(at(6), WallClock(0), None, &Causes::default(), vec![]);
        assert_eq!(places(&outbox.unsent(Monotonic(0))), [(2, 4), (4, 6)]);
    }

    #[test]
    fn beyond_the_limit_the_last_of_each_sensor_stays_and_then_the_oldest_are_given_back() {
        let mut outbox = Outbox::default();
        outbox.hold();
        for (index, source) in (1..).zip(["hall", "door", "hall", "hall", "door"]) {
            sensed(&mut outbox, index, source, 900);
        }
        outbox.put(at(6), WallClock(0), None, &Causes::default(), vec![]);
        let limit = |events| HoldLimit {
            events,
            ..HoldLimit::default()
        };
        assert_eq!(outbox.keep_within(limit(6), |_| false), []);
        assert_eq!(outbox.unacknowledged(), 6);
        assert_eq!(outbox.keep_within(limit(5), |_| false), []);
        let left = Vec::from(outbox.saved().retained.clone());
        assert_eq!(places(&left), [(0, 4), (4, 5), (5, 6)]);
        let given_back = outbox.keep_within(limit(2), |_| false);
        assert_eq!(given_back.len(), 1);
        assert_eq!(given_back[0].position, at(4));
        let few_bytes = HoldLimit {
            events: 9,
            bytes: 3,
        };
        assert_eq!(outbox.keep_within(few_bytes, |_| false).len(), 1);
        assert_eq!(places(&outbox.unsent(Monotonic(0))), [(0, 6)]);
    }

    #[test]
    fn nothing_is_said_again_while_it_is_held_and_all_of_it_afterwards() {
        let mut outbox = with(2);
        outbox.unsent(Monotonic(0));
        outbox.hold();
        assert_eq!(outbox.next_deadline(), None);
        outbox.release();
        assert_eq!(outbox.next_deadline(), Some(Monotonic(200 * MS)));
    }
}
