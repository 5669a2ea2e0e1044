//! The control plane: what the global manager, the fog agents and an operator tell each other.
//!
//! It has its own connections, because the application's broker may be what failed. What an agent
//! says of an element is its whole present status, so a report that is lost or repeated does no
//! harm, and an agent that comes back tells everything by registering again.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::appliances::Reconfiguration;
use super::messages::{Callee, ElementReport, Judgement, StartCause, StartPhases};
pub use super::questions::{Answer, Ask, ManagerStanding};
use crate::detection::{ApplianceVerdict, ApplianceWatch, BridgeVerdict, MonitorOrder, Noticed};
use crate::ids::EntityId;
use crate::model::Isolation;
use crate::notification::{BetweenElements, Newest};
use crate::restart::RestartPolicy;
use crate::time::WallClock;

/// The version of the control plane; both ends must speak the same.
pub const CONTROL_VERSION: u32 = 1;

/// How many entities one status frame carries at most, so that it fits the frame limit.
pub const STATUS_ENTITIES_MAX: usize = 64;

/// Whoever opened the connection, to the manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToManager {
    /// First message.
    Hello {
        /// The protocol it speaks, [`CONTROL_VERSION`].
        version: u32,
        /// The application's secret, from a file that only its user may read.
        token: String,
        /// Who speaks.
        peer: Peer,
    },
    /// From an agent.
    Agent(FromAgent),
    /// From an operator.
    Operator(Ask),
}

/// Who opened a connection to the manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// The fog agent of a server.
    Agent {
        /// Which server.
        server: EntityId,
        /// The agent's process id.
        pid: u32,
    },
    /// The command line.
    Operator,
}

/// The manager, to whoever opened the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromManager {
    /// The hello is accepted.
    Welcome,
    /// The connection is refused and closed; trying again will not help.
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
    /// To an agent.
    Agent(ToAgent),
    /// To an operator.
    Operator(Answer),
}

/// One element for an agent to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which element.
    pub element: EntityId,
    /// The highest epoch that anybody ever saw for it.
    pub epoch_floor: u64,
    /// Why it starts.
    pub cause: StartCause,
    /// How often it may fail.
    pub restart: RestartPolicy,
    /// Everything about it that its host must know.
    #[serde(with = "serde_bytes")]
    pub spec: Vec<u8>,
    /// Whether it waits, restored, until it is told to resume.
    pub resume_awaited: bool,
}

/// Manager to agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// How to work; the first message after the welcome.
    Orders {
        /// How long the manager's decisions are awaited.
        autonomy_after: Duration,
        /// Whether elements share a host process.
        isolation: Isolation,
    },
    /// Run this element. An element that runs already goes on as it is.
    Assign(Assignment),
    /// What to do about a reported suspicion.
    Decided {
        /// Which element.
        element: EntityId,
        /// Which of its failures.
        failure: u64,
        /// What to do.
        decision: Decision,
    },
    /// Say how every element is.
    Report {
        /// Given back in the answers.
        request: u64,
    },
    /// For drills: break an element.
    Inject {
        /// Which element.
        element: EntityId,
        /// How.
        injection: Injection,
    },
    /// Stop all elements with a last checkpoint, then the agent.
    Stop,
    /// A person says what became of a command of unknown fate.
    Judge(Judgement),
    /// An element that one of the agent's elements calls listens here.
    Reach(Callee),
    /// Watch these appliances, besides those that are watched.
    Watch {
        /// Which, and by which signals.
        appliances: Vec<ApplianceWatch>,
        /// How to hear them, encoded by the shell.
        #[serde(with = "serde_bytes")]
        access: Vec<u8>,
    },
    /// Who serves in the places of the appliances of an element, or how those around it are.
    Reconfigure {
        /// Which element.
        element: EntityId,
        /// Who, and how.
        reconfiguration: Reconfiguration,
    },
    /// Observe other servers.
    Monitor(MonitorOrder),
    /// Run this element no more: it belongs elsewhere, or nowhere.
    Release {
        /// Which element.
        element: EntityId,
        /// Whether it takes a last checkpoint. Otherwise its host is killed: another owner has claimed
        /// the element, or is about to.
        in_order: bool,
    },
    /// What this restored element requires is there: it goes on.
    Resume {
        /// Which element.
        element: EntityId,
    },
    /// What this restored element requires is being recovered too: it is told when to resume.
    Await {
        /// Which element.
        element: EntityId,
    },
    /// The configurator of an element elsewhere says something to that of one of the agent's.
    Between(BetweenElements),
    /// What is the newest of entities of which the manager told somebody something.
    Digest(BTreeMap<EntityId, Newest>),
}

/// What is done about a failed element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Start it again on the same server.
    RestartInPlace,
    /// Leave it.
    Leave {
        /// Why.
        reason: String,
    },
    /// Start it again on the same server; restored, it waits until it is told to resume.
    RestartAndAwait,
}

/// A fault for a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Injection {
    /// The handler of the next event panics.
    Panic,
    /// The host process is killed.
    Kill,
    /// The host process is stopped (SIGSTOP), as if it hung.
    Hang,
}

/// Agent to manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    /// First message after the welcome, and after each reconnection: all that runs here.
    Registered {
        /// Every element that was ever assigned here.
        hosted: Vec<ElementStatus>,
    },
    /// An element failed; the agent waits for a decision, but not for long.
    Suspected {
        /// Which element.
        element: EntityId,
        /// Which of its failures.
        failure: u64,
        /// What was seen.
        cause: String,
    },
    /// The status of an element changed, or was asked for.
    Status(Box<ElementStatus>),
    /// Every element was reported, or did not answer in time.
    Reported {
        /// The request that this ends.
        request: u64,
    },
    /// All elements have stopped; the agent is about to.
    Stopped,
    /// An element of the agent takes calls here; said again after each registration.
    Listening(Callee),
    /// What is thought of an appliance; said again before each registration.
    Judged {
        /// Which.
        appliance: EntityId,
        /// What.
        verdict: ApplianceVerdict,
    },
    /// What is thought of a bridge; said again before each registration.
    JudgedBridge {
        /// The topic on which it speaks.
        bridge: String,
        /// What.
        verdict: BridgeVerdict,
    },
    /// Who serves in the places of an element's appliances, and how those around it are, as its log has
    /// it; said again before each registration.
    Reconfigured {
        /// Which element.
        element: EntityId,
        /// Who, and how.
        reconfiguration: Reconfiguration,
    },
    /// Where the agent hears heartbeats, and as what it sends its own; said again after each
    /// registration.
    Beats {
        /// Its address, `host:port`.
        address: String,
        /// Higher than that of every agent of the server before.
        incarnation: u64,
    },
    /// What the agent noticed of another server; a suspicion is said again after each registration.
    Noticed(Noticed),
    /// An element cannot be kept running on this server: it failed too often, or no process stays
    /// alive. Elsewhere it may run.
    Escalated {
        /// Which element.
        element: EntityId,
        /// What happened, for people.
        cause: String,
    },
    /// The configurator of one of the agent's elements says something to that of one elsewhere.
    Between(BetweenElements),
    /// An element does not know the manager's newest word about these.
    Lacking {
        /// Which element.
        element: EntityId,
        /// Which entities, all of them around it.
        entities: Vec<EntityId>,
    },
}

/// How far an element is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ElementState {
    /// Its server's agent has not registered yet.
    Unassigned,
    /// It waits for a host process.
    Waiting,
    /// Its host restores it.
    Starting,
    /// It handles events.
    Running,
    /// It failed; the decision is awaited.
    Suspected,
    /// It failed; it starts again after a wait.
    BackingOff,
    /// It takes its last checkpoint.
    Stopping,
    /// It stopped in order.
    Stopped,
    /// It is given up.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// Its state is there; it waits until those that it requires are there too.
    Restored,
}

/// All that an agent knows of an element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementStatus {
    /// Which element.
    pub element: EntityId,
    /// How far it is.
    pub state: ElementState,
    /// Its host process.
    pub pid: Option<u32>,
    /// The highest epoch seen of it.
    pub epoch: u64,
    /// How often it was started again.
    pub restarts: u32,
    /// What last failed of it.
    pub last_failure: Option<Failure>,
    /// What its host last said of it.
    pub report: Option<ElementReport>,
}

/// One failure of an element, and its repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The first failure that this agent saw of the element is 1.
    pub number: u64,
    /// What was seen, for people.
    pub cause: String,
    /// When it was seen.
    pub seen_at: WallClock,
    /// Who decided what to do; `None` while that is open.
    pub decided_by: Option<Decider>,
    /// How long each part of the repair took, as far as it got.
    pub phases: RepairPhases,
}

/// Who decided about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decider {
    /// The global manager.
    Manager,
    /// The agent: the manager did not answer in time, or the element failed too often.
    Agent,
    /// The host itself, which mended the failure inside the process.
    Host,
}

/// How long each part of a repair took; `None` for what has not happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairPhases {
    /// From the fault to its being seen; known only for injected faults.
    pub seen: Option<Duration>,
    /// From there to the decision.
    pub decided: Option<Duration>,
    /// From there until a host process had the element, backoff included.
    pub started: Option<Duration>,
    /// What the host needed: restored, replayed, resumed.
    pub host: Option<StartPhases>,
    /// From its being seen until the agent knew that the element runs.
    pub repaired: Option<Duration>,
    /// From there until the element had handled its first new event.
    pub first_event: Option<Duration>,
}

/// An element's status with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedStatus {
    /// The server it is placed on.
    pub server: EntityId,
    /// How it is.
    pub status: ElementStatus,
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Which server.
    pub server: EntityId,
    /// The process id of its agent; `None` while it is not connected.
    pub agent: Option<u32>,
    /// What is thought of it.
    pub state: ServerState,
    /// Since when; `None` if it never was anything else.
    pub since: Option<WallClock>,
    /// Why, for people.
    pub cause: Option<String>,
    /// Who observes it.
    pub observers: Vec<EntityId>,
    /// Until when the certificate holds that its agent has shown; `None` where a token admits it, or
    /// while it is not connected.
    #[serde(default)]
    pub certificate_until: Option<WallClock>,
}

/// What the manager thinks of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// Its agent has never been heard of.
    #[default]
    Awaited,
    /// It is there.
    Up,
    /// Its heartbeats stay away; others are asked.
    Suspected,
    /// It failed.
    Failed,
    /// It failed, and is there again.
    Returned,
}
