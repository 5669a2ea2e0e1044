//! The cell: one element, its log and its bindings (paper, 4.2.1; the wrapper around an element).
//!
//! An input is logged, becomes durable, is handled, and only then its outputs leave. A handler that
//! fails loses its instance; the next one is made from checkpoint and log, and makes the same outputs
//! under the same ids. What the element asks of the outside world is effects; nothing here fails.

mod appending;
mod called;
mod calling;
mod counters;
mod explanation;
mod flushing;
mod handling;
mod input;
mod judging;
mod leasing;
mod outgoing;
mod recovering;
mod settings;
mod showing;
mod substituting;
#[cfg(test)]
mod tests;
mod unreached;
mod world;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

pub use explanation::{Explanation, FlowExplanation, Held, Overridden, TimerFate};
pub use input::{Cause, Effect, Emitted, Handled, Input, Meta, Restored, Sensed, Task, TaskInput};
pub use settings::{
    CallLink, CellSettings, InboundLink, OutboundLink, Place, ServedLink, Source, Target,
};

use calling::{Caller, Calling};

use self::counters::Counters;
use self::flushing::Flushing;
use self::showing::Showing;
use self::unreached::Unreached;
use self::world::Surroundings;

use self::substituting::Substituting;
use crate::ids::EntityId;
use crate::machine::Machine;
use crate::physical_world::{Causes, EventId, Lease, Position};
use crate::protocol::messages::ElementReport;
use crate::restart::RestartHistory;
use crate::state_saving::{
    Commands, Inbound, Lost, Orphaned, Outbox, Record, Repeats, Settled, Timers, monotonic_at,
};
use crate::time::{Monotonic, Now, WallClock};

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
    /// Who serves in the places of appliances.
    substituting: Substituting,
    /// Which appliances could not be reached the last time.
    unreached: Unreached,
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

/// Where each part of the log is: waiting to be logged, on its way, durable, being handled.
#[derive(Debug, Default)]
struct Log {
    /// Not yet sent to the store.
    waiting: VecDeque<Waiting>,
    /// Sent, in order, not yet answered.
    in_flight: VecDeque<InFlight>,
    /// Durable, not yet handled.
    ready: VecDeque<(u64, WallClock, Record)>,
    /// The index of the last record sent to the store.
    head: u64,
    /// The index of the last record known to be durable.
    durable: u64,
    /// The index of the last record folded into the state.
    handled: u64,
    /// The record that the element is handling.
    handling: Option<Handling>,
    /// When to send again after the store was out of reach.
    retry: Option<Retry>,
    /// Commands settled since the last batch.
    settled: Vec<Settled>,
}

#[derive(Debug)]
struct Waiting {
    record: Record,
    /// Given for an event whose transport waits for the log.
    receipts: Vec<u64>,
}

#[derive(Debug)]
struct InFlight {
    first: u64,
    records: Vec<Waiting>,
    answer: Option<Answer>,
}

/// What the store said of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It is durable, and was taken at this instant.
    Durable(WallClock),
    /// It may not be durable and is sent again.
    Failed,
}

#[derive(Debug, Default)]
struct Handling {
    index: u64,
    logged_at: WallClock,
    expired: bool,
    /// The handler is not given it.
    left_out: bool,
    /// It held only as it occurred: what follows from it acts now or never.
    immediate: bool,
    expires_at: Option<WallClock>,
    /// What it follows from, itself included if it was sensed.
    causes: Causes,
    binding: Option<(EntityId, Position)>,
    /// For what a device said: which event, and when it occurred.
    occurred: Option<(EventId, WallClock)>,
    /// Who waits for an answer, if it is a call.
    caller: Option<Caller>,
    what: String,
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Monotonic,
    failures: u32,
}

/// How far the last checkpoint reaches, and whether one is under way.
#[derive(Debug, Default)]
struct Checkpoint {
    /// Nothing was ever saved: the first checkpoint holds the initial state, whole.
    initial_missing: bool,
    /// The store could not take the last one; it is tried again when due.
    failed: bool,
    upto: u64,
    under_way: Option<u64>,
    due_at: Option<Monotonic>,
    taken_at: Option<WallClock>,
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
            unreached: Unreached::default(),
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
        }
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
        let due = due.into_iter().flatten().min();
        self.timer_deadline = due.map(|at| monotonic_at(now, at));
    }

    fn fire_timers(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.is_live() || self.stop_requested {
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
            Input::Settled { link, position } => self.settled(now, &link, position, effects),
            Input::Returned { link } => self.handed_back(now, &link),
            Input::Compared { link, shown } => self.compared(now, &link, shown.as_ref(), effects),
            Input::Checkpointed { upto } => self.checkpointed_upto(now, upto, effects),
            Input::CheckpointFailed { cause } => self.checkpoint_failed(now, cause, effects),
            Input::ReportAsked { request } => {
                let report = self.report(now);
                effects.push(Effect::Report { request, report });
            }
            Input::Connected => self.connected(now, effects),
            Input::StopRequested => self.stop(effects),
            Input::Reconfigured(reconfiguration) => {
                self.reconfigured(now, reconfiguration, effects);
            }
            Input::Doubted { link, position } => self.doubted(now, &link, position, effects),
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
            Input::Unreached { link, cause } => self.unreached(now, &link, cause),
            Input::Refused {
                link,
                position,
                reason,
            } => self.refused_by_device(now, &link, position, &reason, effects),
        }
        self.conclude_due(now, effects);
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
        let timer = self.timer_deadline.filter(|_| live);
        let flush = self.flushing.next_deadline();
        let resend = resend.filter(|_| live);
        let listening = self.listens_until();
        let lease = self.lease_deadline.filter(|_| live);
        let own = [mending, retry, checkpoint, resend, timer];
        let unreached = self.unreached_deadline.filter(|_| live);
        let others = [flush, listening, lease, unreached];
        own.into_iter().chain(others).flatten().min()
    }

    fn wake(&mut self, now: Now, effects: &mut Vec<Effect>) {
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
        self.arm_timers(now);
        self.arm_lease(now);
    }
}
