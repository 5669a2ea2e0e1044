//! What a cell is told and what it asks for.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Cause, DeviceWord, Meta, Restored, Task};
use crate::ids::EntityId;
use crate::physical_world::Position;
use crate::protocol::appliances::Reconfiguration;
use crate::protocol::messages::{ElementReport, Envelope};
use crate::state_saving::{
    CallOutcome, CallWish, Command, Lost, Orphaned, Properties, Record, TimerChange, Verdict,
};
use crate::time::{Monotonic, WallClock};

/// What a cell is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The saved state was read; the shell has made an instance of the element from its fields.
    Restored(Restored),
    /// Events of another element arrived on a binding.
    Received {
        /// The binding.
        link: EntityId,
        /// The events as their sender put them.
        envelopes: Vec<Envelope>,
    },
    /// A device said something.
    Sensed(Sensed),
    /// The batch that ends at `last` is durable.
    Appended {
        /// Its last index.
        last: u64,
        /// When the store took it.
        logged_at: WallClock,
    },
    /// The batch that ends at `last` may not be durable.
    AppendFailed {
        /// Its last index.
        last: u64,
        /// What the store said.
        cause: Cause,
    },
    /// The handler returned.
    Handled {
        /// The record it handled.
        index: u64,
        /// What it asked for.
        handled: Handled,
    },
    /// The handler panicked or returned an error; its instance is gone.
    HandlerFailed {
        /// The record it handled.
        index: u64,
        /// What happened, for people.
        cause: String,
    },
    /// A receiver has logged everything up to here.
    Acknowledged {
        /// The binding.
        link: EntityId,
        /// The last position in the receiver's log.
        upto: Position,
    },
    /// A receiver wants everything after here, again if need be.
    ResumeAsked {
        /// The binding.
        link: EntityId,
        /// The last position in the receiver's log.
        mark: Position,
    },
    /// Commands up to here were carried out, or given up.
    Settled {
        /// The flow.
        link: String,
        /// The newest of them.
        position: Position,
        /// As it came with the command.
        sending: u64,
    },
    /// The command in flight could not be handed over; it is offered again on [`Input::Connected`].
    Returned {
        /// The flow.
        link: String,
        /// As it came with the command.
        sending: u64,
    },
    /// The device was asked, or could not be asked, what it shows.
    Compared {
        /// The flow.
        link: String,
        /// As it came with the question.
        question: u64,
        /// What it shows; `None` if it did not answer in time.
        shown: Option<Properties>,
    },
    /// The checkpoint is in the store.
    Checkpointed {
        /// How far it covers the log.
        upto: u64,
    },
    /// The checkpoint may not be in the store.
    CheckpointFailed {
        /// What the store said.
        cause: Cause,
    },
    /// Somebody wants to know how the element is.
    ReportAsked {
        /// Given back in [`Effect::Report`].
        request: u64,
    },
    /// The bindings' transport is up, for the first time or again.
    Connected,
    /// Handle what is there, take a last checkpoint and stop.
    StopRequested,
    /// Nobody knows whether a command reached its appliance.
    Doubted {
        /// The flow.
        link: String,
        /// The command.
        position: Position,
        /// As it came with the command.
        sending: u64,
    },
    /// A person says what became of a command of unknown fate.
    Judged {
        /// The flow.
        link: String,
        /// The command.
        position: Position,
        /// What is held of it.
        verdict: Verdict,
    },
    /// The other end of these links, which need no broker, is connected, for the first time or again.
    Reached {
        /// Which links.
        links: Vec<EntityId>,
    },
    /// The stable store holds every record up to here.
    Flushed {
        /// The index of the last of them.
        upto: u64,
    },
    /// The stable store may not hold what is only local.
    FlushFailed {
        /// What the store said.
        cause: Cause,
    },
    /// The element was claimed: this comes before what was saved.
    Claimed {
        /// When the store was asked.
        asked_at: Monotonic,
        /// Until when the owner before may act.
        free_at: Monotonic,
    },
    /// The store answered something that only the owner is answered.
    Proven {
        /// When it was asked.
        asked_at: Monotonic,
    },
    /// The store did not say whether we own the element, or that we do not.
    NotProven {
        /// What it said.
        cause: Cause,
    },
    /// It was decided who serves in the places of the element's appliances, or how those around it are.
    Reconfigured(Reconfiguration),
    /// What the element requires is there.
    ResumeOrdered,
    /// Somebody who speaks to an appliance says something of it.
    Device(DeviceWord),
    /// Somebody wants to know what is in force; answered as soon as the element is live.
    ShowAsked,
}

/// What a device said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensed {
    /// The binding.
    pub link: EntityId,
    /// When it occurred, as well as that is known.
    pub occurred_at: WallClock,
    /// Until when it holds.
    pub expires_at: Option<WallClock>,
    /// The element's input, encoded.
    pub payload: Vec<u8>,
    /// Given back in [`Effect::Release`] when it is in the log.
    pub receipt: Option<u64>,
    /// Which connection to the broker brought it: on a new one the broker repeats itself.
    pub connection: u64,
    /// Whether no other event of the device has the same contents.
    pub identified: bool,
}

/// What a handler asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handled {
    /// Outputs, in the order of emission.
    pub emitted: Vec<Emitted>,
    /// Timers set and cancelled, in order.
    pub timers: Vec<TimerChange>,
    /// What the device shows that said the event, where an event of the task asks for it: the same in
    /// every replay.
    pub sensed: Properties,
    /// Calls made and withdrawn, in order.
    pub calls: Vec<CallWish>,
    /// The answer, if the record was a call.
    pub reply: Option<CallOutcome>,
}

/// One output of a handler.
#[derive(Clone, Debug, PartialEq)]
pub struct Emitted {
    /// The output port.
    pub port: String,
    /// How long it holds; `None` where the handler did not say.
    pub valid_for: Option<Duration>,
    /// The output, encoded, for an element to receive.
    pub payload: Vec<u8>,
    /// The same as properties, for an appliance to show; empty where none is bound to the port.
    pub properties: Properties,
}

/// What a cell asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Read the saved state again, make a new instance from it, answer with [`Input::Restored`].
    Restore,
    /// Write this batch, which the log must end before; several may be on their way. Answer with
    /// [`Input::Appended`] or [`Input::AppendFailed`].
    Append {
        /// The index of the first record.
        first: u64,
        /// The records.
        records: Vec<Record>,
    },
    /// Run the handler, answer with [`Input::Handled`] or [`Input::HandlerFailed`] before anything
    /// else.
    Handle(Task),
    /// Tell the sender that everything up to here is logged.
    Acknowledge {
        /// The binding.
        link: EntityId,
        /// The last position logged.
        upto: Position,
    },
    /// Ask the sender for everything after here.
    Resume {
        /// The binding.
        link: EntityId,
        /// The last position accepted.
        mark: Position,
    },
    /// The event with this receipt is in the log; its transport may let it go.
    Release {
        /// As it came.
        receipt: u64,
    },
    /// Send events to an element.
    Send {
        /// The binding.
        link: EntityId,
        /// The events.
        envelopes: Vec<Envelope>,
    },
    /// Send a command to an appliance; answer with [`Input::Settled`], [`Input::Returned`],
    /// [`Input::Doubted`] or [`Input::Device`].
    Actuate {
        /// The flow.
        link: String,
        /// The command.
        command: Command,
        /// Which of all sendings on this flow it is; given back with what became of it.
        sending: u64,
    },
    /// Ask an appliance what it shows; answer with [`Input::Compared`].
    Compare {
        /// The flow.
        link: String,
        /// Which of all questions it is; given back with the answer.
        question: u64,
        /// Which of its properties.
        properties: Vec<String>,
    },
    /// Save the state as it is at this instant, and this beside it; answer with
    /// [`Input::Checkpointed`] or [`Input::CheckpointFailed`].
    Checkpoint {
        /// How far it covers the log.
        upto: u64,
        /// What to save beside the element's own state.
        meta: Meta,
    },
    /// Keep this for people to look at: an input was given up.
    Bury {
        /// Its index in the log.
        index: u64,
        /// Which input.
        what: String,
        /// Why.
        cause: String,
    },
    /// Tell people that a command was sent or not, nobody knows, and will not be repeated unless one of
    /// them says so with [`Input::Judged`].
    ReportUnknown {
        /// The flow.
        link: String,
        /// The command.
        command: Command,
    },
    /// The element is restored and live.
    Ready {
        /// How many records were folded.
        replayed: u64,
        /// How long folding took.
        took: Duration,
    },
    /// Say how the element is.
    Report {
        /// As it came.
        request: u64,
        /// How it is; epoch and trouble are the shell's to fill in.
        report: ElementReport,
    },
    /// A handler failed and the element is mended.
    Mended {
        /// What failed, with the input.
        cause: String,
    },
    /// The element cannot go on here.
    GiveUp {
        /// Why.
        cause: String,
        /// Whether another start may help.
        restart_may_help: bool,
    },
    /// The last checkpoint is taken; the element has stopped.
    Stop,
    /// Make all that is durable locally stable: [`Input::Flushed`] or [`Input::FlushFailed`].
    Flush,
    /// Tell people that records may be missing.
    ReportLost(Lost),
    /// Tell people that events were received which their source does not know of.
    ReportOrphaned(Orphaned),
    /// Ask the store whether we still own the element: [`Input::Proven`] or [`Input::NotProven`].
    Prove,
    /// Speak to whoever serves in the places of appliances, in its own words, and hear it; also again
    /// for what holds already.
    Reroute(Reconfiguration),
    /// Tell the element's configurator what is in force by the log.
    ShowReconfiguration {
        /// The place of the last reconfiguration in the log; 0 if there is none.
        version: u64,
        /// All of it.
        reconfiguration: Reconfiguration,
    },
    /// The state is there; the element waits for [`Input::ResumeOrdered`].
    ShowRestored,
}
