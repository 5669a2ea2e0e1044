//! From arrival to durable: marks, mailbox, group commit without a timer.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Answer, Cause, Cell, Effect, InFlight, Input, Phase, Retry, Sensed, Source, Waiting};
use crate::ids::EntityId;
use crate::physical_world::{Causes, EventId, Position};
use crate::protocol::messages::Envelope;
use crate::state_saving::{Arrival, Event, Record, digest, wait_for_store};
use crate::time::{Now, WallClock};

impl Cell {
    /// Events of another element: each is accepted once, in its sender's order.
    pub(super) fn received(
        &mut self,
        now: Now,
        link: &EntityId,
        envelopes: Vec<Envelope>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(source) = self.source(link, Source::Element) else {
            return;
        };
        // Before the marks are restored nobody can tell an old event from a new one. The sender is
        // asked for it again when the element is live.
        if self.phase == Phase::Starting || self.stop_requested || self.is_blocked(link) {
            return;
        }
        let mut again = false;
        for envelope in envelopes {
            if self.is_full() {
                self.refused.insert(link.clone());
                break;
            }
            let inbound = self.inbound.entry(link.clone()).or_default();
            match inbound.arrived(envelope) {
                Arrival::Accepted(accepted) => {
                    for envelope in accepted {
                        self.withdraw(link, &envelope);
                        self.accept(link, &source, envelope, None);
                    }
                }
                Arrival::Duplicate => {
                    self.counters.duplicates += 1;
                    again = true;
                }
                Arrival::Early => effects.push(Effect::Resume {
                    link: link.clone(),
                    mark: inbound.mark(),
                }),
                Arrival::Diverged => self.counters.diverged += 1,
            }
        }
        if again {
            self.acknowledge(link, effects);
        }
        self.append(now, effects);
    }

    /// A device said something: it gets its number here, unless the broker repeats itself.
    pub(super) fn sensed(&mut self, now: Now, sensed: Sensed, effects: &mut Vec<Effect>) {
        let Some(source) = self.source(&sensed.link, Source::Device) else {
            return;
        };
        // Without an answer the broker keeps it for whoever runs the element next.
        if self.stop_requested {
            return;
        }
        if sensed.receipt.is_none() && self.is_full() {
            self.counters.overflowed += 1;
            return;
        }
        if self.phase == Phase::Starting {
            // Its number follows from the log, which is not read yet.
            self.held.push(Input::Sensed(sensed));
            return;
        }
        let Sensed {
            link,
            occurred_at,
            expires_at,
            payload,
            receipt,
            connection,
            identified,
        } = sensed;
        let repeats = self.repeats.entry(link.clone()).or_default();
        if repeats.is_repeat(connection, digest(&payload), identified) {
            self.counters.duplicates += 1;
            return self.release_repeat(&link, receipt, effects);
        }
        if receipt.is_some() {
            repeats.is_unanswered();
        }
        let inbound = self.inbound.entry(link.clone()).or_default();
        let after = inbound.mark();
        let position = Position::new(self.newest_lineage, after.index + 1, 0);
        inbound.accepted(position);
        let envelope = Envelope {
            position,
            after,
            occurred_at,
            expires_at,
            causes: Causes::default(),
            payload,
        };
        self.accept(&link, &source, envelope, receipt);
        self.append(now, effects);
    }

    /// A repeat may be let go once everything of its binding that was accepted before is durable.
    fn release_repeat(&mut self, link: &EntityId, receipt: Option<u64>, effects: &mut Vec<Effect>) {
        let Some(receipt) = receipt else { return };
        let of_link = |waiting: &&mut Waiting| match &waiting.record {
            Record::Event(event) => event.binding == *link,
            Record::Timer(_)
            | Record::Skipped { .. }
            | Record::Begun(_)
            | Record::Done(_)
            | Record::Judged(_)
            | Record::Reconfigured(_)
            | Record::Reverted(_) => false,
            Record::Lost(_) | Record::CallEnded { .. } | Record::Withdrawn { .. } => false,
            Record::Answered { .. } => false,
        };
        let in_flight = self
            .log
            .in_flight
            .iter_mut()
            .flat_map(|batch| &mut batch.records);
        match in_flight
            .chain(&mut self.log.waiting)
            .filter(of_link)
            .last()
        {
            Some(last) => last.receipts.push(receipt),
            None => effects.push(Effect::Release { receipt }),
        }
    }

    pub(super) fn source(&self, link: &EntityId, kind: Source) -> Option<EntityId> {
        let known = self.settings.inbound.iter().find(|known| known.id == *link);
        known
            .filter(|known| known.kind == kind)
            .map(|known| known.source.clone())
    }

    fn is_full(&self) -> bool {
        self.queued() >= self.settings.mailbox_max
            || self.unacknowledged() - self.held_outputs() >= self.settings.unacknowledged_max
    }

    fn accept(
        &mut self,
        link: &EntityId,
        source: &EntityId,
        envelope: Envelope,
        receipt: Option<u64>,
    ) {
        let Envelope {
            position,
            after,
            occurred_at,
            expires_at,
            causes,
            payload,
        } = envelope;
        let id = EventId {
            source: source.clone(),
            position,
        };
        let binding = link.clone();
        let event = Event {
            binding,
            id,
            after,
            occurred_at,
            expires_at,
            causes,
            payload,
        };
        self.log.waiting.push_back(Waiting {
            record: Record::Event(event),
            receipts: receipt.into_iter().collect(),
        });
    }

    /// Takes all that is ready and sends it, as long as the window of batches has room.
    pub(super) fn append(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Replaying { .. } | Phase::Live) || self.log.retry.is_some()
        {
            return;
        }
        self.note_settled();
        while !self.log.waiting.is_empty() && self.log.in_flight.len() < self.settings.batches_max {
            let records = self.take_batch();
            let first = self.log.head + 1;
            self.send_batch(first, records, effects);
        }
        self.schedule_checkpoint(now);
    }

    pub(super) fn send_batch(
        &mut self,
        first: u64,
        records: Vec<Waiting>,
        effects: &mut Vec<Effect>,
    ) {
        let batch = InFlight {
            first,
            records,
            answer: None,
        };
        self.log.head = batch.last();
        effects.push(batch.append());
        self.log.in_flight.push_back(batch);
    }

    /// What was carried out is logged with the next batch, so that no replay repeats it.
    pub(super) fn note_settled(&mut self) {
        if !self.log.settled.is_empty() {
            let record = Record::Done(core::mem::take(&mut self.log.settled));
            self.log.waiting.push_back(Waiting {
                record,
                receipts: Vec::new(),
            });
        }
    }

    fn take_batch(&mut self) -> Vec<Waiting> {
        let mut bytes = 0;
        let mut records = Vec::new();
        while let Some(next) = self.log.waiting.front() {
            bytes += size(&next.record);
            let full =
                records.len() >= self.settings.records_max || bytes > self.settings.bytes_max;
            if full && !records.is_empty() {
                break;
            }
            records.extend(self.log.waiting.pop_front());
        }
        records
    }

    /// A batch is durable: its events are acknowledged and may be handled.
    pub(super) fn appended(
        &mut self,
        now: Now,
        last: u64,
        logged_at: WallClock,
        effects: &mut Vec<Effect>,
    ) {
        let Some(at) = self.in_flight_until(last) else {
            return;
        };
        // An answer may overtake the one before it, and waits for it here.
        self.log.in_flight[at].answer = Some(Answer::Durable(logged_at));
        self.deliver(now, effects);
        if self
            .log
            .in_flight
            .iter()
            .all(|batch| batch.answer != Some(Answer::Failed))
        {
            self.log.retry = None;
        }
        self.retry_append(now, effects);
        self.append(now, effects);
        self.handle_next(now, effects);
        self.ask_refused(effects);
        self.mend(now, effects);
        self.stop_if_drained(effects);
    }

    /// Which of the batches on their way ends at `last`.
    fn in_flight_until(&self, last: u64) -> Option<usize> {
        let mut batches = self.log.in_flight.iter();
        batches.position(|batch| batch.last() == last)
    }

    pub(super) fn durable(
        &mut self,
        now: Now,
        batch: InFlight,
        logged_at: WallClock,
        effects: &mut Vec<Effect>,
    ) {
        self.log.durable = batch.last();
        self.flushing.delivered(now.monotonic, batch.last());
        let mut links: Vec<EntityId> = Vec::new();
        for (index, waiting) in (batch.first..).zip(batch.records) {
            if let Record::Event(event) = &waiting.record {
                self.flushing.event_delivered(index, event);
                if self.flushing.is_stable(index) && !links.contains(&event.binding) {
                    links.push(event.binding.clone());
                }
                if let Some(repeats) = self.repeats.get_mut(&event.binding)
                    && !waiting.receipts.is_empty()
                {
                    repeats.answered();
                }
            }
            if let Record::Withdrawn { binding, call } = &waiting.record {
                self.calling.withdrawn(binding, *call);
            }
            let releases = waiting.receipts.into_iter();
            effects.extend(releases.map(|receipt| Effect::Release { receipt }));
            self.log.ready.push_back((index, logged_at, waiting.record));
        }
        for link in links {
            self.acknowledge(&link, effects);
        }
    }

    /// Tells the sender how far the stable log reaches.
    pub(super) fn acknowledge(&self, link: &EntityId, effects: &mut Vec<Effect>) {
        if self.source(link, Source::Element).is_none() {
            return;
        }
        let accepted = self
            .inbound
            .get(link)
            .map_or(Position::default(), |inbound| inbound.mark());
        let on_its_way = |waiting: &Waiting| match &waiting.record {
            Record::Event(event) if event.binding == *link => Some(event.after),
            Record::Event(_) | Record::Timer(_) | Record::Skipped { .. } => None,
            Record::Begun(_) | Record::Done(_) => None,
            Record::Judged(_) | Record::Reverted(_) => None,
            Record::CallEnded { .. } | Record::Withdrawn { .. } => None,
            Record::Answered { .. } => None,
            Record::Lost(_) => None,
            Record::Reconfigured(_) => None,
        };
        let in_flight = self.log.in_flight.iter().flat_map(|batch| &batch.records);
        let mut on_their_way = in_flight.chain(&self.log.waiting).filter_map(on_its_way);
        let unstable = self.flushing.before_unstable(link);
        let upto = unstable.or_else(|| on_their_way.next()).unwrap_or(accepted);
        if upto > Position::default() {
            effects.push(Effect::Acknowledge {
                link: link.clone(),
                upto,
            });
        }
    }

    /// Senders that were held back are asked again once half of the mailbox is free.
    pub(super) fn ask_refused(&mut self, effects: &mut Vec<Effect>) {
        if self.refused.is_empty()
            || self.queued() > self.settings.mailbox_max / 2
            || self.is_full()
        {
            return;
        }
        for link in core::mem::take(&mut self.refused) {
            // It is asked when it may be heard again.
            if self.is_blocked(&link) {
                continue;
            }
            let mark = self
                .inbound
                .get(&link)
                .map_or(Position::default(), |inbound| inbound.mark());
            effects.push(Effect::Resume { link, mark });
        }
    }

    /// A batch may not be durable: the same batches are sent again, in order, after a while.
    pub(super) fn append_failed(
        &mut self,
        now: Now,
        last: u64,
        cause: Cause,
        effects: &mut Vec<Effect>,
    ) {
        let Some(at) = self.in_flight_until(last) else {
            return;
        };
        self.log.in_flight[at].answer = Some(Answer::Failed);
        let earlier_failed = self.log.retry.is_some() || at > 0;
        match cause {
            Cause::Unavailable(_) => self.retry_later(now),
            // Behind a batch that failed, a gap is what is to be expected.
            Cause::Gap { .. } if earlier_failed => self.retry_later(now),
            Cause::Gap { head } => self.regressed(head, effects),
            Cause::Fenced(cause) | Cause::Refused(cause) => self.give_up(cause, false, effects),
        }
        self.retry_append(now, effects);
    }

    fn regressed(&mut self, head: u64, effects: &mut Vec<Effect>) {
        let durable = self.log.durable;
        let cause = if head < durable {
            format!(
                "the store lost the acknowledged records {}..={durable}: it was rolled back; \
                 look at its persistence settings with `lamplighter store check`",
                head + 1
            )
        } else {
            format!("the log ends at {head} and this incarnation wrote only up to {durable}")
        };
        self.give_up(cause, head > durable, effects);
    }

    fn retry_later(&mut self, now: Now) {
        let failures = self.log.retry.map_or(0, |retry| retry.failures);
        // One wait for all the batches that failed together.
        if self.log.retry.is_none_or(|retry| retry.at <= now.monotonic) {
            self.log.retry = Some(Retry {
                at: now.monotonic + wait_for_store(failures),
                failures: failures + 1,
            });
        }
    }

    /// Whether no write to the log is unanswered.
    pub(super) fn all_answered(&self) -> bool {
        self.log
            .in_flight
            .iter()
            .all(|batch| batch.answer.is_some())
    }

    pub(super) fn retry_append(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = self
            .log
            .retry
            .is_some_and(|retry| retry.at <= now.monotonic);
        if !due || !self.all_answered() || self.phase == Phase::Halted {
            return;
        }
        if self.log.in_flight.is_empty() {
            self.log.retry = None;
        }
        // One that is durable keeps the time at which it was taken.
        let failed = |batch: &&mut InFlight| batch.answer == Some(Answer::Failed);
        for batch in self.log.in_flight.iter_mut().filter(failed) {
            batch.answer = None;
            effects.push(batch.append());
        }
    }

    pub(super) fn give_up(
        &mut self,
        cause: String,
        restart_may_help: bool,
        effects: &mut Vec<Effect>,
    ) {
        self.phase = Phase::Halted;
        effects.push(Effect::GiveUp {
            cause,
            restart_may_help,
        });
    }
}

impl InFlight {
    pub(super) fn last(&self) -> u64 {
        self.first + self.records.len() as u64 - 1
    }

    fn append(&self) -> Effect {
        let records = self
            .records
            .iter()
            .map(|waiting| waiting.record.clone())
            .collect();
        Effect::Append {
            first: self.first,
            records,
        }
    }
}

/// The bytes that a record adds to a batch, its frame left out.
fn size(record: &Record) -> usize {
    match record {
        Record::Event(event) => event.payload.len(),
        Record::Timer(timed) => timed.payload.len(),
        Record::Skipped { cause, .. } => cause.len(),
        Record::Lost(lost) => lost.reason.len(),
        Record::Begun(_) | Record::Done(_) | Record::Judged(_) | Record::Reverted(_) => 0,
        Record::CallEnded { .. } | Record::Withdrawn { .. } => 0,
        // A device says little, and what it says has a limit of its own.
        Record::Answered { .. } => 0,
        // A table has an entry for each appliance that failed, and their ids are short.
        Record::Reconfigured(table) => 256 * (table.served.len() + table.peers.peers.len()),
    }
}
