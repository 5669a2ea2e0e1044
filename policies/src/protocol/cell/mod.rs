//! The cell: one element, its log and its bindings (paper, 4.2.1; the wrapper around an element).
//!
//! An input is logged, becomes durable, is handled, and only then its outputs leave. A handler that
//! fails loses its instance; the next one is made from checkpoint and log, and makes the same outputs
//! under the same ids. What the element asks of the outside world is effects; nothing here fails.

mod appending;
mod blocking;
mod called;
mod calling;
mod cause;
mod counters;
mod device_calls;
mod explanation;
mod flushing;
mod handling;
mod input;
mod judging;
mod leasing;
mod log;
mod outgoing;
mod recovering;
mod saved;
mod settings;
mod showing;
mod substituting;
mod task;
#[cfg(test)]
mod tests;
mod unreached;
mod unsure;
mod world;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

pub use cause::Cause;
pub use device_calls::DeviceWord;
pub use explanation::{Explanation, FlowExplanation, Held, Overridden, TimerFate};
pub use input::{Effect, Emitted, Handled, Input, Sensed};
pub use saved::{InForce, Meta, Restored};
pub use settings::{
    CallLink, CellSettings, DeviceCallLink, InboundLink, Neighbour, OutboundLink, Place,
    ServedLink, Source, Target,
};
pub use task::{Task, TaskInput};

use self::blocking::Blocking;
use self::calling::Calling;
use self::counters::Counters;
use self::device_calls::DeviceCalls;
use self::flushing::Flushing;
use self::log::{Answer, Checkpoint, Handling, InFlight, Log, Retry, Waiting};
use self::showing::Showing;
use self::unreached::Unreached;
use self::world::Surroundings;

use self::substituting::Substituting;
use self::unsure::Unsure;
use crate::ids::EntityId;
use crate::machine::Machine;
use crate::physical_world::{Lease, Position};
use crate::protocol::messages::ElementReport;
use crate::restart::RestartHistory;
use crate::state_saving::{
    Commands, Inbound, Lost, Orphaned, Outbox, Record, Repeats, Timers, monotonic_at,
};
use crate::time::{Monotonic, Now};

/// The machine of one element.
#[derive(Debug)]
pub struct Cell {
    settings: CellSettings,
    phase: Phase,
    log: Log,
    inbound: BTreeMap<EntityId, Inbound>,
    /// Per binding, the last event that the state has folded: what a checkpoint saves.
    folded: BTreeMap<EntityId, Position>,
    /// Per binding to a device, what was accepted last.
    repeats: BTreeMap<EntityId, Repeats>,
    /// The same, as far as the state has folded it.
    folded_repeats: BTreeMap<EntityId, Repeats>,
    learning_repeats: bool,
    outboxes: BTreeMap<EntityId, Outbox>,
    commands: BTreeMap<String, Commands>,
    timers: Timers,
    calling: Calling,
    checkpoint: Checkpoint,
    restarts: RestartHistory,
    attempts: BTreeMap<u64, u32>,
    counters: Counters,
    /// Senders that were refused because the mailbox was full and are to be asked again.
    refused: BTreeSet<EntityId>,
    /// What devices said before the log was read.
    held: Vec<Input>,
    /// Records that every replay leaves out.
    skipped: BTreeSet<u64>,
    /// The decision to leave a record out, to be logged before anything goes on.
    giving_up: Option<Record>,
    /// What is known of the physical world.
    surroundings: Surroundings,
    /// Which appliances are being asked what they show.
    showing: Showing,
    /// What the last recovery did.
    explanation: Option<Explanation>,
    /// Where the last replay began and ended.
    recovering_from: (u64, u64),
    lineage: u32,
    connected: bool,
    announced: bool,
    timer_deadline: Option<Monotonic>,
    mended: Option<String>,
    replayed: (u64, Duration),
    stop_requested: bool,
    /// How far the stable store is behind.
    flushing: Flushing,
    /// The lineage of the newest record, handled or not.
    newest_lineage: u32,
    losses: Vec<Lost>,
    orphaned: Vec<Orphaned>,
    /// The last record whose loss or orphans this process reported.
    reported_losses_upto: u64,
    /// Until when commands may leave.
    lease: Lease,
    lease_deadline: Option<Monotonic>,
    unreached_deadline: Option<Monotonic>,
    /// Which calls of appliances are on their way.
    device_calls: DeviceCalls,
    /// Which appliances could not be reached the last time.
    unreached: Unreached,
    /// Who serves in the places of appliances, and how those around are.
    substituting: Substituting,
    /// What waits until the store's clock is known.
    unsure: Unsure,
    /// Whether it said that it is restored and waits.
    restored_shown: bool,
    /// With whom nothing is exchanged.
    blocking: Blocking,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for the saved state.
    Starting,
    /// Folds the log; nothing leaves.
    Replaying { upto: u64, since: Monotonic },
    /// Handles and emits.
    Live,
    /// The instance is lost; waits for appends in flight and for the backoff, then restores.
    Mending { not_before: Monotonic, asked: bool },
    /// This incarnation is over.
    Halted,
}

impl Cell {
    /// An element that waits for its saved state.
    #[must_use]
    pub fn new(mut settings: CellSettings) -> Self {
        flushing::limit_batches(&mut settings);
        let surroundings = Surroundings::new(&settings);
        let inbound = settings
            .inbound
            .iter()
            .map(|link| (link.id.clone(), Inbound::default()))
            .collect();
        Self {
            phase: Phase::Starting,
            log: Log::default(),
            inbound,
            folded: BTreeMap::new(),
            repeats: BTreeMap::new(),
            folded_repeats: BTreeMap::new(),
            learning_repeats: false,
            outboxes: outgoing::outboxes(&settings),
            commands: outgoing::commands(&settings, &surroundings),
            timers: Timers::default(),
            calling: Calling::new(&settings),
            checkpoint: Checkpoint::default(),
            restarts: RestartHistory::new(settings.restart),
            attempts: BTreeMap::new(),
            counters: Counters::default(),
            refused: BTreeSet::new(),
            held: Vec::new(),
            skipped: BTreeSet::new(),
            giving_up: None,
            surroundings,
            showing: Showing::default(),
            explanation: None,
            recovering_from: (0, 0),
            lineage: 1,
            connected: false,
            announced: false,
            timer_deadline: None,
            mended: None,
            replayed: (0, Duration::ZERO),
            stop_requested: false,
            flushing: Flushing::new(settings.lag),
            newest_lineage: 1,
            losses: Vec::new(),
            orphaned: Vec::new(),
            reported_losses_upto: 0,
            lease: Lease::new(settings.lease),
            lease_deadline: None,
            unreached_deadline: None,
            substituting: Substituting::default(),
            device_calls: DeviceCalls::default(),
            unreached: Unreached::default(),
            unsure: Unsure::default(),
            restored_shown: false,
            blocking: Blocking::default(),
            settings,
        }
    }

    fn report(&self, now: Now) -> ElementReport {
        let Counters {
            panics,
            dead_letters,
            duplicates,
            ..
        } = self.counters;
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        ElementReport {
            epoch: 0,
            head: self.log.durable,
            checkpoint: self.checkpoint.upto,
            checkpoint_at: self.checkpoint.taken_at,
            checkpoint_took: None,
            panics,
            dead_letters,
            duplicates,
            unacknowledged: count(self.unacknowledged()),
            queued: count(self.queued()),
            unknown: self.unknown_commands(),
            trouble: self.trouble(now),
            behind: self.flushing.behind(),
            losses: self.losses.clone(),
            orphaned: self.orphaned.clone(),
            effective: self.effective(),
            because: self.reasons(),
        }
    }

    fn reported(&self, now: Now, request: u64) -> Effect {
        let report = self.report(now);
        Effect::Report { request, report }
    }

    fn trouble(&self, now: Now) -> Option<String> {
        let counters = self.counters.trouble(self.unknown_count());
        let unreached = self.unreached.trouble();
        let told = [
            self.flushing.trouble(),
            counters,
            self.held_back(now),
            unreached,
        ];
        let told: Vec<String> = told.into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// Inputs that wait to be logged or handled.
    #[must_use]
    pub fn queued(&self) -> usize {
        let in_flight: usize = self
            .log
            .in_flight
            .iter()
            .map(|batch| batch.records.len())
            .sum();
        self.log.waiting.len() + in_flight + self.log.ready.len()
    }

    /// Outputs that nobody has acknowledged yet.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        let kept: usize = self.outboxes.values().map(Outbox::unacknowledged).sum();
        // What waits for an appliance that failed has a limit of its own and holds nothing up.
        let served = self
            .commands
            .iter()
            .filter(|(link, _)| !self.is_unserved(link));
        kept + served
            .map(|(_, commands)| commands.waiting())
            .sum::<usize>()
    }

    /// Lets a device speak that the topology did not name; for test benches.
    pub fn add_source(&mut self, link: InboundLink) {
        self.inbound.entry(link.id.clone()).or_default();
        self.settings.inbound.push(link);
    }

    /// Whether it handles events and emits.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// The monotonic deadline of a wall-clock instant is only known when `now` is.
    fn arm_timers(&mut self, now: Now) {
        let due = [
            self.timers.next_due_at(),
            self.surroundings.next_reversion_at(),
            self.calling.open.next_due_at(),
        ];
        let due = due.into_iter().flatten().min().filter(|_| now.is_sure());
        self.timer_deadline = due.map(|at| monotonic_at(now, at));
    }

    fn fire_timers(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let waits = !now.is_sure() || self.is_paused();
        if !self.is_live() || self.stop_requested || waits {
            return;
        }
        for timed in self.timers.due(now) {
            self.log.waiting.push_back(Waiting {
                record: Record::Timer(timed),
                receipts: Vec::new(),
            });
        }
        self.revert_due(now);
        self.append(now, effects);
    }
}

impl Machine for Cell {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Halted {
            return;
        }
        self.catch_up(now, effects);
        match input {
            Input::Restored(restored) => self.restored(now, restored, effects),
            Input::Received { link, envelopes } => self.received(now, &link, envelopes, effects),
            Input::Sensed(sensed) => self.sensed(now, sensed, effects),
            Input::Appended { last, logged_at } => self.appended(now, last, logged_at, effects),
            Input::AppendFailed { last, cause } => self.append_failed(now, last, cause, effects),
            Input::Handled { index, handled } => self.handled(now, index, handled, effects),
            Input::HandlerFailed { index, cause } => {
                self.handler_failed(now, index, &cause, effects);
            }
            Input::Acknowledged { link, upto } => self.acknowledged(now, &link, upto),
            Input::ResumeAsked { link, mark } => self.resume_asked(now, &link, mark, effects),
            Input::Settled {
                link,
                position,
                sending,
            } => self.settled(now, &link, (position, sending), effects),
            Input::Returned { link, sending } => self.handed_back(now, &link, sending),
            Input::Compared {
                link,
                question,
                shown,
            } => self.answered(now, &link, question, shown.as_ref(), effects),
            Input::Checkpointed { upto } => self.checkpointed_upto(now, upto, effects),
            Input::CheckpointFailed { cause } => self.checkpoint_failed(now, cause, effects),
            Input::ReportAsked { request } => effects.push(self.reported(now, request)),
            Input::Connected => self.connected(now, effects),
            Input::StopRequested => self.stop(effects),
            Input::Reconfigured(reconfiguration) => {
                self.reconfigured(now, reconfiguration, effects);
            }
            Input::Doubted {
                link,
                position,
                sending,
            } => self.doubted(now, &link, (position, sending), effects),
            Input::Judged {
                link,
                position,
                verdict,
            } => self.judged(now, &link, position, verdict, effects),
            Input::Reached { links } => self.reached(now, &links, effects),
            Input::Flushed { upto } => self.flushed(now, upto, effects),
            Input::FlushFailed { cause } => self.flush_failed(now, cause, effects),
            Input::Claimed { asked_at, free_at } => self.claimed(asked_at, free_at),
            Input::Proven { asked_at } => self.proven(now, asked_at, effects),
            Input::NotProven { cause } => self.not_proven(now, cause, effects),
            Input::ResumeOrdered => self.resume_ordered(now, effects),
            Input::Device(told) => self.told_of_device(now, told, effects),
            Input::ShowAsked => self.show_reconfiguration(effects),
        }
        self.conclude_due(now, effects);
        self.ask_clock(now, effects);
        self.arm_timers(now);
        self.arm_lease(now);
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        let mending = match self.phase {
            Phase::Mending {
                not_before,
                asked: false,
            } if self.log.in_flight.is_empty() => Some(not_before),
            Phase::Starting
            | Phase::Replaying { .. }
            | Phase::Live
            | Phase::Mending { .. }
            | Phase::Halted => None,
        };
        let live = self.is_live();
        let retry = self
            .log
            .retry
            .map(|retry| retry.at)
            .filter(|_| self.all_answered());
        let checkpoint = self.checkpoint.due_at.filter(|_| live);
        let resend = self
            .outboxes
            .values()
            .filter_map(Outbox::next_deadline)
            .min();
        let timer = self.timer_deadline.filter(|_| live && !self.is_paused());
        let flush = self.flushing.next_deadline();
        let resend = resend.filter(|_| live);
        let listening = self.listens_until();
        let lease = self.lease_deadline.filter(|_| live);
        let clock = self.unsure.ask_at().filter(|_| live);
        let own = [mending, retry, checkpoint, resend, timer];
        let unreached = self.unreached_deadline.filter(|_| live);
        let others = [flush, listening, lease, unreached, clock];
        own.into_iter().chain(others).flatten().min()
    }

    fn wake(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.catch_up(now, effects);
        self.mend(now, effects);
        self.retry_append(now, effects);
        self.retry_flush(now, effects);
        self.fire_timers(now, effects);
        self.end_calls(now, effects);
        self.resend(now, effects);
        self.checkpoint_if_due(now, effects);
        self.conclude_due(now, effects);
        self.act_when_free(now, effects);
        self.try_unreached(now, effects);
        self.ask_clock(now, effects);
        self.arm_timers(now);
        self.arm_lease(now);
    }
}
