//! How a manager that was started again takes up what the one before had decided (paper, 4.1, where the
//! manager never fails).
//!
//! Until it has its journal it decides nothing: what agents say waits. Then the agents have a while to
//! come back before a server that is silent counts as failed: it may have been the manager that was away.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::ledger::{Entry, Ledger};
use super::{ConnectionId, Effect, GlobalManager, Input};
use crate::protocol::control::{FromAgent, PlacedStatus, ServerState};
use crate::time::{Monotonic, Now};

/// How long agents have to come back to a manager that was started again.
pub(super) const AMNESTY: Duration = Duration::from_millis(1_500);

/// How many reports of agents wait for the journal. Of those beyond, only registrations are kept: an
/// agent's later reports repeat what earlier ones said.
const WAITING_MAX: usize = 1_024;

/// What waits for the journal.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    told: VecDeque<(ConnectionId, FromAgent)>,
}

impl Waiting {
    /// A connection ended: what came over it is void, its agent registers anew.
    pub(super) fn ended(&mut self, connection: ConnectionId) {
        self.told.retain(|(from, _)| *from != connection);
    }
}

impl GlobalManager {
    /// Keeps what needs the journal until that is there; gives back everything else.
    pub(super) fn defer(&mut self, input: Input) -> Option<Input> {
        if self.journal.is_open() {
            return Some(input);
        }
        match input {
            Input::AgentTold {
                connection,
                message,
            } => {
                let matters = matches!(message, FromAgent::Registered { .. });
                if matters || self.waiting.told.len() < WAITING_MAX {
                    self.waiting.told.push_back((connection, message));
                }
                None
            }
            Input::AgentConnected { .. }
            | Input::OperatorAsked { .. }
            | Input::ConnectionLost(_)
            | Input::DeployOrdered { .. }
            | Input::StopRequested
            | Input::Restored { .. }
            | Input::Journalled { .. }
            | Input::JournalDelayed { .. }
            | Input::Folded { .. } => Some(input),
        }
    }

    /// The journal is there: everything holds as it was decided, and what was not carried out goes on.
    pub(super) fn restored(
        &mut self,
        now: Now,
        term: u64,
        folded: (u64, Box<Ledger>),
        entries: &[Entry],
        effects: &mut Vec<Effect>,
    ) {
        let (upto, ledger) = folded;
        self.ledger = *ledger;
        for entry in entries {
            self.ledger.apply(entry);
        }
        for (_, standing) in self.ledger.standings() {
            self.notifying.restored(&standing.notice);
        }
        self.journal.opened(term, upto, upto + entries.len() as u64);
        let was_there = self.ledger.timeline().next().is_some();
        self.recovery.amnesty_until = was_there.then(|| now.monotonic + AMNESTY);
        let places: Vec<_> = self
            .ledger
            .places()
            .map(|(element, place)| (element.clone(), place.clone()))
            .collect();
        for (element, place) in places {
            if let Some(placed) = self.elements.get_mut(&element) {
                placed.server = place.server.clone();
                placed.status.epoch = placed.status.epoch.max(place.fence);
            }
            self.show_idle(&element);
            self.reconcile(now, &element, effects);
        }
        self.place_the_unplaced(now);
        for (connection, told) in core::mem::take(&mut self.waiting.told) {
            self.agent_told(now, connection, told, effects);
        }
        self.plan_for_the_stranded(now);
    }

    /// Elements for which there was no room at first are looked after like those that lost theirs.
    fn place_the_unplaced(&mut self, now: Now) {
        let Some(somewhere) = self.servers.keys().next().cloned() else {
            return;
        };
        let known = |id: &&crate::ids::EntityId| !self.elements.contains_key(*id);
        let unplaced: Vec<_> = self
            .topology
            .elements
            .keys()
            .filter(known)
            .cloned()
            .collect();
        for element in unplaced {
            let placed = PlacedStatus {
                server: somewhere.clone(),
                status: super::unassigned(&element),
            };
            self.elements.insert(element.clone(), placed);
            if self.ledger.place(&element).is_none() {
                self.root(now.monotonic, &element, "it has no place yet");
            }
        }
    }

    /// What had failed and was not planned for when the manager before ended is planned for now.
    fn plan_for_the_stranded(&mut self, now: Now) {
        let failed = |server: &&crate::ids::EntityId| {
            *self.ledger.state(server) == crate::notification::EntityState::Failed
        };
        let servers: Vec<_> = self.servers.keys().filter(failed).cloned().collect();
        for server in servers {
            let cause = self.ledger.standings().find(|(id, _)| **id == server);
            let cause = cause.map_or_else(Default::default, |(_, standing)| standing.cause.clone());
            self.stands(now, &server, ServerState::Failed, Some(cause.clone()));
            if self.recoverable_on(&server).next().is_some() {
                self.root(now.monotonic, &server, &cause);
            }
        }
    }

    /// Whether agents still have time to come back.
    pub(super) fn is_amnesty(&self, now: Monotonic) -> bool {
        self.recovery.amnesty_until.is_some_and(|until| now < until)
    }

    /// The time to come back is over: who was said to have failed, and is still away, has failed.
    pub(super) fn end_amnesty(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let until = &mut self.recovery.amnesty_until;
        if until.take_if(|until| *until <= now.monotonic).is_none() {
            return;
        }
        for (server, cause) in core::mem::take(&mut self.recovery.accused) {
            if self.agent_of(&server).is_none() {
                self.server_failed(now, &server, cause, effects);
            }
        }
    }
}
