//! Optimistic saving: how far the stable store is behind the local log, and what must wait for it
//! (paper, 4.2.1, Figure 4: persistent storage).
//!
//! A record that is durable on the server's own storage is delivered; what cannot be taken back or
//! sent again waits until it is stable. A sender is told only of what is stable, and so keeps the
//! rest. A command that the next one does not simply override leaves only when the log behind it
//! is stable (output commit), so irreversible commands and optimistic elements go together. When the
//! stable store is further behind than the lag allows, the element waits for it: it is
//! pessimistic then.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Answer, Cause, Cell, CellSettings, Effect, InFlight};
use crate::ids::EntityId;
use crate::model::Lag;
use crate::physical_world::Position;
use crate::state_saving::{Command, Event, Lost, Orphaned, Record, wait_for_store};
use crate::time::{Monotonic, Now};

/// How many losses and orphaned stretches are remembered.
const REMEMBERED_LOSSES_MAX: usize = 16;

/// How far the stable store has come.
#[derive(Debug, Default)]
pub(super) struct Flushing {
    /// How far it may be behind; `None` where every record is stable before it is delivered.
    lag: Option<Lag>,
    /// The index of the last record that is known to be stable.
    stable: u64,
    /// The index of the last record that is durable at least locally.
    local: u64,
    /// Whether the store is being asked.
    under_way: bool,
    /// When it is asked again after it was out of reach.
    retry: Option<(Monotonic, u32)>,
    /// The ends of the batches that were delivered and are not stable, and when that was.
    behind: VecDeque<(u64, Monotonic)>,
    /// Events that were delivered and are not stable: index, binding, and what came before.
    unstable: VecDeque<(u64, EntityId, Position)>,
    /// Per flow, the record by which a command was begun, if that is not stable.
    begun: BTreeMap<String, u64>,
    /// Flows whose next command waits for the store.
    withheld: BTreeSet<String>,
    /// Whether a batch waits because the store is too far behind.
    waits: bool,
}

impl Flushing {
    pub(super) fn new(lag: Option<Lag>) -> Self {
        Self {
            lag,
            ..Self::default()
        }
    }

    /// The saved state was read; up to `stable` it comes from the stable store.
    pub(super) fn restored(&mut self, now: Monotonic, head: u64, stable: u64) {
        self.local = self.local.max(head);
        self.flushed(stable);
        if self.behind.is_empty() {
            self.delivered(now, head);
        }
    }

    /// Whether the store is known to hold everything up to `index`.
    pub(super) fn is_stable(&self, index: u64) -> bool {
        self.lag.is_none() || index <= self.stable
    }

    /// How many records were delivered and are not stable.
    pub(super) fn behind(&self) -> u64 {
        let delivered = self.behind.back().map_or(self.stable, |(last, _)| *last);
        delivered - self.stable.min(delivered)
    }

    /// What a person should know of it, in plain words.
    pub(super) fn trouble(&self) -> Option<String> {
        let lag = self.lag.filter(|_| self.waits)?;
        Some(format!(
            "the stable store is {} records behind the local log, and may be {} or {:?}: what \
             arrives waits for it",
            self.local - self.stable,
            lag.records,
            lag.time
        ))
    }

    /// Whether a batch that ends at `last` may be delivered before it is stable.
    fn admits(&mut self, now: Monotonic, last: u64) -> bool {
        let Some(lag) = self.lag else { return true };
        let oldest = self.behind.front();
        let late = oldest.is_some_and(|(_, since)| now - *since >= lag.time);
        let admitted = last <= self.stable || (!late && last - self.stable <= lag.records);
        self.waits = !admitted;
        admitted
    }

    /// A batch is delivered.
    pub(super) fn delivered(&mut self, now: Monotonic, last: u64) {
        if !self.is_stable(last) {
            self.behind.push_back((last, now));
        }
    }

    /// An event is delivered; its sender keeps it until it is stable.
    pub(super) fn event_delivered(&mut self, index: u64, event: &Event) {
        let known = self
            .unstable
            .back()
            .is_some_and(|(last, ..)| *last >= index);
        if !self.is_stable(index) && !known {
            let event = (index, event.binding.clone(), event.after);
            self.unstable.push_back(event);
        }
    }

    /// What came before the first event of a binding that is not stable.
    pub(super) fn before_unstable(&self, link: &EntityId) -> Option<Position> {
        let mut unstable = self.unstable.iter();
        let first = unstable.find(|(_, binding, _)| binding == link);
        first.map(|(_, _, after)| *after)
    }

    /// Returns the bindings of the events that have become stable.
    fn flushed(&mut self, upto: u64) -> BTreeSet<EntityId> {
        self.stable = self.stable.max(upto);
        let stable = self.stable;
        self.local = self.local.max(stable);
        self.behind.retain(|(last, _)| *last > stable);
        self.begun.retain(|_, index| *index > stable);
        let covered = self
            .unstable
            .iter()
            .take_while(|(index, ..)| *index <= stable)
            .count();
        let covered = self.unstable.drain(..covered);
        covered.map(|(_, binding, _)| binding).collect()
    }

    /// Asks the store to take what is only local, unless it is being asked.
    fn ask(&mut self, effects: &mut Vec<Effect>) {
        if !self.is_stable(self.local) && !self.under_way && self.retry.is_none() {
            self.under_way = true;
            effects.push(Effect::Flush);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        let retry = self.retry.filter(|_| !self.under_way);
        retry.map(|(at, _)| at)
    }
}

impl Cell {
    /// Delivers the batches whose turn it is.
    pub(super) fn deliver(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(InFlight {
            answer: Some(Answer::Durable(logged_at)),
            ..
        }) = self.log.in_flight.front()
        {
            let logged_at = *logged_at;
            let last = self.log.in_flight[0].last();
            if !self.flushing.admits(now.monotonic, last) {
                break;
            }
            if let Some(batch) = self.log.in_flight.pop_front() {
                self.durable(now, batch, logged_at, effects);
            }
        }
        self.ask_flush(effects);
    }

    /// What is durable locally without a gap is to become stable.
    fn ask_flush(&mut self, effects: &mut Vec<Effect>) {
        let answered = |batch: &&InFlight| matches!(batch.answer, Some(Answer::Durable(_)));
        let local = self.log.in_flight.iter().take_while(answered).last();
        let local = local.map_or(self.log.durable, InFlight::last);
        self.flushing.local = self.flushing.local.max(local);
        self.flushing.ask(effects);
    }

    /// The stable store holds everything up to here.
    pub(super) fn flushed(&mut self, now: Now, upto: u64, effects: &mut Vec<Effect>) {
        self.flushing.under_way = false;
        self.flushing.retry = None;
        self.stable_upto(now, upto, effects);
        self.deliver(now, effects);
        self.append(now, effects);
        self.handle_next(now, effects);
        self.ask_refused(effects);
        self.mend(now, effects);
        self.stop_if_drained(effects);
    }

    /// Tells senders, and lets go what had to wait.
    pub(super) fn stable_upto(&mut self, now: Now, upto: u64, effects: &mut Vec<Effect>) {
        for link in self.flushing.flushed(upto) {
            self.acknowledge(&link, effects);
        }
        for link in core::mem::take(&mut self.flushing.withheld) {
            // Its validity may have ended meanwhile.
            if let Some(commands) = self.commands.get_mut(&link) {
                commands.returned();
            }
            self.actuate(now, &link, effects);
        }
    }

    /// The stable store may not hold what is only local.
    pub(super) fn flush_failed(&mut self, now: Now, cause: Cause, effects: &mut Vec<Effect>) {
        self.flushing.under_way = false;
        match cause {
            Cause::Unavailable(_) => {
                let failures = self.flushing.retry.map_or(0, |(_, failures)| failures);
                let again_at = now.monotonic + wait_for_store(failures);
                self.flushing.retry = Some((again_at, failures + 1));
            }
            Cause::Gap { head } => {
                let cause = format!(
                    "the stable log ends at {head} and not at {}, where this incarnation left it: \
                     it was rolled back, or written by another; look at its persistence settings \
                     with `lamplighter store check`",
                    self.flushing.stable
                );
                self.give_up(cause, head > self.flushing.stable, effects);
            }
            Cause::Fenced(cause) | Cause::Refused(cause) => self.give_up(cause, false, effects),
        }
    }

    /// Asks the stable store again when the wait is over.
    pub(super) fn retry_flush(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Some((at, _)) = self.flushing.retry
            && at <= now.monotonic
            && !self.flushing.under_way
        {
            self.flushing.under_way = true;
            effects.push(Effect::Flush);
        }
    }

    /// A command was begun by the record at `index`.
    pub(super) fn begun_at(&mut self, index: u64, link: &str) {
        if !self.flushing.is_stable(index) {
            self.flushing.begun.insert(link.into(), index);
        }
    }

    /// Output commit: whether a command must wait until what led to it is stable. It is offered again
    /// then.
    pub(super) fn withholds(&mut self, link: &str, command: &Command) -> bool {
        let commands = self.commands.get(link);
        let overridden = commands.is_some_and(|commands| commands.is_overridden(command));
        // What an older lineage asked for is stable, or it would be lost; its beginning may not be.
        let position = command.position;
        let caused = match position.lineage == self.lineage {
            true => position.index,
            false => 0,
        };
        let begun = self.flushing.begun.get(link).copied().unwrap_or(0);
        let withheld = !overridden && !self.flushing.is_stable(caused.max(begun));
        if withheld {
            self.flushing.withheld.insert(link.into());
        }
        withheld
    }

    /// Records of the local log are lost: what is said from here on is of a new lineage.
    pub(super) fn lost(&mut self, index: u64, lost: Lost, effects: &mut Vec<Effect>) {
        self.lineage = lost.lineage;
        remember(&mut self.losses, lost.clone());
        if self.is_news(index) {
            effects.push(Effect::ReportLost(lost));
        }
    }

    /// A source that lost part of its log said things that it does not know of.
    pub(super) fn note_orphans(&mut self, index: u64, event: &Event, effects: &mut Vec<Effect>) {
        let folded = self.folded.get(&event.binding);
        let Some(upto) = folded
            .copied()
            .filter(|folded| event.id.position.lineage > folded.lineage && event.after < *folded)
        else {
            return;
        };
        let orphaned = Orphaned {
            binding: event.binding.clone(),
            source: event.id.source.clone(),
            after: event.after,
            upto,
        };
        remember(&mut self.orphaned, orphaned.clone());
        if self.is_news(index) {
            effects.push(Effect::ReportOrphaned(orphaned));
        }
    }

    /// A process reports each loss that it folds once, also when it folds it again.
    fn is_news(&mut self, index: u64) -> bool {
        let news = index > self.reported_losses_upto;
        self.reported_losses_upto = self.reported_losses_upto.max(index);
        news
    }
}

/// A batch that is longer than the lag could never be delivered before it is stable.
pub(super) fn limit_batches(settings: &mut CellSettings) {
    if let Some(lag) = settings.lag {
        let records = usize::try_from(lag.records).unwrap_or(usize::MAX);
        settings.records_max = settings.records_max.min(records.max(1));
    }
}

fn remember<T>(kept: &mut Vec<T>, newest: T) {
    if kept.len() >= REMEMBERED_LOSSES_MAX {
        kept.remove(0);
    }
    kept.push(newest);
}

/// The newest lineage that a log names.
pub(super) fn newest_lineage(lineage: u32, record: &Record) -> u32 {
    match record {
        Record::Lost(lost) => lineage.max(lost.lineage),
        Record::Event(_)
        | Record::Timer(_)
        | Record::Skipped { .. }
        | Record::Begun(_)
        | Record::Done(_)
        | Record::Judged(_)
        | Record::Reverted(_)
        | Record::CallEnded { .. }
        | Record::Answered { .. }
        | Record::Withdrawn { .. }
        | Record::Reconfigured(_) => lineage,
    }
}
