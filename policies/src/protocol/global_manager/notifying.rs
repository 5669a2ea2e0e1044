//! Who is told of a change of an entity, until they say that it is in their logs (paper, 4.2.3).
//!
//! The dependents of what failed are told, and so are the prerequisites that push to it: they exchange
//! nothing with it until it is back. Only the newest notice of an entity is kept for each of them, and
//! it is said again until it is acknowledged. Every two seconds all are told of which changes there are;
//! who lacks one asks for it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::{ConnectionId, Effect, GlobalManager};
use crate::ids::EntityId;
use crate::model::Topology;
use crate::notification::{
    BetweenElements, EntityState, LatestOnly, Neighbourhood, Newest, Notice, Table,
};
use crate::protocol::appliances::Reconfiguration;
use crate::protocol::control::{FromAgent, ToAgent};
use crate::time::{Monotonic, Now};

/// How long a repair in place may take before those around are told: what is back by then has disturbed
/// nobody, for whatever was on its way to it is sent again.
pub const QUICK_REPAIR: Duration = Duration::from_millis(250);

/// How often all are told which changes there are.
pub const DIGEST_INTERVAL: Duration = Duration::from_secs(2);

/// How many entities one digest names at most, so that it fits the frame limit.
const DIGEST_ENTITIES_MAX: usize = 1_024;

/// What is told, and to whom.
#[derive(Debug, Default)]
pub(super) struct Notifying {
    /// By element, the elements around it: those that depend on it, and those on which it depends.
    around: BTreeMap<EntityId, BTreeSet<EntityId>>,
    /// The newest notice of each element.
    notices: BTreeMap<EntityId, Notice>,
    /// The newest that somebody was told, or may have been.
    said: BTreeMap<EntityId, Notice>,
    /// By whom to tell and of whom, what.
    outbox: LatestOnly<(EntityId, EntityId), Notice>,
    digest_at: Option<Monotonic>,
}

impl Notifying {
    pub(super) fn new(topology: &Topology) -> Self {
        let around = |element: &EntityId| {
            let Neighbourhood {
                prerequisites,
                dependents,
                ..
            } = Neighbourhood::of(topology, element);
            let all = prerequisites.into_keys().chain(dependents);
            let elements = all.filter(|entity| topology.elements.contains_key(entity));
            (element.clone(), elements.collect())
        };
        Self {
            around: topology.elements.keys().map(around).collect(),
            ..Self::default()
        }
    }

    /// A change of an element was decided, and cannot be forgotten any more: those around it are told.
    /// Who serves in the place of an appliance is told otherwise, to each element in one table.
    pub(super) fn committed(&mut self, now: Now, notice: &Notice) {
        let entity = &notice.entity;
        let Some(around) = self.around.get(entity) else {
            return;
        };
        let known = self.notices.get(entity);
        if known.is_some_and(|known| age(known) >= age(notice)) {
            return;
        }
        let is_said_down = self.is_said_down(entity);
        self.notices.insert(entity.clone(), notice.clone());
        if notice.state == EntityState::Up && !is_said_down {
            // Nobody has noticed.
            self.outbox.retain(|(_, of), _| of != entity);
            return;
        }
        let at = match notice.state {
            EntityState::Recovering => now.monotonic + QUICK_REPAIR,
            EntityState::Up
            | EntityState::Failed
            | EntityState::Replaced(_)
            | EntityState::Degraded
            | EntityState::Suspended
            | EntityState::Stopped => now.monotonic,
        };
        for neighbour in around {
            let row = (neighbour.clone(), entity.clone());
            // What they were to be told already, and still may not know, is not put off.
            let at = match self.outbox.message(&row) {
                Some(_) if is_said_down => now.monotonic,
                Some(_) | None => at,
            };
            self.outbox.put(at, row, notice.clone());
        }
        if notice.state == EntityState::Up {
            self.outbox
                .reached(now.monotonic, |(neighbour, _)| neighbour == entity);
        }
    }

    /// A manager that was started again knows what was decided, and not who was told.
    pub(super) fn restored(&mut self, notice: &Notice) {
        if self.around.contains_key(&notice.entity) {
            self.notices.insert(notice.entity.clone(), notice.clone());
            self.said.insert(notice.entity.clone(), notice.clone());
        }
    }

    /// An element shows what is in its log: that is an acknowledgement, and tells what it lacks.
    fn shown(&mut self, now: Now, element: &EntityId, shown: &Reconfiguration) {
        self.outbox.retain(|(neighbour, _), notice| {
            neighbour != element || !shown.peers.covers(&Table::of(notice))
        });
        let around = self.around.get(element).into_iter().flatten();
        let said = around.filter_map(|entity| self.said.get(entity));
        let lacks = |notice: &&Notice| {
            let known = shown.peers.peers.get(&notice.entity);
            let known = known.and_then(|view| view.told.as_ref());
            newest(notice).is_news_beside(known)
        };
        let lacking: Vec<EntityId> = said
            .filter(lacks)
            .map(|notice| notice.entity.clone())
            .collect();
        self.lacking(now, element, &lacking);
    }

    /// An element lacks the newest of these.
    fn lacking(&mut self, now: Now, element: &EntityId, entities: &[EntityId]) {
        for entity in entities {
            let row = (element.clone(), entity.clone());
            let is_around = self
                .around
                .get(element)
                .is_some_and(|around| around.contains(entity));
            if let Some(notice) = self.said.get(entity)
                && is_around
                && self.outbox.message(&row).is_none()
            {
                self.outbox.put(now.monotonic, row, notice.clone());
            }
        }
    }

    /// What is to be said now, by the element to be told. Those that have failed are told when they are
    /// back.
    fn due(&mut self, now: Monotonic) -> BTreeMap<EntityId, Reconfiguration> {
        let mut due: BTreeMap<EntityId, Reconfiguration> = BTreeMap::new();
        for ((neighbour, entity), notice) in self.outbox.due(now) {
            let state = self.notices.get(&neighbour).map(|notice| &notice.state);
            if state == Some(&EntityState::Failed) {
                continue;
            }
            let told = due.entry(neighbour).or_default();
            told.peers.join(&Table::of(&notice));
            self.said.insert(entity, notice);
        }
        due
    }

    /// What is the newest of all of which somebody was told something, in parts, if it is time to say so.
    fn digests_due(&mut self, now: Monotonic) -> Vec<BTreeMap<EntityId, Newest>> {
        if self.said.is_empty() {
            return Vec::new();
        }
        let at = *self.digest_at.get_or_insert(now + DIGEST_INTERVAL);
        if at > now {
            return Vec::new();
        }
        self.digest_at = Some(now + DIGEST_INTERVAL);
        let said = self.said.iter();
        let all: Vec<_> = said
            .map(|(entity, notice)| (entity.clone(), newest(notice)))
            .collect();
        let parts = all.chunks(DIGEST_ENTITIES_MAX);
        parts.map(|part| part.iter().cloned().collect()).collect()
    }

    fn is_said_down(&self, entity: &EntityId) -> bool {
        let said = self.said.get(entity);
        said.is_some_and(|said| said.state != EntityState::Up)
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        let outbox = self.outbox.next_deadline();
        outbox.into_iter().chain(self.digest_at).min()
    }
}

impl GlobalManager {
    /// Says what is due, and which changes there are.
    pub(super) fn notify(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stopping.is_some() {
            self.notifying.outbox = LatestOnly::default();
            self.notifying.digest_at = None;
            return;
        }
        for (element, reconfiguration) in self.notifying.due(now.monotonic) {
            if let Some(agent) = self.agent_running(&element) {
                let reconfigure = ToAgent::Reconfigure {
                    element,
                    reconfiguration,
                };
                effects.push(Effect::TellAgent(agent, reconfigure));
            }
        }
        for digest in self.notifying.digests_due(now.monotonic) {
            let tell = |agent| Effect::TellAgent(agent, ToAgent::Digest(digest.clone()));
            effects.extend(self.connections().map(tell));
        }
    }

    /// An agent has registered: its elements are told at once what they may have missed.
    pub(super) fn notify_elements_of(&mut self, now: Now, server: &EntityId) {
        let elements = &self.elements;
        let is_there = |(element, _): &(EntityId, EntityId)| {
            let placed = elements.get(element);
            placed.is_some_and(|placed| placed.server == *server)
        };
        self.notifying.outbox.reached(now.monotonic, is_there);
        let here: Vec<EntityId> = elements
            .iter()
            .filter(|(_, placed)| placed.server == *server)
            .map(|(element, _)| element.clone())
            .collect();
        for element in here {
            let around: Vec<EntityId> = self
                .notifying
                .around
                .get(&element)
                .into_iter()
                .flatten()
                .filter(|entity| self.notifying.is_said_down(entity))
                .cloned()
                .collect();
            self.notifying.lacking(now, &element, &around);
        }
    }

    /// An element shows what is in its log. What that says of others may be older than how they are.
    pub(super) fn shown(&mut self, now: Now, told: &FromAgent) {
        let FromAgent::Reconfigured {
            element,
            reconfiguration: shown,
        } = told
        else {
            return;
        };
        self.notifying.shown(now, element, shown);
    }

    /// What the agent of an element that is about to start must know: who around it is down.
    pub(super) fn present(&self, agent: ConnectionId, element: &EntityId) -> Option<Effect> {
        let mut peers = Table::default();
        let around = self.notifying.around.get(element).into_iter().flatten();
        for entity in around.filter(|entity| self.notifying.is_said_down(entity)) {
            if let Some(notice) = self.notifying.said.get(entity) {
                peers.join(&Table::of(notice));
            }
        }
        let is_empty = peers.peers.is_empty();
        let reconfigure = ToAgent::Reconfigure {
            element: element.clone(),
            reconfiguration: Reconfiguration::of_peers(peers),
        };
        (!is_empty).then_some(Effect::TellAgent(agent, reconfigure))
    }

    /// An element asks for what it lacks.
    pub(super) fn lacking(&mut self, now: Now, element: &EntityId, entities: &[EntityId]) {
        self.notifying.lacking(now, element, entities);
    }

    /// A configurator says something to one on another server. What is lost is said again.
    pub(super) fn pass_on(&self, message: BetweenElements, effects: &mut Vec<Effect>) {
        if let Some(agent) = self.agent_running(&message.to) {
            effects.push(Effect::TellAgent(agent, ToAgent::Between(message)));
        }
    }

    fn agent_running(&self, element: &EntityId) -> Option<ConnectionId> {
        let placed = self.elements.get(element)?;
        let agent = self.servers.get(&placed.server)?.as_ref()?;
        Some(agent.connection)
    }
}

fn age(notice: &Notice) -> (u64, u64) {
    (notice.term, notice.epoch)
}

fn newest(notice: &Notice) -> Newest {
    Newest {
        term: notice.term,
        epoch: notice.epoch,
        is_up: notice.state == EntityState::Up,
    }
}

#[cfg(test)]
mod tests;
