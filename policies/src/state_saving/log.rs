//! The message log of one element: what it received, in the order in which it handles it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::commands::{Lane, Properties, Verdict};
use super::{CallId, CallOutcome};
use crate::ids::EntityId;
use crate::model::Value;
use crate::physical_world::{Causes, EventId, Key, Position};
use crate::protocol::appliances::Reconfiguration;
use crate::time::WallClock;

/// Something that arrived on a binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The binding on which it arrived.
    #[serde(rename = "b")]
    pub binding: EntityId,
    /// Who it is, in every copy.
    pub id: EventId,
    /// The event that its source sent on this binding just before; the default if it is the first.
    /// It makes loss and reordering visible.
    #[serde(rename = "a")]
    pub after: Position,
    /// When it occurred in the physical world.
    #[serde(rename = "o")]
    pub occurred_at: WallClock,
    /// Until when it holds; `None` is until overridden.
    #[serde(rename = "x")]
    pub expires_at: Option<WallClock>,
    /// The events of the physical world that it follows from.
    #[serde(rename = "c", default, skip_serializing_if = "Causes::is_empty")]
    pub causes: Causes,
    /// The receiver's input, encoded.
    #[serde(rename = "p", with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// A durable timer that came due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// The name under which the element set it.
    #[serde(rename = "n")]
    pub key: String,
    /// When it was due.
    #[serde(rename = "d")]
    pub due_at: WallClock,
    /// Until when its firing still matters; `None` is always.
    #[serde(rename = "x")]
    pub expires_at: Option<WallClock>,
    /// The element's own input, encoded.
    #[serde(rename = "p", with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// A command that is about to be sent and must not be sent twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The flow.
    #[serde(rename = "f")]
    pub link: String,
    /// The command.
    #[serde(rename = "i")]
    pub position: Position,
    /// How often people asked for it again.
    #[serde(rename = "n")]
    pub attempt: u32,
    /// What the device counted before, where that shows whether it was carried out.
    #[serde(rename = "c")]
    pub counter: Option<Value>,
    /// By which decision the device serves there that was read; another one counts for itself.
    #[serde(rename = "h", default)]
    pub handed_over: u64,
}

/// Commands that were carried out or given up: no replay sends them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The flow.
    #[serde(rename = "f")]
    pub link: String,
    /// Which way they went.
    #[serde(rename = "w")]
    pub lane: Lane,
    /// The newest of them; the only one, where each goes by itself.
    #[serde(rename = "i")]
    pub position: Position,
    /// By which decision the device serves there that took them; another one did not.
    #[serde(rename = "h", default)]
    pub handed_over: u64,
}

/// What is held of a command of which nobody knew whether it was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The flow.
    #[serde(rename = "f")]
    pub link: String,
    /// The command.
    #[serde(rename = "i")]
    pub position: Position,
    /// What is held of it.
    #[serde(rename = "v")]
    pub verdict: Verdict,
}

/// A quantity whose last command is no longer valid: its device goes back to what its model says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reverted {
    /// The quantity.
    #[serde(rename = "q")]
    pub key: Key,
    /// The event whose validity ended; if another one overrode it meanwhile, nothing is done.
    #[serde(rename = "e")]
    pub event: EventId,
    /// What it goes back to.
    #[serde(rename = "t")]
    pub to: Value,
}

/// One entry of the log. Its index is its place: a batch says the index of its first record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// An event was received; it is folded into the state.
    #[serde(rename = "e")]
    Event(Event),
    /// A timer came due; it is folded into the state.
    #[serde(rename = "t")]
    Timer(Timed),
    /// The record at `index` was given up after it failed repeatedly: every replay leaves it out.
    #[serde(rename = "s")]
    Skipped {
        /// Which record.
        index: u64,
        /// Why, for people.
        cause: String,
    },
    /// The commands at these places are about to be sent and must not be sent twice.
    #[serde(rename = "b")]
    Begun(Vec<Begun>),
    /// The commands up to these places were carried out or given up: no replay sends them again.
    #[serde(rename = "d")]
    Done(Vec<Settled>),
    /// Something is held of a command of unknown fate.
    #[serde(rename = "j")]
    Judged(Judged),
    /// The validity of what was commanded ended.
    #[serde(rename = "r")]
    Reverted(Vec<Reverted>),
    /// A call of this element ended without a reply that could be logged in its place: it took too
    /// long, or was never sent.
    #[serde(rename = "c")]
    CallEnded {
        /// Which call.
        call: CallId,
        /// How.
        outcome: CallOutcome,
    },
    /// A call of another element, received on this binding and not handled, was withdrawn: it is
    /// never carried out.
    #[serde(rename = "w")]
    Withdrawn {
        /// The binding.
        binding: EntityId,
        /// The call's place in its caller's history.
        call: Position,
    },
    /// Records that were only local are lost: what the element says from here on is of a new lineage.
    #[serde(rename = "l")]
    Lost(Lost),
    /// It was decided who serves in the places of appliances.
    #[serde(rename = "p")]
    Reconfigured(Reconfiguration),
    /// An appliance that this element called did what it was asked, and shows this: the reply, as the
    /// caller received it.
    #[serde(rename = "a")]
    Answered {
        /// Which call.
        call: CallId,
        /// What the appliance said of it.
        shown: Properties,
    },
}

/// What is known of records that were lost with a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The lineage of what is said from here on.
    #[serde(rename = "l")]
    pub lineage: u32,
    /// The local log that held them.
    #[serde(rename = "g")]
    pub log: u128,
    /// From this index of the old lineage on records may be missing; all before it are there.
    #[serde(rename = "f")]
    pub from: u64,
    /// Why they cannot be read, for people.
    #[serde(rename = "r")]
    pub reason: String,
}

/// What one append adds to the log: one stream entry, whatever it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The index of the first record; at least 1.
    pub first: u64,
    /// When the store took it, by the store's own clock, which stamps all of the log.
    pub logged_at: WallClock,
    /// The records, at `first`, `first + 1` and so on.
    pub records: Vec<Record>,
}

impl Batch {
    /// The index of the last record.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + self.records.len() as u64 - 1
    }
}
