//! From durable to handled: one record at a time, its outputs only after it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::calling::Ended;
use super::{Cell, Effect, Handled, Handling, Phase, Source, Task, TaskInput};
use crate::model::OnExpired;
use crate::physical_world::Causes;
use crate::restart::RestartDecision;
use crate::state_saving::{Begun, Event, Record, Timed, digest};
use crate::time::{Now, WallClock};

impl Cell {
    /// Offers the next record to the handler, passing over those that need none.
    pub(super) fn handle_next(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while self.log.handling.is_none() {
            match self.phase {
                Phase::Replaying { upto, .. }
                    if self.log.handled >= upto && self.settings.resume_awaited =>
                {
                    return self.show_restored(effects);
                }
                Phase::Replaying { upto, since } if self.log.handled >= upto => {
                    self.go_live(now, since, effects);
                }
                Phase::Replaying { .. } | Phase::Live => {}
                Phase::Starting | Phase::Mending { .. } | Phase::Halted => return,
            }
            if self.awaits_withdrawal() {
                return;
            }
            let Some((index, logged_at, record)) = self.log.ready.pop_front() else {
                return;
            };
            self.offer(now, index, logged_at, record, effects);
        }
    }

    fn offer(
        &mut self,
        now: Now,
        index: u64,
        logged_at: WallClock,
        record: Record,
        effects: &mut Vec<Effect>,
    ) {
        match record {
            Record::Event(event) if self.carries_calls(&event.binding) => {
                self.offer_call_event(now, index, logged_at, event, effects);
            }
            Record::Event(event) if self.is_passed_over(index, logged_at, &event) => {
                self.note_orphans(index, &event, effects);
                self.remember(&event);
                self.folded.insert(event.binding, event.id.position);
                self.log.handled = index;
            }
            Record::Event(event) => self.hand_over_event(index, logged_at, event, effects),
            Record::Timer(timed) => {
                // Taken in any case: a skipped firing is over as well.
                let stands = self.timers.stands(&timed);
                let expired = is_expired(timed.due_at, timed.expires_at, logged_at);
                let left_out = expired && self.settings.on_expired == OnExpired::Skip;
                if stands && !left_out && !self.skipped.contains(&index) {
                    self.hand_over_timer(index, logged_at, timed, effects);
                } else {
                    self.log.handled = index;
                }
            }
            Record::Skipped { .. } | Record::Withdrawn { .. } => self.log.handled = index,
            Record::CallEnded { call, outcome } => {
                self.offer_ended(index, logged_at, (call, Ended::So(outcome)), effects);
            }
            Record::Answered { call, shown } => {
                self.offer_ended(index, logged_at, (call, Ended::Shown(shown)), effects);
            }
            Record::Reconfigured(reconfiguration) => {
                self.fold_reconfigured(now, (index, logged_at), &reconfiguration, effects);
            }
            Record::Begun(begun) => {
                self.log.handled = index;
                for begun in begun {
                    let link = begun.link.clone();
                    self.begun_at(index, &link);
                    self.call_begun(&begun);
                    if let Some(commands) = self.commands.get_mut(&link) {
                        let Begun {
                            position,
                            attempt,
                            counter,
                            handed_over,
                            ..
                        } = begun;
                        commands.begun(position, attempt, counter, handed_over);
                    }
                    self.actuate(now, &link, effects);
                }
            }
            Record::Done(done) => {
                self.log.handled = index;
                for settled in &done {
                    self.fold_settled(settled);
                }
            }
            Record::Judged(judged) => {
                self.log.handled = index;
                self.fold_judged(now, logged_at, &judged, effects);
            }
            Record::Reverted(reverted) => {
                self.log.handled = index;
                self.fold_reverted(now, (index, logged_at), reverted, effects);
            }
            Record::Lost(lost) => {
                self.log.handled = index;
                self.lost(index, lost, effects);
            }
        }
    }

    /// Whether the state is to know nothing of an event: it was given up, or had expired when it was
    /// logged and the element wants none of those. It depends on the log alone, so every replay leaves
    /// out the same.
    fn is_left_out(&self, index: u64, logged_at: WallClock, event: &Event) -> bool {
        let skips = self.settings.on_expired == OnExpired::Skip;
        self.skipped.contains(&index)
            || skips && is_expired(event.occurred_at, event.expires_at, logged_at)
    }

    /// What is left out and no device said changes nothing at all; what a device shows overrides what
    /// was commanded, whatever the handler is given of it.
    fn is_passed_over(&self, index: u64, logged_at: WallClock, event: &Event) -> bool {
        let sensed = self.source(&event.binding, Source::Device).is_some();
        !sensed && self.is_left_out(index, logged_at, event)
    }

    /// What a device said is remembered once it is part of the state that a checkpoint would save.
    fn remember(&mut self, event: &Event) {
        if self.source(&event.binding, Source::Device).is_some() {
            let repeats = self
                .folded_repeats
                .entry(event.binding.clone())
                .or_default();
            repeats.remember(digest(&event.payload));
        }
    }

    fn hand_over_event(
        &mut self,
        index: u64,
        logged_at: WallClock,
        event: Event,
        effects: &mut Vec<Effect>,
    ) {
        self.note_orphans(index, &event, effects);
        self.remember(&event);
        let sensed = self.source(&event.binding, Source::Device).is_some();
        let left_out = self.is_left_out(index, logged_at, &event);
        let Event {
            binding,
            id,
            occurred_at,
            expires_at,
            causes,
            payload,
            ..
        } = event;
        // One that holds only as it occurs says so itself to all that follows from it.
        let immediate = expires_at == Some(occurred_at);
        let causes = if sensed && !immediate {
            Causes::of(&id, occurred_at, expires_at)
        } else {
            causes
        };
        let handling = Handling {
            index,
            logged_at,
            expired: is_expired(occurred_at, expires_at, logged_at),
            left_out,
            immediate,
            expires_at,
            causes,
            what: format!("event {id} on {binding}"),
            binding: Some((binding, id.position)),
            occurred: sensed.then(|| (id.clone(), occurred_at)),
            caller: None,
        };
        let input = TaskInput::Event {
            id,
            occurred_at,
            expires_at,
            payload,
            sensed,
        };
        self.hand_over(handling, input, effects);
    }

    fn hand_over_timer(
        &mut self,
        index: u64,
        logged_at: WallClock,
        timed: Timed,
        effects: &mut Vec<Effect>,
    ) {
        let Timed {
            key,
            due_at,
            expires_at,
            payload,
        } = timed;
        let handling = Handling {
            index,
            logged_at,
            expired: is_expired(due_at, expires_at, logged_at),
            left_out: false,
            immediate: false,
            expires_at,
            // What a timer asks for was meant for later: it is a cause of its own.
            causes: Causes::default(),
            what: format!("timer {key:?}"),
            binding: None,
            occurred: None,
            caller: None,
        };
        self.hand_over(
            handling,
            TaskInput::Timer {
                key,
                due_at,
                expires_at,
                payload,
            },
            effects,
        );
    }

    pub(super) fn hand_over(
        &mut self,
        handling: Handling,
        input: TaskInput,
        effects: &mut Vec<Effect>,
    ) {
        let Handling {
            index,
            logged_at,
            expired,
            left_out,
            ..
        } = handling;
        let replay = matches!(self.phase, Phase::Replaying { .. });
        self.log.handling = Some(handling);
        effects.push(Effect::Handle(Task {
            index,
            logged_at,
            expired,
            left_out,
            replay,
            input,
        }));
    }

    /// The handler returned: its outputs leave, unless this is a replay or the input had expired.
    pub(super) fn handled(
        &mut self,
        now: Now,
        index: u64,
        handled: Handled,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(cause) = self.unbound_call(&handled) {
            return self.handler_failed(now, index, &cause, effects);
        }
        let Some(mut handling) = self
            .log
            .handling
            .take_if(|handling| handling.index == index)
        else {
            return;
        };
        self.log.handled = index;
        self.attempts.remove(&index);
        if let Some((binding, position)) = handling.binding.clone() {
            self.folded.insert(binding, position);
        }
        for change in handled.timers {
            self.timers.change(change);
        }
        if let Some((event, occurred_at)) = &handling.occurred {
            self.fold_sensed(event, *occurred_at, handling.expires_at, handled.sensed);
        }
        if !handling.expired {
            self.emit(&handling, handled.emitted, effects);
        }
        self.call_out(&handling, handled.calls, effects);
        self.limit_all_held(now, effects);
        if let (Some(caller), Some(outcome)) = (handling.caller.take(), handled.reply) {
            self.reply(&handling, caller, outcome);
        }
        if self.is_live() {
            self.send(now, effects);
            self.end_all_overridden(now, effects);
            self.end_calls(now, effects);
            self.checkpoint_if_due(now, effects);
        }
        self.handle_next(now, effects);
        self.ask_refused(effects);
        self.stop_if_drained(effects);
    }

    /// The instance is gone: the input is tried again by a new one, and given up when it keeps
    /// failing.
    pub(super) fn handler_failed(
        &mut self,
        now: Now,
        index: u64,
        cause: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(handling) = self
            .log
            .handling
            .take_if(|handling| handling.index == index)
        else {
            return;
        };
        self.counters.panics += 1;
        let attempts = self.attempts.entry(index).or_insert(0);
        *attempts += 1;
        let cause = format!("{} failed: {cause}", handling.what);
        if *attempts >= self.settings.attempts_max {
            self.bury(index, &handling.what, cause.clone(), effects);
        }
        match self.restarts.failed(now.monotonic) {
            RestartDecision::After(wait) => {
                self.mended = Some(cause);
                self.phase = Phase::Mending {
                    not_before: now.monotonic + wait,
                    asked: false,
                };
                self.mend(now, effects);
            }
            RestartDecision::Escalate => {
                let limit = self.settings.restart;
                let often = format!("{} times within {:?}", limit.restarts_max + 1, limit.within);
                self.give_up(
                    format!("handlers failed {often}; the last: {cause}"),
                    true,
                    effects,
                );
            }
        }
    }

    fn bury(&mut self, index: u64, what: &str, cause: String, effects: &mut Vec<Effect>) {
        self.attempts.remove(&index);
        self.counters.dead_letters += 1;
        self.skipped.insert(index);
        self.giving_up = Some(Record::Skipped {
            index,
            cause: cause.clone(),
        });
        effects.push(Effect::Bury {
            index,
            what: what.to_string(),
            cause,
        });
    }
}

/// Whether an input no longer held when it was logged. It depends on the record alone, so it is the
/// same in every replay. An immediate one, which expires as it occurs, is taken while it is fresh.
pub(super) fn is_expired(
    occurred_at: WallClock,
    expires_at: Option<WallClock>,
    logged_at: WallClock,
) -> bool {
    expires_at.is_some_and(|end| end <= logged_at && end != occurred_at)
}
