//! One element as its fog agent sees it.

use alloc::string::String;

use super::HostId;
use crate::ids::EntityId;
use crate::protocol::control::{
    Assignment, Decider, ElementState, ElementStatus, Failure, RepairPhases,
};
use crate::protocol::messages::{ElementReport, StartPhases};
use crate::restart::RestartHistory;
use crate::time::{Monotonic, Now, WallClock};

/// An element that was assigned to this agent.
#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) assignment: Assignment,
    pub(super) phase: Phase,
    pub(super) history: RestartHistory,
    pub(super) restarts: u32,
    pub(super) last_failure: Option<Failure>,
    pub(super) report: Option<ElementReport>,
    /// When the fault was injected, if it was.
    pub(super) injected_at: Option<Monotonic>,
    repair: Option<Repair>,
    /// The epoch under which its host runs it.
    epoch: Option<u64>,
    /// The epoch of the last owner whose end was seen here.
    pub(super) ended_epoch: Option<u64>,
}

/// What an element is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No host process is free yet.
    Waiting,
    /// A host restores it.
    Starting(HostId),
    /// A host runs it.
    Running(HostId),
    /// It failed: the decision is awaited until `decide_by`; it starts no sooner than `not_before`.
    Suspected {
        decide_by: Monotonic,
        not_before: Monotonic,
    },
    /// It starts again at this instant.
    BackingOff(Monotonic),
    /// A host takes its last checkpoint.
    Stopping(HostId),
    /// It stopped in order.
    Stopped,
    /// It is given up.
    Failed(String),
    /// A host has its state; it resumes when it is told to, or alone at this instant if there is one.
    Restored(HostId, Option<Monotonic>),
}

/// The instants of a repair under way.
#[derive(Clone, Copy, Debug)]
struct Repair {
    seen_at: Monotonic,
    decided_at: Monotonic,
    ready_at: Option<Monotonic>,
}

impl Hosted {
    pub(super) fn new(assignment: Assignment) -> Self {
        Self {
            history: RestartHistory::new(assignment.restart),
            assignment,
            phase: Phase::Waiting,
            restarts: 0,
            last_failure: None,
            report: None,
            injected_at: None,
            repair: None,
            epoch: None,
            ended_epoch: None,
        }
    }

    /// The host that has the element, if one does.
    pub(super) fn host(&self) -> Option<HostId> {
        match self.phase {
            Phase::Starting(host)
            | Phase::Running(host)
            | Phase::Stopping(host)
            | Phase::Restored(host, _) => Some(host),
            Phase::Waiting
            | Phase::Suspected { .. }
            | Phase::BackingOff(_)
            | Phase::Stopped
            | Phase::Failed(_) => None,
        }
    }

    /// The number of its last failure; 0 before the first.
    pub(super) fn failure_number(&self) -> u64 {
        self.last_failure
            .as_ref()
            .map_or(0, |failure| failure.number)
    }

    /// Notes a failure seen at `seen_at`.
    pub(super) fn failure_seen(&mut self, seen_at: Monotonic, now: Now, cause: String) {
        let since_seen = now.monotonic - seen_at;
        let injected_at = self.injected_at.take();
        self.repair = Some(Repair {
            seen_at,
            decided_at: seen_at,
            ready_at: None,
        });
        self.last_failure = Some(Failure {
            number: self.failure_number() + 1,
            cause,
            seen_at: now.wall - since_seen,
            decided_by: None,
            phases: RepairPhases {
                seen: injected_at.map(|at| seen_at - at),
                ..RepairPhases::default()
            },
        });
        self.report = None;
        self.ended_epoch = self.epoch.take().or(self.ended_epoch);
    }

    /// Notes a failure that the host mended by itself.
    pub(super) fn mended(&mut self, at: WallClock, took: core::time::Duration, cause: String) {
        self.last_failure = Some(Failure {
            number: self.failure_number() + 1,
            cause,
            seen_at: at,
            decided_by: Some(Decider::Host),
            phases: RepairPhases {
                repaired: Some(took),
                ..RepairPhases::default()
            },
        });
    }

    /// Notes who decided about the last failure.
    pub(super) fn decided(&mut self, now: Monotonic, decider: Decider) {
        if let (Some(failure), Some(repair)) = (&mut self.last_failure, &mut self.repair) {
            failure.decided_by = Some(decider);
            failure.phases.decided = Some(now - repair.seen_at);
            repair.decided_at = now;
        }
    }

    /// Notes that a host was told to run it.
    pub(super) fn given(&mut self, now: Monotonic, host: HostId) {
        self.phase = Phase::Starting(host);
        if let (Some(failure), Some(repair)) = (&mut self.last_failure, &self.repair) {
            failure.phases.started = Some(now - repair.decided_at);
            self.restarts += 1;
        }
    }

    /// Notes that the host restored it and it handles events.
    pub(super) fn ready(&mut self, now: Monotonic, host: HostId, epoch: u64, took: StartPhases) {
        self.phase = Phase::Running(host);
        self.epoch = Some(epoch);
        self.assignment.epoch_floor = self.assignment.epoch_floor.max(epoch);
        if let (Some(failure), Some(repair)) = (&mut self.last_failure, &mut self.repair) {
            failure.phases.host = Some(took);
            failure.phases.repaired = Some(now - repair.seen_at);
            repair.ready_at = Some(now);
        }
    }

    /// Notes that the first new event after a start was handled; whether that ended a repair.
    pub(super) fn first_event(&mut self, now: Monotonic) -> bool {
        let Some(ready_at) = self.repair.take().and_then(|repair| repair.ready_at) else {
            return false;
        };
        if let Some(failure) = &mut self.last_failure {
            failure.phases.first_event = Some(now - ready_at);
        }
        true
    }

    /// The instant at which its agent must do something about it.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        match self.phase {
            Phase::Suspected { decide_by, .. } => Some(decide_by),
            Phase::BackingOff(until) => Some(until),
            Phase::Restored(_, resume_at) => resume_at,
            Phase::Waiting
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Stopping(_)
            | Phase::Stopped
            | Phase::Failed(_) => None,
        }
    }

    /// All that is known of it.
    pub(super) fn status(&self, element: &EntityId, pid: Option<u32>) -> ElementStatus {
        let state = match &self.phase {
            Phase::Waiting => ElementState::Waiting,
            Phase::Starting(_) => ElementState::Starting,
            Phase::Running(_) => ElementState::Running,
            Phase::Suspected { .. } => ElementState::Suspected,
            Phase::BackingOff(_) => ElementState::BackingOff,
            Phase::Stopping(_) => ElementState::Stopping,
            Phase::Stopped => ElementState::Stopped,
            Phase::Restored(..) => ElementState::Restored,
            Phase::Failed(reason) => ElementState::Failed {
                reason: reason.clone(),
            },
        };
        ElementStatus {
            element: element.clone(),
            state,
            pid,
            epoch: self.assignment.epoch_floor,
            restarts: self.restarts,
            last_failure: self.last_failure.clone(),
            report: self.report.clone(),
        }
    }
}
