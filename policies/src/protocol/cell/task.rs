//! What a handler is given.

use alloc::string::String;
use alloc::vec::Vec;

use crate::physical_world::EventId;
use crate::protocol::appliances::PlaceChange;
use crate::state_saving::{CallId, CallOutcome, Properties};
use crate::time::WallClock;

/// One record for the handler.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its index in the log.
    pub index: u64,
    /// When the store took it: the handler's present, in every replay.
    pub logged_at: WallClock,
    /// Whether it had expired when it was logged: it is folded, and nothing leaves.
    pub expired: bool,
    /// Whether the handler is not given it: only what the device says with it is to be read.
    pub left_out: bool,
    /// Whether this is a replay.
    pub replay: bool,
    /// The input.
    pub input: TaskInput,
}

/// What a handler is given.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskInput {
    /// An event that arrived on a binding.
    Event {
        /// Its identity.
        id: EventId,
        /// When it occurred.
        occurred_at: WallClock,
        /// Until when it holds.
        expires_at: Option<WallClock>,
        /// The input, encoded.
        payload: Vec<u8>,
        /// Whether a device said it: then what it shows is to be told in `sensed`.
        sensed: bool,
    },
    /// One of its own timers.
    Timer {
        /// The timer's name.
        key: String,
        /// When it was due.
        due_at: WallClock,
        /// Until when its firing matters.
        expires_at: Option<WallClock>,
        /// The input, encoded.
        payload: Vec<u8>,
    },
    /// A call of another element.
    Call {
        /// Its identity.
        id: EventId,
        /// When it was made.
        occurred_at: WallClock,
        /// Until when its caller waits.
        expires_at: Option<WallClock>,
        /// What is asked, encoded.
        payload: Vec<u8>,
    },
    /// The answer to one of its own calls.
    Answer {
        /// Which call.
        call: CallId,
        /// How it ended.
        outcome: CallOutcome,
        /// What is put before the answer, so that it decodes as the element's input.
        prefix: Vec<u8>,
        /// The reply's identity; for a call that ended by itself, the element's own.
        id: EventId,
        /// When it was answered.
        occurred_at: WallClock,
    },
    /// Who serves in the places of appliances has changed.
    Reconfigured {
        /// How.
        changes: Vec<PlaceChange>,
    },
    /// The reply of an appliance to one of its own calls.
    Shown {
        /// Which call.
        call: CallId,
        /// What the appliance says.
        shown: Properties,
        /// What is put before the answer, so that it decodes as the element's input.
        prefix: Vec<u8>,
        /// The element's own identity of the reply.
        id: EventId,
        /// When it was logged.
        occurred_at: WallClock,
    },
}
