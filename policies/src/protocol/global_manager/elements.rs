//! What agents say of elements, and what is decided about those that fail (paper, 4.2.4, *nature of the
//! entity*): restart in place, then another server, then without it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::ledger::Change;
use super::{ConnectionId, Effect, GlobalManager};
use crate::ids::EntityId;
use crate::notification::{EntityState, Notice, NoticeDecision};
use crate::protocol::control::{Decision, ElementState, ElementStatus, ToAgent};
use crate::recovery::plan::Progress;
use crate::time::Now;

impl GlobalManager {
    /// Decides that an entity is otherwise than before. The one place where that happens.
    pub(super) fn change(
        &mut self,
        now: Now,
        entity: &EntityId,
        state: EntityState,
        decision: NoticeDecision,
        cause: &str,
    ) {
        let notice = Notice {
            term: self.journal.term(),
            entity: entity.clone(),
            epoch: self.ledger.epoch(entity) + 1,
            state,
            decision,
        };
        let cause = cause.into();
        self.notifying.committed(now, &notice);
        self.commit(now.wall, Change::Entity { notice, cause });
    }

    /// An agent wants to know what to do about a failed element.
    pub(super) fn element_suspected(
        &mut self,
        now: Now,
        (connection, server): (ConnectionId, &EntityId),
        element: EntityId,
        failure: u64,
        cause: &str,
        effects: &mut Vec<Effect>,
    ) {
        let decision = match self.elements.get(&element) {
            None => Decision::Leave {
                reason: "the topology does not have it".into(),
            },
            Some(_) if self.stopping.is_some() => Decision::Leave {
                reason: "the application is stopping".into(),
            },
            Some(placed) if placed.server != *server || self.is_idle(&element) => Decision::Leave {
                reason: format!("it does not belong on {server} any more"),
            },
            Some(_) => {
                let (state, wait) = (EntityState::Recovering, NoticeDecision::AwaitRecovery);
                self.change(now, &element, state, wait, cause);
                match self.has_prerequisites(&element) {
                    true => Decision::RestartAndAwait,
                    false => Decision::RestartInPlace,
                }
            }
        };
        let decided = ToAgent::Decided {
            element,
            failure,
            decision,
        };
        effects.push(Effect::TellAgent(connection, decided));
    }

    /// An element cannot be kept running where it is.
    pub(super) fn escalated(
        &mut self,
        now: Now,
        server: &EntityId,
        element: &EntityId,
        cause: &str,
    ) {
        let placed = self.elements.get(element);
        if placed.is_none_or(|placed| placed.server != *server)
            || self.stopping.is_some()
            || self.is_idle(element)
        {
            return;
        }
        let cause = format!("it cannot be kept running on {server}: {cause}");
        let (state, wait) = (EntityState::Recovering, NoticeDecision::AwaitRecovery);
        self.change(now, element, state, wait, &cause);
        if self.ledger.open_step(element).is_some() {
            self.strike(now, server, &format!("{element}: {cause}"));
        }
        self.bar(element, server);
        self.root(now.monotonic, element, &cause);
    }

    /// Takes what an agent says of an element.
    pub(super) fn took(
        &mut self,
        now: Now,
        server: &EntityId,
        status: ElementStatus,
        effects: &mut Vec<Effect>,
    ) {
        let element = status.element.clone();
        let Some(placed) = self.elements.get_mut(&element) else {
            return;
        };
        let lives = lives(&status.state);
        let hosted = self.recovery.hosting.entry(server.clone()).or_default();
        let was_hosted = hosted.contains(&element);
        if lives {
            hosted.insert(element.clone());
        } else {
            hosted.remove(&element);
        }
        if placed.server != *server {
            return self.reconcile(now, &element, effects);
        }
        placed.status = ElementStatus {
            epoch: status.epoch.max(placed.status.epoch),
            ..status
        };
        if self.stopping.is_some() {
            return;
        }
        self.show_idle(&element);
        self.follow(now, server, &element, was_hosted, effects);
        self.resume_ready(effects);
    }

    /// Decides what follows from how an element is, where it belongs.
    fn follow(
        &mut self,
        now: Now,
        server: &EntityId,
        element: &EntityId,
        was_hosted: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(placed) = self.elements.get(element) else {
            return;
        };
        let state = placed.status.state.clone();
        if self.is_idle(element) {
            // Room was made, or it was given up: what runs still is stopped.
            return self.reconcile(now, element, effects);
        }
        match state {
            ElementState::Running => {
                self.note_repair(now, server, element);
                self.step(now, element, Progress::Resumed);
                self.recovery.barred.remove(element);
                if *self.ledger.state(element) != EntityState::Up {
                    let (state, decision) = (EntityState::Up, NoticeDecision::Resume);
                    self.change(now, element, state, decision, "it runs");
                }
            }
            ElementState::Restored => {
                self.step(now, element, Progress::Restored);
                self.recovery.told_to_resume.remove(element);
                self.answer_restored(server, element, effects);
            }
            ElementState::Waiting | ElementState::Starting => {
                self.step(now, element, Progress::Deployed);
            }
            ElementState::Failed { reason } => self.given_up(now, element, &reason, was_hosted),
            ElementState::Unassigned
            | ElementState::Suspected
            | ElementState::BackingOff
            | ElementState::Stopping
            | ElementState::Stopped => self.reconcile(now, element, effects),
        }
    }

    /// An agent gave an element up for good, or did so while no manager was there to decide.
    fn given_up(&mut self, now: Now, element: &EntityId, reason: &str, was_hosted: bool) {
        if self.recovery.roots.contains_key(element) {
            // It is about to be placed elsewhere.
            return;
        }
        let state = self.ledger.state(element);
        if *state == EntityState::Recovering
            && !was_hosted
            && self.ledger.open_step(element).is_none()
        {
            // It was being decided about when the manager before ended.
            return self.root(now.monotonic, element, reason);
        }
        if *state != EntityState::Failed {
            self.give_up(now, element, reason);
        }
    }

    /// Decides that an element runs nowhere. The essential are waited for: room may come.
    pub(super) fn give_up(&mut self, now: Now, element: &EntityId, reason: &str) {
        let essential = self
            .topology
            .elements
            .get(element)
            .is_none_or(|e| e.essential);
        let decision = match essential {
            true => NoticeDecision::AwaitRecovery,
            false => NoticeDecision::RunWithout,
        };
        self.change(now, element, EntityState::Failed, decision, reason);
        let reason = reason.into();
        self.step(now, element, Progress::GivenUp { reason });
    }

    /// Notes in the journal how a repair went, once when the element runs and once with its first event.
    fn note_repair(&mut self, now: Now, server: &EntityId, element: &EntityId) {
        let status = self.elements.get(element).map(|placed| &placed.status);
        let Some(failure) = status.and_then(|status| status.last_failure.clone()) else {
            return;
        };
        let seen = (
            server.clone(),
            failure.seen_at,
            failure.number,
            failure.phases.first_event.is_some(),
        );
        if failure.phases.repaired.is_none() || self.recovery.repairs.get(element) == Some(&seen) {
            return;
        }
        let known = self.ledger.repair(element);
        let is_news = known.is_none_or(|(at, known)| at != server || *known != failure);
        self.recovery.repairs.insert(element.clone(), seen);
        if is_news {
            let (element, server) = (element.clone(), server.clone());
            let repaired = Change::Repaired {
                element,
                server,
                failure,
            };
            self.commit(now.wall, repaired);
        }
    }

    /// An element that runs nowhere is shown as failed, whoever may still be stopping it.
    pub(super) fn show_idle(&mut self, element: &EntityId) {
        let idle = self
            .ledger
            .place(element)
            .and_then(|place| place.idle.clone());
        if let (Some(reason), Some(placed)) = (idle, self.elements.get_mut(element)) {
            placed.status.state = ElementState::Failed { reason };
            placed.status.pid = None;
        }
    }

    /// Whether an element is to run nowhere.
    pub(super) fn is_idle(&self, element: &EntityId) -> bool {
        self.ledger
            .place(element)
            .is_some_and(|place| place.idle.is_some())
    }

    /// How the application is, as far as its elements go: why it fails, and what it lacks.
    pub(super) fn missing_elements(&self) -> (Option<String>, Vec<String>) {
        let failed = |(id, _): &(&EntityId, _)| *self.ledger.state(id) == EntityState::Failed;
        let mut missing = Vec::new();
        let mut fatal = None;
        for (id, element) in self.topology.elements.iter().filter(failed) {
            let cause = self.ledger.standings().find(|(known, _)| *known == id);
            let cause = cause.map_or("", |(_, standing)| standing.cause.as_str());
            if element.essential {
                fatal.get_or_insert_with(|| format!("{id} is essential and runs nowhere: {cause}"));
            } else {
                missing.push(format!("{id} runs nowhere: {cause}"));
            }
        }
        (fatal, missing)
    }
}

/// Whether a host has the element, or is about to.
pub(super) fn lives(state: &ElementState) -> bool {
    match state {
        ElementState::Unassigned | ElementState::Stopped | ElementState::Failed { .. } => false,
        ElementState::Waiting
        | ElementState::Starting
        | ElementState::Running
        | ElementState::Suspected
        | ElementState::BackingOff
        | ElementState::Stopping
        | ElementState::Restored => true,
    }
}
