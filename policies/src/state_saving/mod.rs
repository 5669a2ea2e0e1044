//! What is saved, when, and how it is found again (paper, 4.2.1).

mod calls;
mod checkpoint;
mod choose;
mod commands;
mod identity;
mod local;
mod log;
mod outbox;
mod patience;
mod repeats;
mod timers;

pub use calls::{
    CALLS_FROM, CallId, CallOutcome, CallWish, Calls, DeviceCall, NoCallId, OPEN_CALLS_MAX,
    OpenCall, REPLY, Reply, Request,
};
pub use checkpoint::{FieldDelta, Fields, delta};
pub use choose::{
    Destination, FlowSaving, SavingPolicy, SavingReason, Site, Strategy, Timing, cell, choose,
};
pub use commands::{
    Command, Commands, Desired, Doubt, Finding, Lane, NextCommand, Properties, Refused,
    SavedCommands, Unknown, Verdict, resolve,
};
pub use identity::{Arrival, Inbound, WINDOW_MAX};
pub use local::{Found, LocalLog, Mark, Orphaned};
pub use log::{Batch, Begun, Event, Judged, Lost, Record, Reverted, Settled, Timed};
pub use outbox::{HoldLimit, Outbox, RESEND_MAX, SavedOutbox};
pub use patience::wait_for_store;
pub use repeats::{REMEMBERED_MAX, Repeats, digest};
pub use timers::{Missed, Timer, TimerChange, Timers, monotonic_at};
