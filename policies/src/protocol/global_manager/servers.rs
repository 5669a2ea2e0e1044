//! How every server is, and what follows from its failing, coming back and leaving (paper, 3.4 and 4.2.4:
//! the failure of a server takes its fog node and its elements with it).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::elements::lives;
use super::ledger::Change;
use super::{Agent, ConnectionId, Effect, GlobalManager};
use crate::ids::EntityId;
use crate::notification::{EntityState, NoticeDecision};
use crate::protocol::control::{ElementState, ElementStatus, ServerState, ToAgent};
use crate::time::{Now, WallClock};

/// How long a server that failed repeatedly must stay before elements are placed there again; doubled
/// with each further failure.
const HOLD_OFF: Duration = Duration::from_secs(10);

/// The longest such wait.
const HOLD_OFF_MAX: Duration = Duration::from_secs(300);

/// How one server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: ServerState,
    pub(super) since: Option<WallClock>,
    pub(super) cause: Option<String>,
}

/// By server, how it is.
pub(super) type Standings = BTreeMap<EntityId, Standing>;

impl GlobalManager {
    pub(super) fn server_state(&self, server: &EntityId) -> ServerState {
        let standing = self.standings.get(server);
        standing.map(|standing| standing.state).unwrap_or_default()
    }

    /// Enters what is thought of a server, if that is news.
    pub(super) fn stands(
        &mut self,
        now: Now,
        server: &EntityId,
        state: ServerState,
        cause: Option<String>,
    ) {
        if let Some(standing) = self.standings.get_mut(server)
            && standing.state != state
        {
            *standing = Standing {
                state,
                since: Some(now.wall),
                cause,
            };
        }
    }

    /// A server failed, which was confirmed: its elements are recovered elsewhere.
    pub(super) fn server_failed(
        &mut self,
        now: Now,
        server: &EntityId,
        cause: String,
        effects: &mut Vec<Effect>,
    ) {
        self.stands(now, server, ServerState::Failed, Some(cause.clone()));
        let known = self.servers.contains_key(server);
        if !known || self.stopping.is_some() || !self.is_there(server) {
            return;
        }
        if !self.journal.is_open() || self.is_amnesty(now.monotonic) {
            self.recovery.accused.insert(server.clone(), cause);
            return;
        }
        let (failed, wait) = (EntityState::Failed, NoticeDecision::AwaitRecovery);
        self.change(now, server, failed, wait.clone(), &cause);
        let elements: Vec<EntityId> = self.recoverable_on(server).cloned().collect();
        let of_element = format!("its server {server} failed: {cause}");
        for element in &elements {
            let recovering = EntityState::Recovering;
            self.change(now, element, recovering, wait.clone(), &of_element);
        }
        self.root(now.monotonic, server, &cause);
        self.watch_elsewhere(server, effects);
        self.leave_behind(now, server, effects);
    }

    /// A server that counted as failed is there.
    pub(super) fn server_returned(
        &mut self,
        now: Now,
        server: &EntityId,
        effects: &mut Vec<Effect>,
    ) {
        if self.server_state(server) == ServerState::Failed {
            self.stands(now, server, ServerState::Returned, None);
        }
        self.recovery.accused.remove(server);
        if self.is_there(server) || !self.journal.is_open() {
            return;
        }
        let unplanned = self.recovery.roots.remove(server).is_some();
        let cause = match unplanned {
            true => "it is back before anything was placed elsewhere",
            false => "it is back",
        };
        self.change(now, server, EntityState::Up, NoticeDecision::Resume, cause);
        self.room_came(now.monotonic);
        // What it still runs and runs elsewhere by now is stopped.
        let hosted = self.recovery.hosting.get(server).into_iter().flatten();
        let concerned: BTreeSet<EntityId> =
            self.recoverable_on(server).chain(hosted).cloned().collect();
        for element in concerned {
            self.is_still_there(now, server, &element);
            self.reconcile(now, &element, effects);
        }
        self.resume_ready(effects);
    }

    /// An element that ran on a server all the while, unseen, is as it was.
    fn is_still_there(&mut self, now: Now, server: &EntityId, element: &EntityId) {
        let hosted = self.recovery.hosting.get(server);
        let placed = self.elements.get(element);
        let runs = placed.is_some_and(|placed| {
            placed.server == *server && placed.status.state == ElementState::Running
        });
        let hosted = hosted.is_some_and(|hosted| hosted.contains(element));
        if runs && hosted && *self.ledger.state(element) == EntityState::Recovering {
            let (up, resume) = (EntityState::Up, NoticeDecision::Resume);
            self.change(now, element, up, resume, "its server is back");
        }
    }

    /// The agent of a server stopped in order while the application goes on: its elements, which have
    /// taken their last checkpoints, go elsewhere.
    pub(super) fn server_left(&mut self, now: Now, server: &EntityId, effects: &mut Vec<Effect>) {
        if self.stopping.is_some() || !self.journal.is_open() || !self.is_there(server) {
            return;
        }
        let cause = "it left in order";
        let (stopped, wait) = (EntityState::Stopped, NoticeDecision::AwaitRecovery);
        self.change(now, server, stopped, wait.clone(), cause);
        self.recovery.hosting.remove(server);
        let elements: Vec<EntityId> = self.recoverable_on(server).cloned().collect();
        for element in &elements {
            let cause = format!("its server {server} left");
            self.change(now, element, EntityState::Recovering, wait.clone(), &cause);
        }
        self.root(now.monotonic, server, cause);
        self.watch_elsewhere(server, effects);
        self.leave_behind(now, server, effects);
    }

    /// What was to leave a server in order does not have to any more.
    fn leave_behind(&mut self, now: Now, server: &EntityId, effects: &mut Vec<Effect>) {
        let steps = self.ledger.plans().flat_map(|plan| &plan.steps);
        let leaving = steps.filter(|(_, step)| step.from == *server && !step.progress.is_over());
        let leaving: Vec<EntityId> = leaving.map(|(element, _)| element.clone()).collect();
        for element in leaving {
            self.reconcile(now, &element, effects);
        }
    }

    /// The agent of a server says all that runs there.
    pub(super) fn registered(
        &mut self,
        now: Now,
        server: &EntityId,
        connection: ConnectionId,
        hosted: Vec<ElementStatus>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(Some(agent)) = self.servers.get_mut(server) {
            agent.registered = true;
        }
        self.tell_of_callees(server, connection, effects);
        let living = hosted.iter().filter(|status| lives(&status.state));
        let living: Vec<EntityId> = living.map(|status| status.element.clone()).collect();
        self.recovery
            .hosting
            .insert(server.clone(), BTreeSet::new());
        if self.stopping.is_none() {
            self.server_returned(now, server, effects);
        }
        for status in hosted {
            self.took(now, server, status, effects);
        }
        self.appliances_of(now, server, connection, effects);
        if self.stopping.is_some() {
            effects.push(Effect::TellAgent(connection, ToAgent::Stop));
        } else {
            effects.push(Effect::Enrol {
                server: server.clone(),
                hosted: living,
            });
            self.room_came(now.monotonic);
            self.leave_behind(now, server, effects);
        }
        self.answer_ready(effects);
    }

    /// Whether a server counts as being there: it did not fail, and did not leave.
    pub(super) fn is_there(&self, server: &EntityId) -> bool {
        match self.ledger.state(server) {
            EntityState::Failed | EntityState::Stopped => false,
            EntityState::Up
            | EntityState::Recovering
            | EntityState::Replaced(_)
            | EntityState::Degraded
            | EntityState::Suspended => true,
        }
    }

    /// The elements that belong on a server and are to run.
    pub(super) fn recoverable_on(&self, server: &EntityId) -> impl Iterator<Item = &EntityId> {
        let here = self
            .elements
            .iter()
            .filter(move |(_, placed)| placed.server == *server);
        here.map(|(id, _)| id).filter(|id| !self.is_idle(id))
    }

    /// Why nothing is placed on a server now, if so.
    pub(super) fn closed_because(&self, now: Now, server: &EntityId) -> Option<String> {
        let (failures, last) = self.ledger.failures(server, now.wall);
        let since = self.ledger.standings().find(|(id, _)| *id == server);
        if !self.is_there(server) {
            let cause = since.map_or("", |(_, standing)| standing.cause.as_str());
            return Some(match *self.ledger.state(server) == EntityState::Stopped {
                true => cause.into(),
                false => format!("failed: {cause}"),
            });
        }
        if self.ledger.is_drained(server) {
            return Some("an operator drained it; `undrain` opens it again".into());
        }
        if self.ledger.is_cordoned(server) {
            return Some("too much failed to start there; `undrain` opens it again".into());
        }
        if let (2.., Some(last)) = (failures, last) {
            let exponent = u32::try_from(failures - 2).unwrap_or(u32::MAX);
            let wait = HOLD_OFF
                .saturating_mul(2_u32.saturating_pow(exponent))
                .min(HOLD_OFF_MAX);
            let been = now.wall.since(last);
            if been < wait {
                return Some(format!(
                    "it failed {failures} times lately; open again in {:?}",
                    wait.saturating_sub(been)
                ));
            }
        }
        None
    }

    /// The servers on which elements may be placed now.
    pub(super) fn open_servers(&self, now: Now) -> BTreeSet<EntityId> {
        let registered = |agent: &Option<Agent>| agent.as_ref().is_some_and(|a| a.registered);
        let servers = self.servers.iter().filter(|(_, agent)| registered(agent));
        let open = servers.filter(|(server, _)| self.closed_because(now, server).is_none());
        open.map(|(server, _)| server.clone()).collect()
    }

    /// Notes that a step failed on a server; after a few nothing more is placed there.
    pub(super) fn strike(&mut self, now: Now, server: &EntityId, reason: &str) {
        let (server, reason) = (server.clone(), reason.into());
        self.commit(now.wall, Change::Struck { server, reason });
    }

    /// The connection over which a server's registered agent is told what to do.
    pub(super) fn agent_of(&self, server: &EntityId) -> Option<ConnectionId> {
        let agent = self.servers.get(server)?.as_ref()?;
        agent.registered.then_some(agent.connection)
    }
}
