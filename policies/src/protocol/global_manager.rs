//! The global manager: knows how every element is and decides what to do about failures
//! (paper, 4.2.2 to 4.2.4).
//!
//! What it decides is in its ledger, which is a fold of its journal in the stable store; what it knows
//! besides is what the agents report, and is complete again as soon as they have registered. A failed
//! element is restarted in place, or placed elsewhere, or done without.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::control::{Answer, ElementState, ElementStatus, FromAgent, PlacedStatus, ToAgent};
use appliances::Appliances;
use callees::Callees;
use journal::Journal;
use ledger::Ledger;
use notifying::Notifying;
pub use notifying::{DIGEST_INTERVAL, QUICK_REPAIR};
use recovering::Recovery;
use servers::{Standing, Standings};
use suspecting::Suspecting;

use crate::ids::EntityId;
use crate::machine::Machine;
use crate::model::{Isolation, Topology};
use crate::time::{Monotonic, Now};

mod answers;
mod appliances;
mod asking;
mod callees;
mod elements;
mod foreseeing;
mod input;
pub mod journal;
pub mod ledger;
mod moving;
mod notifying;
mod placing;
mod recovering;
mod restoring;
mod resuming;
mod servers;
mod standing;
mod suspecting;
#[cfg(test)]
mod tests;

pub use input::{Effect, Input};

/// How long agents may take to say how their elements are.
pub const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// How long agents may take to stop.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection of an agent or operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The global manager of one application.
#[derive(Debug)]
pub struct GlobalManager {
    allow_inject: bool,
    autonomy_after: Duration,
    isolation: BTreeMap<EntityId, Isolation>,
    servers: BTreeMap<EntityId, Option<Agent>>,
    elements: BTreeMap<EntityId, PlacedStatus>,
    topology: Topology,
    ledger: Ledger,
    journal: Journal,
    recovery: Recovery,
    waiting: restoring::Waiting,
    awaiting_ready: BTreeSet<ConnectionId>,
    queries: BTreeMap<u64, Query>,
    last_query: u64,
    stopping: Option<Stopping>,
    callees: Callees,
    appliances: Appliances,
    standings: Standings,
    suspecting: Suspecting,
    notifying: Notifying,
}

/// The agent of a server, while connected.
#[derive(Debug)]
struct Agent {
    connection: ConnectionId,
    pid: u32,
    /// Whether it has said all that runs there.
    registered: bool,
    stopped: bool,
}

/// A status query under way.
#[derive(Debug)]
struct Query {
    asked_by: ConnectionId,
    awaited: BTreeSet<ConnectionId>,
    deadline: Monotonic,
}

/// The application's end under way.
#[derive(Debug)]
struct Stopping {
    asked_by: BTreeSet<ConnectionId>,
    finish: bool,
    deadline: Monotonic,
}

impl GlobalManager {
    /// A manager of the servers of a topology and of its elements where they are placed.
    #[must_use]
    pub fn new(
        topology: &Topology,
        placement: &BTreeMap<EntityId, EntityId>,
        allow_inject: bool,
    ) -> Self {
        let servers = &topology.servers;
        let placed = placement.iter().map(|(element, server)| {
            let placed = PlacedStatus {
                server: server.clone(),
                status: unassigned(element),
            };
            (element.clone(), placed)
        });
        Self {
            allow_inject,
            autonomy_after: topology.detection.autonomy_after,
            isolation: servers
                .iter()
                .map(|(id, server)| (id.clone(), server.isolation))
                .collect(),
            servers: servers
                .keys()
                .map(|server| (server.clone(), None))
                .collect(),
            elements: placed.collect(),
            topology: topology.clone(),
            ledger: Ledger::default(),
            journal: Journal::default(),
            recovery: Recovery::default(),
            waiting: restoring::Waiting::default(),
            awaiting_ready: BTreeSet::new(),
            queries: BTreeMap::new(),
            last_query: 0,
            stopping: None,
            callees: Callees::new(topology),
            appliances: Appliances::new(topology),
            standings: servers
                .keys()
                .map(|server| (server.clone(), Standing::default()))
                .collect(),
            suspecting: Suspecting::new(topology),
            notifying: Notifying::new(topology),
        }
    }

    fn agent_connected(
        &mut self,
        connection: ConnectionId,
        server: &EntityId,
        pid: u32,
        effects: &mut Vec<Effect>,
    ) {
        let Some(agent) = self.servers.get_mut(server) else {
            let known: Vec<&str> = self.servers.keys().map(EntityId::as_str).collect();
            let reason = format!(
                "the topology has no server {server}; it has {}",
                known.join(", ")
            );
            return effects.push(Effect::Refuse { connection, reason });
        };
        let before = agent.replace(Agent {
            connection,
            pid,
            registered: false,
            stopped: false,
        });
        if let Some(before) = before {
            let reason = format!("another agent of {server} has connected since");
            effects.push(Effect::Refuse {
                connection: before.connection,
                reason,
            });
        }
        let orders = ToAgent::Orders {
            autonomy_after: self.autonomy_after,
            isolation: self.isolation.get(server).copied().unwrap_or_default(),
        };
        effects.push(Effect::TellAgent(connection, orders));
    }

    fn agent_told(
        &mut self,
        now: Now,
        connection: ConnectionId,
        told: FromAgent,
        effects: &mut Vec<Effect>,
    ) {
        let Some((server, _)) = agent_at(&mut self.servers, connection) else {
            return;
        };
        let server = server.clone();
        self.spoke(now, &server, effects);
        match told {
            FromAgent::Registered { hosted } => {
                self.registered(now, &server, connection, hosted, effects);
                self.notify_elements_of(now, &server);
            }
            FromAgent::Suspected {
                element,
                failure,
                cause,
            } => {
                let from = (connection, &server);
                self.element_suspected(now, from, element, failure, &cause, effects);
            }
            FromAgent::Status(status) => {
                self.took(now, &server, *status, effects);
                self.answer_ready(effects);
            }
            FromAgent::Escalated { element, cause } => {
                self.escalated(now, &server, &element, &cause);
            }
            FromAgent::Reported { request } => {
                if let Some(query) = self.queries.get_mut(&request) {
                    query.awaited.remove(&connection);
                }
                self.answer_queries(None, effects);
            }
            FromAgent::Stopped => {
                if let Some((_, agent)) = agent_at(&mut self.servers, connection) {
                    agent.stopped = true;
                }
                self.server_left(now, &server, effects);
                self.stop_further(effects);
            }
            FromAgent::Listening(callee) => {
                self.listening(&server, callee, effects);
            }
            FromAgent::Beats {
                address,
                incarnation,
            } => self.beats(&server, address, incarnation, effects),
            FromAgent::Noticed(noticed) => self.noticed(now, &server, noticed, effects),
            FromAgent::Between(message) => self.pass_on(message, effects),
            FromAgent::Lacking { element, entities } => self.lacking(now, &element, &entities),
            told @ (FromAgent::Judged { .. }
            | FromAgent::JudgedBridge { .. }
            | FromAgent::Reconfigured { .. }) => {
                self.shown(now, &told);
                self.told_of_appliances(told, effects);
            }
        }
    }

    fn connection_lost(&mut self, connection: ConnectionId, effects: &mut Vec<Effect>) {
        self.awaiting_ready.remove(&connection);
        self.waiting.ended(connection);
        for waiting in self.recovery.awaited.values_mut() {
            waiting.retain(|to| *to != connection);
        }
        self.queries.retain(|_, query| query.asked_by != connection);
        if let Some(stopping) = &mut self.stopping {
            stopping.asked_by.remove(&connection);
        }
        for agent in self.servers.values_mut() {
            agent.take_if(|agent| agent.connection == connection);
        }
        for query in self.queries.values_mut() {
            query.awaited.remove(&connection);
        }
        self.answer_queries(None, effects);
        self.stop_further(effects);
    }

    fn stop(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stopping.is_none() {
            effects.extend(
                self.connections()
                    .map(|agent| Effect::TellAgent(agent, ToAgent::Stop)),
            );
            self.stopping = Some(Stopping {
                asked_by: BTreeSet::new(),
                finish: false,
                deadline: now.monotonic + STOP_TIMEOUT,
            });
        }
    }

    /// Says that all has stopped, as soon as it has.
    fn stop_further(&mut self, effects: &mut Vec<Effect>) {
        let Some(stopping) = &mut self.stopping else {
            return;
        };
        if self.servers.values().flatten().any(|agent| !agent.stopped) {
            return;
        }
        let asked_by = core::mem::take(&mut stopping.asked_by);
        effects.extend(
            asked_by
                .into_iter()
                .map(|to| Effect::Answer(to, Answer::Stopped)),
        );
        if stopping.finish {
            stopping.finish = false;
            effects.push(Effect::Finish);
        }
    }

    fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.servers
            .values()
            .flatten()
            .map(|agent| agent.connection)
    }
}

impl GlobalManager {
    fn take(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::AgentConnected {
                connection,
                server,
                pid,
            } => self.agent_connected(connection, &server, pid, effects),
            Input::AgentTold {
                connection,
                message,
            } => self.agent_told(now, connection, message, effects),
            Input::OperatorAsked { connection, ask } => self.asked(now, connection, ask, effects),
            Input::ConnectionLost(connection) => self.connection_lost(connection, effects),
            Input::DeployOrdered { server, assignment } => {
                self.deploy_ordered(&server, assignment, effects);
            }
            Input::StopRequested => {
                self.stop(now, effects);
                if let Some(stopping) = &mut self.stopping {
                    stopping.finish = true;
                }
                self.stop_further(effects);
            }
            Input::Restored {
                term,
                ledger,
                folded,
                entries,
            } => self.restored(now, term, (folded, ledger), &entries, effects),
            Input::Journalled { upto } => self.journal.stable_upto(upto),
            Input::JournalDelayed { reason } => self.journal.delayed(reason),
            Input::Folded { upto } => self.journal.folded_upto(upto),
        }
        self.notify(now, effects);
    }

    /// What was decided goes to the journal, and what may leave leaves.
    fn pass(&mut self, now: Now, mut wanted: Vec<Effect>, effects: &mut Vec<Effect>) {
        self.answer_ended(&mut wanted);
        self.journal.pass(now.monotonic, wanted, effects);
        self.journal.further(&self.ledger, effects);
    }
}

impl Machine for GlobalManager {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        let mut wanted = Vec::new();
        if let Some(input) = self.defer(input) {
            self.take(now, input, &mut wanted);
        }
        self.pass(now, wanted, effects);
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        let queries = self.queries.values().map(|query| query.deadline);
        let finishing = self
            .stopping
            .iter()
            .filter(|s| s.finish || !s.asked_by.is_empty());
        queries
            .chain(finishing.map(|stopping| stopping.deadline))
            .chain(self.appliances.next_deadline())
            .chain(self.suspecting.next_deadline())
            .chain(self.journal.next_deadline())
            .chain(self.recovery_deadline())
            .chain(self.notifying.next_deadline())
            .min()
    }

    fn wake(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut wanted = Vec::new();
        self.woken(now, &mut wanted);
        self.pass(now, wanted, effects);
    }
}

impl GlobalManager {
    fn woken(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.answer_queries(Some(now.monotonic), effects);
        self.learn_no_longer(now.monotonic, effects);
        self.settle(now, effects);
        self.end_amnesty(now, effects);
        self.plan_further(now, effects);
        self.release_further(now, effects);
        self.notify(now, effects);
        if self
            .stopping
            .as_ref()
            .is_some_and(|s| s.deadline <= now.monotonic)
        {
            for agent in self.servers.values_mut().flatten() {
                agent.stopped = true;
            }
            self.stop_further(effects);
        }
    }
}

fn agent_at(
    servers: &mut BTreeMap<EntityId, Option<Agent>>,
    connection: ConnectionId,
) -> Option<(&EntityId, &mut Agent)> {
    let agents = servers
        .iter_mut()
        .filter_map(|(id, agent)| Some((id, agent.as_mut()?)));
    agents
        .into_iter()
        .find(|(_, agent)| agent.connection == connection)
}

fn unassigned(element: &EntityId) -> ElementStatus {
    ElementStatus {
        element: element.clone(),
        state: ElementState::Unassigned,
        pid: None,
        epoch: 0,
        restarts: 0,
        last_failure: None,
        report: None,
    }
}
