//! What the global manager is told, and what it asks for.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::ConnectionId;
use super::ledger::{Entry, Ledger};
use crate::ids::EntityId;
use crate::protocol::control::{Answer, Ask, Assignment, FromAgent, ToAgent};
use crate::protocol::lifecycle_manager::Deployment;

/// What the global manager is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// An agent said hello with the right token.
    AgentConnected {
        /// Over which connection.
        connection: ConnectionId,
        /// The agent's server.
        server: EntityId,
        /// The agent's process.
        pid: u32,
    },
    /// An agent said something.
    AgentTold {
        /// Over which connection.
        connection: ConnectionId,
        /// What.
        message: FromAgent,
    },
    /// An operator asked something.
    OperatorAsked {
        /// Over which connection.
        connection: ConnectionId,
        /// What.
        ask: Ask,
    },
    /// A connection ended.
    ConnectionLost(ConnectionId),
    /// The lifecycle manager wants an element to run.
    DeployOrdered {
        /// On which server.
        server: EntityId,
        /// What its agent must know.
        assignment: Assignment,
    },
    /// Whoever started the manager is gone, or wants it to stop.
    StopRequested,
    /// The manager owns its journal, under a term that is greater than any before. First of all inputs,
    /// as far as decisions go: none is taken before.
    Restored {
        /// The term.
        term: u64,
        /// What the journal's checkpoint says.
        ledger: Box<Ledger>,
        /// Up to which entry.
        folded: u64,
        /// The entries after it.
        entries: Vec<Entry>,
    },
    /// The journal is stable up to this entry.
    Journalled {
        /// Its number.
        upto: u64,
    },
    /// The store cannot take the journal at present; it is asked again.
    JournalDelayed {
        /// Its own words.
        reason: String,
    },
    /// The journal was folded into its checkpoint, or could not be: then it is tried again later.
    Folded {
        /// Up to which entry, if it was.
        upto: Option<u64>,
    },
}

/// What the global manager asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell an agent.
    TellAgent(ConnectionId, ToAgent),
    /// Answer an operator.
    Answer(ConnectionId, Answer),
    /// Refuse a connection and close it.
    Refuse {
        /// Which.
        connection: ConnectionId,
        /// Why, and what to do about it.
        reason: String,
    },
    /// Tell the lifecycle manager that a server is there, and what it runs.
    Enrol {
        /// Which server.
        server: EntityId,
        /// What runs there.
        hosted: Vec<EntityId>,
    },
    /// Everything has stopped: end the manager.
    Finish,
    /// Tell the lifecycle manager where an element belongs.
    Place(Deployment),
    /// Make these decisions stable, in this order. Answered by [`Input::Journalled`].
    Journal {
        /// The number of the first.
        first: u64,
        /// The decisions.
        entries: Vec<Entry>,
    },
    /// Have the journal's checkpoint say this. Answered by [`Input::Folded`].
    Fold {
        /// Up to which entry.
        upto: u64,
        /// What all decisions up to there amount to.
        ledger: Box<Ledger>,
    },
}
