//! Where the records of a cell are on their way to the state: waiting, sent, durable, handled.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::calling::Caller;
use crate::ids::EntityId;
use crate::physical_world::{Causes, EventId, Position};
use crate::state_saving::{Record, Settled};
use crate::time::{Monotonic, WallClock};

/// Where each part of the log is: waiting to be logged, on its way, durable, being handled.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Not yet sent to the store.
    pub(super) waiting: VecDeque<Waiting>,
    /// Sent, in order, not yet answered.
    pub(super) in_flight: VecDeque<InFlight>,
    /// Durable, not yet handled.
    pub(super) ready: VecDeque<(u64, WallClock, Record)>,
    /// The index of the last record sent to the store.
    pub(super) head: u64,
    /// The index of the last record known to be durable.
    pub(super) durable: u64,
    /// The index of the last record folded into the state.
    pub(super) handled: u64,
    /// The record that the element is handling.
    pub(super) handling: Option<Handling>,
    /// When to send again after the store was out of reach.
    pub(super) retry: Option<Retry>,
    /// Commands settled since the last batch.
    pub(super) settled: Vec<Settled>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) record: Record,
    /// Given for an event whose transport waits for the log.
    pub(super) receipts: Vec<u64>,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) first: u64,
    pub(super) records: Vec<Waiting>,
    pub(super) answer: Option<Answer>,
}

/// What the store said of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is durable, and was taken at this instant.
    Durable(WallClock),
    /// It may not be durable and is sent again.
    Failed,
}

#[derive(Debug, Default)]
pub(super) struct Handling {
    pub(super) index: u64,
    pub(super) logged_at: WallClock,
    pub(super) expired: bool,
    /// The handler is not given it.
    pub(super) left_out: bool,
    /// It held only as it occurred: what follows from it acts now or never.
    pub(super) immediate: bool,
    pub(super) expires_at: Option<WallClock>,
    /// What it follows from, itself included if it was sensed.
    pub(super) causes: Causes,
    pub(super) binding: Option<(EntityId, Position)>,
    /// For what a device said: which event, and when it occurred.
    pub(super) occurred: Option<(EventId, WallClock)>,
    /// Who waits for an answer, if it is a call.
    pub(super) caller: Option<Caller>,
    pub(super) what: String,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    pub(super) at: Monotonic,
    pub(super) failures: u32,
}

/// How far the last checkpoint reaches, and whether one is under way.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    /// Nothing was ever saved: the first checkpoint holds the initial state, whole.
    pub(super) initial_missing: bool,
    /// The store could not take the last one; it is tried again when due.
    pub(super) failed: bool,
    pub(super) upto: u64,
    pub(super) under_way: Option<u64>,
    pub(super) due_at: Option<Monotonic>,
    pub(super) taken_at: Option<WallClock>,
}
