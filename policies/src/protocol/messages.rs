//! All that crosses a wire between processes.
//!
//! [`Link`] goes between elements, over a binding; [`ToHost`] and [`FromHost`] go between a fog
//! agent and the hosts of its elements.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::appliances::Reconfiguration;
use crate::ids::EntityId;
use crate::notification::{BetweenElements, EntityState, Newest};
use crate::physical_world::{Causes, Position};
use crate::state_saving::{Lost, Orphaned, Verdict};
use crate::time::WallClock;

/// One event on its way over a binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Where in the sender's history; with the sender's id, the identity.
    #[serde(rename = "i")]
    pub position: Position,
    /// The position sent on this binding just before.
    #[serde(rename = "a")]
    pub after: Position,
    /// When what it tells of occurred.
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

/// What the two ends of a binding tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// Sender to receiver: events in order. The sender keeps them until they are acknowledged.
    #[serde(rename = "e")]
    Events(Vec<Envelope>),
    /// Receiver to sender: everything up to here is in the receiver's log.
    #[serde(rename = "a")]
    Acknowledged(Position),
    /// Receiver to sender: the receiver is back, or misses something; send again all after here.
    #[serde(rename = "r")]
    Resume(Position),
}

/// What two hosts tell each other on a connection of their own, which no broker carries.
///
/// The host of the caller connects and says hello; from the welcome on both say [`Direct::Link`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direct {
    /// First message of whoever connects.
    Hello {
        /// The protocol it speaks, [`PROTOCOL_VERSION`].
        version: u32,
        /// The application.
        application: EntityId,
        /// The element that calls.
        from: EntityId,
        /// The epoch under which it runs.
        epoch: u64,
        /// The element that it wants to call.
        to: EntityId,
        /// The secret that admits to the elements of the application.
        token: String,
    },
    /// The hello is accepted.
    Welcome {
        /// The epoch under which the callee runs.
        epoch: u64,
    },
    /// The connection is refused and closed.
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
    /// What one end of a link tells the other.
    Link {
        /// Which link.
        link: EntityId,
        /// What.
        message: Link,
    },
}

/// Where an element takes calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectAddress {
    /// The path of a Unix socket, for callers on the same server.
    pub unix: Option<String>,
    /// `host:port`, for all others.
    pub tcp: Option<String>,
}

/// An element that takes calls, as its callers must know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callee {
    /// Which element.
    pub element: EntityId,
    /// The epoch under which it runs: of two addresses the one of the higher epoch is true.
    pub epoch: u64,
    /// Where it listens.
    pub address: DirectAddress,
}

/// Why a host is told to run an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartCause {
    /// First start of the application, or an operator's wish.
    Deployed,
    /// The host that ran it failed.
    Recovered,
}

/// Agent to host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost {
    /// Run this element. `spec` is for the host's shell to decode: kind, state, bindings, limits.
    Assign {
        /// Which element.
        element: EntityId,
        /// The highest epoch that anybody ever saw for it; the store raises above it.
        epoch_floor: u64,
        /// Why.
        cause: StartCause,
        /// The epoch of the last owner whose end the agent has seen, if it has: if that is the owner
        /// before, nobody else can act on the world any more.
        ended_epoch: Option<u64>,
        /// Everything about it that the topology says, encoded by the shell.
        #[serde(with = "serde_bytes")]
        spec: Vec<u8>,
        /// Whether it waits, restored, for [`ToHost::Resume`].
        resume_awaited: bool,
    },
    /// The spare may be told to run this element, or one like it: what can be done ahead, such as
    /// connecting to the store, is done now. Nothing is claimed.
    Prepare {
        /// As in [`ToHost::Assign`].
        #[serde(with = "serde_bytes")]
        spec: Vec<u8>,
    },
    /// Say how the element is, in a [`FromHost::Report`].
    Report {
        /// Given back in the answer.
        request: u64,
    },
    /// Drain, take a last checkpoint, stop.
    Stop {
        /// Which element.
        element: EntityId,
    },
    /// For drills: the handler of the next event panics. Refused unless injection is allowed.
    Panic {
        /// Which element.
        element: EntityId,
    },
    /// An element that others call listens here.
    Reach(Callee),
    /// A person says what became of a command of unknown fate.
    Judge(Judgement),
    /// Who serves in the places of the element's appliances, and how those around it are.
    Reconfigure {
        /// Which element.
        element: EntityId,
        /// Who, and how.
        reconfiguration: Reconfiguration,
    },
    /// What this restored element requires is there: it goes on.
    Resume {
        /// Which element.
        element: EntityId,
    },
    /// Answer, to show that the process works.
    Ping {
        /// Given back in the answer.
        number: u64,
    },
    /// The configurator of another element says something to that of one of the host's.
    Between(BetweenElements),
    /// What is the newest of entities of which the manager told somebody something.
    Digest(BTreeMap<EntityId, Newest>),
}

/// What a person says of a command of unknown fate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Whose command.
    pub element: EntityId,
    /// The flow, as in [`UnknownCommand`].
    pub link: String,
    /// The command, as in [`UnknownCommand`].
    pub position: Position,
    /// What is held of it.
    pub verdict: Verdict,
}

/// How long each part of a start or repair took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartPhases {
    /// Assignment to ownership and saved state in hand.
    pub restored: Duration,
    /// Checkpoint decoded and log folded.
    pub replayed: Duration,
    /// Bindings open, element live.
    pub resumed: Duration,
    /// How many records were folded.
    pub records_replayed: u64,
}

/// How one element is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementReport {
    /// Its fencing epoch.
    pub epoch: u64,
    /// The index of its last logged record.
    pub head: u64,
    /// The index up to which its last checkpoint covers the log.
    pub checkpoint: u64,
    /// When that checkpoint was taken; `None` before the first.
    pub checkpoint_at: Option<WallClock>,
    /// From its being due until the store had it: encoding, comparing and writing.
    pub checkpoint_took: Option<Duration>,
    /// Handler failures mended inside the host since it started.
    pub panics: u64,
    /// Inputs given up.
    pub dead_letters: u64,
    /// Duplicates dropped.
    pub duplicates: u64,
    /// Outputs that no receiver has acknowledged yet.
    pub unacknowledged: u64,
    /// Inputs waiting to be logged or handled.
    pub queued: u64,
    /// Whether the store or the broker is out of reach, in plain words.
    pub trouble: Option<String>,
    /// Commands that must not be repeated and of which nobody knows whether they were carried out.
    #[serde(default)]
    pub unknown: Vec<UnknownCommand>,
    /// Records that were delivered and are only in the local log.
    #[serde(default)]
    pub behind: u64,
    /// What was lost with a server, oldest first; the newest few.
    #[serde(default)]
    pub losses: Vec<Lost>,
    /// What was received of sources that lost it, oldest first; the newest few.
    #[serde(default)]
    pub orphaned: Vec<Orphaned>,
    /// How it serves others, by how those around it are.
    #[serde(default)]
    pub effective: EntityState,
    /// Why: by neighbour, how that one is.
    #[serde(default)]
    pub because: Vec<(EntityId, EntityState)>,
}

/// A command of unknown fate: a person has to say what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownCommand {
    /// The flow.
    pub link: String,
    /// The appliance at its end; the binding, where that has no name.
    pub appliance: Option<EntityId>,
    /// The command.
    pub position: Position,
    /// Its identity, as a device and a person see it.
    pub id: String,
    /// What it asks for.
    pub text: String,
}

/// Host to agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromHost {
    /// First message: this process is ready to be given an element.
    Hello {
        /// Its process id.
        pid: u32,
        /// The protocol it speaks, [`PROTOCOL_VERSION`].
        version: u32,
    },
    /// The element is restored and handles events.
    Ready {
        /// Which element.
        element: EntityId,
        /// The epoch under which it runs.
        epoch: u64,
        /// How long the start took.
        phases: StartPhases,
    },
    /// The element handled its first new event since it became ready.
    FirstEvent {
        /// Which element.
        element: EntityId,
    },
    /// A handler failed; the host mended it by itself.
    Mended {
        /// Which element.
        element: EntityId,
        /// What failed, with the event and the place.
        cause: String,
        /// From the failure until the element was live again.
        took: Duration,
    },
    /// An answer to [`ToHost::Report`].
    Report {
        /// The request it answers.
        request: u64,
        /// Which element.
        element: EntityId,
        /// How it is.
        report: ElementReport,
    },
    /// The element cannot go on here; the host is about to exit.
    GivenUp {
        /// Which element.
        element: EntityId,
        /// Why, for people.
        cause: String,
        /// Whether another start may help. It does not where stored data is damaged, the spec is
        /// bad, or another owner holds the element.
        restart_may_help: bool,
    },
    /// The element took its last checkpoint and stopped.
    Stopped {
        /// Which element.
        element: EntityId,
    },
    /// The element takes calls here.
    Listening(Callee),
    /// Who serves in the places of the element's appliances, and how those around it are, as its log has
    /// it.
    Reconfigured {
        /// Which element.
        element: EntityId,
        /// Who, and how.
        reconfiguration: Reconfiguration,
    },
    /// The element's state is there, and it waits for [`ToHost::Resume`]: it handles nothing, and
    /// nothing leaves.
    Restored {
        /// Which element.
        element: EntityId,
        /// The epoch under which it runs.
        epoch: u64,
    },
    /// An answer to [`ToHost::Ping`].
    Pong {
        /// That of the question.
        number: u64,
        /// How long its slowest handler may take: an answer may take as long.
        within: Duration,
    },
    /// The configurator of one of the host's elements says something to that of another.
    Between(BetweenElements),
    /// The element does not know the manager's newest word about these.
    Lacking {
        /// Which element.
        element: EntityId,
        /// Which entities, all of them around it.
        entities: Vec<EntityId>,
    },
}

/// The version of all messages of this module; both ends must speak the same.
pub const PROTOCOL_VERSION: u32 = 1;
