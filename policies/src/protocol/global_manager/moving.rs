//! What operators want of the lifecycle: an element on another server, a server without elements.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::ledger::Change;
use super::{ConnectionId, Effect, GlobalManager};
use crate::ids::EntityId;
use crate::notification::{EntityState, NoticeDecision};
use crate::placement::{Budget, Placement, Problem, place};
use crate::protocol::control::{Answer, ElementState};
use crate::time::Now;

impl GlobalManager {
    /// Has an element run on another server.
    ///
    /// # Errors
    /// For people: why it cannot.
    pub(super) fn move_element(
        &mut self,
        now: Now,
        by: ConnectionId,
        element: &EntityId,
        server: &EntityId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        self.decides_now()?;
        let placed = self.elements.get(element);
        let placed = placed.ok_or_else(|| format!("the topology has no element {element}"))?;
        if !self.servers.contains_key(server) {
            return Err(format!("the topology has no server {server}"));
        }
        if placed.server == *server {
            return Err(format!("{element} belongs on {server} already"));
        }
        if placed.status.state != ElementState::Running {
            return Err(format!("{element} does not run now; move it when it does"));
        }
        if let Some(reason) = self.closed_because(now, server) {
            return Err(format!("{server} takes no elements: {reason}"));
        }
        if self.agent_of(server).is_none() {
            return Err(format!("the agent of {server} is away"));
        }
        let open = BTreeSet::from([element.clone()]);
        let found = self.places_without_harm(&open, BTreeSet::from([server.clone()]));
        if let Some(why) = found.unplaced.get(element) {
            return Err(format!("{element} cannot run on {server}: {why}"));
        }
        let cause = "an operator moves it";
        let moved = BTreeMap::from([(element.clone(), server.clone())]);
        let root = BTreeMap::from([(element.clone(), cause.into())]);
        self.carry(now, by, root, moved, effects);
        Ok(())
    }

    /// Has a server be without elements, or lets it take some again.
    ///
    /// # Errors
    /// For people: why it cannot.
    pub(super) fn drain(
        &mut self,
        now: Now,
        by: ConnectionId,
        server: &EntityId,
        drained: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        self.decides_now()?;
        if !self.servers.contains_key(server) {
            return Err(format!("the topology has no server {server}"));
        }
        let change = Change::Drained {
            server: server.clone(),
            drained,
        };
        if !drained {
            self.commit(now.wall, change);
            self.room_came(now.monotonic);
            let outcomes = Vec::new();
            effects.push(Effect::Answer(by, Answer::Done { outcomes }));
            return Ok(());
        }
        let mut open = self.open_servers(now);
        open.remove(server);
        let displaced: BTreeSet<EntityId> = self.recoverable_on(server).cloned().collect();
        let found = self.places_without_harm(&displaced, open);
        if let Some((element, why)) = found.unplaced.iter().next() {
            return Err(format!(
                "{element} has no place elsewhere: {why}; nothing was moved"
            ));
        }
        self.commit(now.wall, change);
        if displaced.is_empty() {
            let outcomes = Vec::new();
            effects.push(Effect::Answer(by, Answer::Done { outcomes }));
            return Ok(());
        }
        let root = BTreeMap::from([(server.clone(), "an operator drains it".into())]);
        let placed = displaced
            .iter()
            .filter_map(|element| Some((element.clone(), found.hosts.get(element)?.clone())));
        self.carry(now, by, root, placed.collect(), effects);
        Ok(())
    }

    /// A person says that a server is lost.
    ///
    /// # Errors
    /// For people: why that is not taken.
    pub(super) fn declare_lost(
        &mut self,
        now: Now,
        server: &EntityId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        self.decides_now()?;
        if !self.servers.contains_key(server) {
            return Err(format!("the topology has no server {server}"));
        }
        if !self.is_there(server) {
            return Err(format!("{server} counts as lost already"));
        }
        // A person's word needs no confirmation, and no time to come back.
        self.recovery.amnesty_until = None;
        let cause = "a person says that it is lost".into();
        self.server_failed(now, server, cause, effects);
        Ok(())
    }

    /// Places for elements that somebody wants elsewhere: no other element has to go for that.
    fn places_without_harm(
        &self,
        open: &BTreeSet<EntityId>,
        servers: BTreeSet<EntityId>,
    ) -> Placement {
        let problem = Problem {
            evictable: BTreeSet::new(),
            movable: BTreeSet::new(),
            ..self.problem(open, servers)
        };
        place(&problem, Budget::FAILOVER)
    }

    fn decides_now(&self) -> Result<(), String> {
        if self.stopping.is_some() {
            return Err("the application is stopping".into());
        }
        if !self.journal.is_open() {
            return Err(
                "the manager has not got its journal from the store yet; ask again soon".into(),
            );
        }
        match self.journal.trouble() {
            Some((trouble, _)) => Err(format!(
                "the manager cannot make decisions stable at present: {trouble}"
            )),
            None => Ok(()),
        }
    }

    /// Moves elements that run, with their states.
    fn carry(
        &mut self,
        now: Now,
        by: ConnectionId,
        roots: BTreeMap<EntityId, String>,
        placed: BTreeMap<EntityId, EntityId>,
        effects: &mut Vec<Effect>,
    ) {
        let cause = roots.values().next().cloned().unwrap_or_default();
        let mut steps = BTreeMap::new();
        for (element, server) in placed {
            let (state, wait) = (EntityState::Recovering, NoticeDecision::AwaitRecovery);
            self.change(now, &element, state, wait, &cause);
            steps.extend(self.step_in_order(&element, &server));
        }
        let plan = self.ledger.next_plan();
        self.recovery.awaited.entry(plan).or_default().push(by);
        self.begin(now, roots, steps, effects);
    }
}
