//! What operators ask the global manager, and what it answers.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::appliances::{ApplianceStatus, ApplicationState};
use super::control::{Injection, PlacedStatus, ServerStatus};
use super::forecast::Forecast;
use super::global_manager::ledger::Entry;
use super::messages::Judgement;
use crate::ids::EntityId;

/// Operator to manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// How is everything?
    Status,
    /// Answer once every element runs or is given up.
    AwaitReady,
    /// Break an element, for a drill.
    Inject {
        /// Which element.
        element: EntityId,
        /// How.
        injection: Injection,
    },
    /// Stop the application; answer when every agent has stopped.
    Stop,
    /// Say what became of a command of unknown fate.
    Judge(Judgement),
    /// How are the appliances?
    Appliances,
    /// A server is lost: its elements are to run elsewhere. A person may know before any detector.
    DeclareLost {
        /// Which server.
        server: EntityId,
    },
    /// Have an element run on another server, with its state. Answered when it does, or cannot.
    Move {
        /// Which element.
        element: EntityId,
        /// Where to.
        server: EntityId,
    },
    /// Whether a server is to be without elements. Answered when it is.
    Drain {
        /// Which server.
        server: EntityId,
        /// `false` lets elements be placed there again.
        drained: bool,
    },
    /// What was decided and repaired, as far back as is kept.
    Timeline {
        /// Of this entity only.
        entity: Option<EntityId>,
    },
    /// How is the manager itself, and what is it about to do?
    Standing,
    /// What would become of everything if this server, channel, element or appliance failed now?
    IfFails(EntityId),
}

/// Manager to operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A part of the status; the last part says so.
    Status {
        /// Some of the elements, in the order of their ids.
        elements: Vec<PlacedStatus>,
        /// Some of the servers, in the order of their ids.
        servers: Vec<ServerStatus>,
        /// Whether more follows.
        more: bool,
    },
    /// Every element runs, except those named.
    Ready {
        /// How many run.
        running: u32,
        /// Those that were given up, with the reason.
        failed: Vec<(EntityId, String)>,
    },
    /// The drill is under way.
    Injected,
    /// The word is passed on to the element.
    Judged,
    /// Every agent has stopped.
    Stopped,
    /// A part of the appliances; the last part says so.
    Appliances {
        /// Some of them, in the order of their ids.
        appliances: Vec<ApplianceStatus>,
        /// How the application is.
        application: ApplicationState,
        /// Whether more follows.
        more: bool,
    },
    /// It cannot be done.
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
    /// It is decided, and carried out as far as it can be.
    Done {
        /// What became of each element that it concerned, for people.
        outcomes: Vec<(EntityId, String)>,
    },
    /// A part of the timeline, oldest first; the last part says so.
    Timeline {
        /// Some of the decisions.
        entries: Vec<Entry>,
        /// Whether more follows.
        more: bool,
    },
    /// How the manager is.
    Standing(ManagerStanding),
    /// What would become of everything.
    Foreseen(Box<Forecast>),
}

/// How the manager itself is, and what it is about to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerStanding {
    /// Under which term it decides; `None` while it has not got its journal from the store.
    pub term: Option<u64>,
    /// Why decisions wait, for people, if the store does not take them.
    pub journal: Option<String>,
    /// Servers on which nothing is placed now, with the reason.
    pub servers: Vec<(EntityId, String)>,
    /// How many plans are being carried out.
    pub plans: u32,
}
