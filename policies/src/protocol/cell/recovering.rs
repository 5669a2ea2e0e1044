//! From a lost instance to a live element: restore, replay, and the checkpoints that keep it short.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::flushing::newest_lineage;
use super::{Cause, Cell, Effect, Input, Meta, Phase, Restored, Source, Waiting};
use crate::ids::EntityId;
use crate::protocol::appliances::Reconfiguration;
use crate::state_saving::{Record, Repeats, digest};
use crate::time::{Monotonic, Now};

/// The wait before a checkpoint that the store could not take is tried again.
const CHECKPOINT_RETRY: Duration = Duration::from_millis(500);

impl Cell {
    /// The saved state is there: fold the log, nothing leaves meanwhile.
    pub(super) fn restored(&mut self, now: Now, restored: Restored, effects: &mut Vec<Effect>) {
        let expected = matches!(
            self.phase,
            Phase::Starting | Phase::Mending { asked: true, .. }
        );
        if !expected {
            return;
        }
        let Restored {
            checkpoint,
            head,
            meta,
            log,
            stable,
        } = restored;
        self.recovering_from = (checkpoint, head);
        self.lineage = meta.lineage.max(1);
        self.newest_lineage = self.lineage;
        self.flushing.restored(now.monotonic, head, stable);
        self.checkpoint.upto = checkpoint;
        self.checkpoint.under_way = None;
        self.checkpoint.initial_missing = meta.lineage == 0;
        self.restore_meta(meta);
        self.block_anew(now, effects);
        self.reroute(effects);
        self.log.ready.clear();
        self.log.handling = None;
        self.log.head = head;
        self.log.durable = head;
        self.log.handled = checkpoint;
        for batch in log {
            let places = (batch.first..).zip(batch.records);
            for (index, record) in places.filter(|(index, _)| *index > checkpoint) {
                self.note_logged(index, &record);
                self.log.ready.push_back((index, batch.logged_at, record));
            }
        }
        self.learning_repeats = false;
        let since = now.monotonic;
        self.phase = Phase::Replaying { upto: head, since };
        self.take_held(now, since, effects);
        self.deliver(now, effects);
        self.append(now, effects);
        self.handle_next(now, effects);
        self.stop_if_drained(effects);
    }

    /// Takes what came before the log was read. How those around are counts before the element goes live:
    /// it is logged and folded like the end of the log.
    fn take_held(&mut self, now: Now, since: Monotonic, effects: &mut Vec<Effect>) {
        let held = core::mem::take(&mut self.held);
        let told = |input: &Input| matches!(input, Input::Reconfigured(_));
        let (told, others): (Vec<Input>, Vec<Input>) = held.into_iter().partition(told);
        let mut present = Reconfiguration::default();
        for input in told {
            if let Input::Reconfigured(reconfiguration) = input {
                present.join(&reconfiguration);
            }
        }
        self.reconfigured(now, present, effects);
        if self.log.waiting.is_empty() {
            let upto = self.log.head;
            self.phase = Phase::Replaying { upto, since };
        }
        for input in others {
            crate::machine::Machine::handle(self, now, input, effects);
        }
    }

    fn restore_meta(&mut self, meta: Meta) {
        let Meta {
            folded,
            mut outboxes,
            mut commands,
            timers,
            remembered,
            losses,
            orphaned,
            world,
            explanation,
            calls,
            reconfiguration,
            ..
        } = meta;
        self.surroundings.restore(world);
        self.substituting.restore(*reconfiguration);
        if !self.announced {
            self.explanation = explanation.map(|explanation| *explanation);
        }
        self.losses = losses;
        self.orphaned = orphaned;
        self.restore_repeats(&remembered);
        for (link, inbound) in &mut self.inbound {
            if let Some(position) = folded.get(link) {
                inbound.accepted(*position);
            }
        }
        self.folded = folded;
        for (link, outbox) in &mut self.outboxes {
            outbox.restore(outboxes.remove(link).unwrap_or_default());
        }
        for (link, known) in &mut self.commands {
            known.restore(commands.remove(link).unwrap_or_default());
        }
        self.timers.restore(timers);
        self.calling.open.restore(calls);
    }

    fn restore_repeats(&mut self, remembered: &BTreeMap<EntityId, Vec<u64>>) {
        self.folded_repeats.clear();
        for (link, digests) in remembered {
            let mut repeats = Repeats::default();
            repeats.restore(digests);
            self.folded_repeats.insert(link.clone(), repeats);
        }
        // A mended element still knows what it accepted; a new process learns it from here.
        if self.repeats.is_empty() {
            self.repeats = self.folded_repeats.clone();
            self.learning_repeats = true;
        }
    }

    /// Marks, firings and dead letters are found again in the log.
    fn note_logged(&mut self, index: u64, record: &Record) {
        self.newest_lineage = newest_lineage(self.newest_lineage, record);
        match record {
            Record::Event(event) => {
                self.flushing.event_delivered(index, event);
                if self.learning_repeats && self.source(&event.binding, Source::Device).is_some() {
                    let repeats = self.repeats.entry(event.binding.clone()).or_default();
                    repeats.remember(digest(&event.payload));
                }
                if let Some(inbound) = self.inbound.get_mut(&event.binding) {
                    inbound.accepted(event.id.position);
                }
            }
            Record::Timer(timed) => self.timers.on_its_way(timed),
            Record::Skipped { index, .. } => {
                self.skipped.insert(*index);
            }
            Record::Begun(_) | Record::Done(_) | Record::Lost(_) => {}
            Record::Judged(_) | Record::Reverted(_) => {}
            Record::Reconfigured(reconfiguration) => self.substituting.is_logged(reconfiguration),
            Record::CallEnded { call, .. } | Record::Answered { call, .. } => {
                self.calling.open.on_its_way(*call);
            }
            Record::Withdrawn { binding, call } => self.calling.withdrawn(binding, *call),
        }
    }

    /// Everything logged is folded, and those that the element requires are not there yet. What arrives
    /// is logged; nothing is handled, and nothing leaves.
    pub(super) fn show_restored(&mut self, effects: &mut Vec<Effect>) {
        if !self.restored_shown {
            self.restored_shown = true;
            effects.push(Effect::ShowRestored);
            self.stop_if_drained(effects);
        }
    }

    pub(super) fn resume_ordered(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.settings.resume_awaited = false;
        self.restored_shown = false;
        self.handle_next(now, effects);
    }

    /// Everything logged is folded: from here on outputs leave.
    pub(super) fn go_live(&mut self, now: Now, since: Monotonic, effects: &mut Vec<Effect>) {
        self.phase = Phase::Live;
        self.skipped.clear();
        self.replayed = (
            self.log.handled - self.checkpoint.upto,
            now.monotonic - since,
        );
        if !self.announced {
            self.explain_replay(now);
            self.judge_missed(now);
        }
        if let Some(cause) = self.mended.take() {
            effects.push(Effect::Mended { cause });
        }
        self.limit_all_held(now, effects);
        if self.connected && !self.announced {
            self.announce(now, effects);
        } else {
            if self.announced {
                self.show_after_mend(now, effects);
            }
            self.reached_all(now, effects);
            self.send(now, effects);
        }
        self.append(now, effects);
        self.catch_up(now, effects);
        self.fire_timers(now, effects);
        self.end_calls(now, effects);
        self.schedule_checkpoint(now);
        self.checkpoint_if_due(now, effects);
    }

    /// When nothing is on its way to the store and the backoff is over, asks for the saved state.
    pub(super) fn mend(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Phase::Mending {
            not_before,
            asked: false,
        } = self.phase
        else {
            return;
        };
        if !self.log.in_flight.is_empty() {
            return;
        }
        if let Some(record) = self.giving_up.take() {
            let first = self.log.head + 1;
            self.send_batch(
                first,
                alloc::vec![Waiting {
                    record,
                    receipts: Vec::new()
                }],
                effects,
            );
            return;
        }
        if not_before <= now.monotonic {
            self.phase = Phase::Mending {
                not_before,
                asked: true,
            };
            effects.push(Effect::Restore);
        }
    }

    pub(super) fn schedule_checkpoint(&mut self, now: Now) {
        let nothing_new = self.log.head <= self.checkpoint.upto && !self.checkpoint.initial_missing;
        if self.checkpoint.due_at.is_none() && !nothing_new {
            self.checkpoint.due_at = Some(now.monotonic + self.settings.checkpoint.interval);
        }
    }

    /// Asks for a checkpoint of the state as it is now, between two inputs.
    pub(super) fn checkpoint_if_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let new = self.log.handled - self.checkpoint.upto.min(self.log.handled);
        let due = new >= self.settings.checkpoint.every
            || self.checkpoint.initial_missing
            || self.checkpoint.due_at.is_some_and(|at| at <= now.monotonic);
        if !due || !self.is_live() || self.log.handling.is_some() {
            return;
        }
        if self.checkpoint.under_way.is_some() {
            // Asked again when the answer is there.
            self.checkpoint.due_at = None;
            return;
        }
        if new == 0 && !self.checkpoint.initial_missing {
            self.checkpoint.due_at = None;
            return;
        }
        self.take_checkpoint(effects);
    }

    fn take_checkpoint(&mut self, effects: &mut Vec<Effect>) {
        let upto = self.log.handled;
        self.checkpoint.under_way = Some(upto);
        self.checkpoint.due_at = None;
        effects.push(Effect::Checkpoint {
            upto,
            meta: self.meta(),
        });
    }

    fn meta(&self) -> Meta {
        let outboxes = self
            .outboxes
            .iter()
            .map(|(link, o)| (link.clone(), o.saved().clone()));
        let commands = self
            .commands
            .iter()
            .map(|(link, c)| (link.clone(), c.saved()));
        let remembered = self
            .folded_repeats
            .iter()
            .map(|(link, r)| (link.clone(), r.remembered()));
        Meta {
            lineage: self.lineage,
            folded: self.folded.clone(),
            outboxes: outboxes.collect(),
            commands: commands.collect(),
            timers: self.timers.clone(),
            remembered: remembered.collect(),
            world: self.surroundings.world.clone(),
            explanation: self.explanation().cloned().map(Box::new),
            calls: self.calling.open.clone(),
            losses: self.losses.clone(),
            orphaned: self.orphaned.clone(),
            reconfiguration: Box::new(self.substituting.in_force()),
        }
    }

    /// The checkpoint is in the store and the log before it is gone.
    pub(super) fn checkpointed_upto(&mut self, now: Now, upto: u64, effects: &mut Vec<Effect>) {
        if self.checkpoint.under_way != Some(upto) {
            return;
        }
        self.checkpoint.under_way = None;
        self.checkpoint.failed = false;
        self.checkpoint.initial_missing = false;
        self.checkpoint.upto = upto;
        self.checkpoint.taken_at = Some(now.wall);
        // A checkpoint is taken after the records that it covers.
        self.stable_upto(now, upto, effects);
        self.schedule_checkpoint(now);
        self.checkpoint_if_due(now, effects);
        self.stop_if_drained(effects);
    }

    pub(super) fn checkpoint_failed(&mut self, now: Now, cause: Cause, effects: &mut Vec<Effect>) {
        self.checkpoint.under_way = None;
        self.checkpoint.failed = true;
        match cause {
            Cause::Unavailable(_) => {
                self.checkpoint.due_at = Some(now.monotonic + CHECKPOINT_RETRY);
            }
            Cause::Gap { head } => {
                let cause = alloc::format!(
                    "the store refuses a checkpoint at {}: its log ends at {head}",
                    self.log.handled
                );
                self.give_up(cause, true, effects);
            }
            Cause::Fenced(cause) | Cause::Refused(cause) => self.give_up(cause, false, effects),
        }
    }

    /// Takes no more input, handles what is logged, saves and stops.
    pub(super) fn stop(&mut self, effects: &mut Vec<Effect>) {
        self.stop_requested = true;
        self.stop_if_drained(effects);
    }

    pub(super) fn stop_if_drained(&mut self, effects: &mut Vec<Effect>) {
        if !self.stop_requested {
            return;
        }
        match self.phase {
            Phase::Replaying { .. } if self.restored_shown => {
                self.phase = Phase::Halted;
                effects.push(Effect::Stop);
            }
            // Nothing was changed, so there is nothing to save.
            Phase::Starting => {
                self.phase = Phase::Halted;
                effects.push(Effect::Stop);
            }
            Phase::Live => {
                let busy = self.queued() > 0 || self.log.handling.is_some();
                if busy || self.checkpoint.under_way.is_some() {
                    return;
                }
                if self.log.handled > self.checkpoint.upto || self.checkpoint.initial_missing {
                    if !self.checkpoint.failed {
                        self.take_checkpoint(effects);
                    }
                    return;
                }
                self.phase = Phase::Halted;
                effects.push(Effect::Stop);
            }
            Phase::Replaying { .. } | Phase::Mending { .. } | Phase::Halted => {}
        }
    }
}
