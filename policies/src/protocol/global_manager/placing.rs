//! Carrying out where elements belong: what runs where it does not belong is stopped, what does not run
//! where it belongs is started. Each look compares anew, so that it may be taken at any time, and twice.

use alloc::vec::Vec;
use core::time::Duration;

use super::{ConnectionId, Effect, GlobalManager};
use crate::ids::EntityId;
use crate::protocol::control::{Assignment, ToAgent};
use crate::protocol::lifecycle_manager::Deployment;
use crate::protocol::messages::StartCause;
use crate::time::{Monotonic, Now};

/// How long an element may take for its last checkpoint when it is moved; then its host is killed.
pub(super) const RELEASE_WITHIN: Duration = Duration::from_secs(5);

impl GlobalManager {
    /// Brings one element nearer to where it belongs.
    pub(super) fn reconcile(&mut self, now: Now, element: &EntityId, effects: &mut Vec<Effect>) {
        if self.stopping.is_some() {
            return;
        }
        let Some(placed) = self.elements.get(element) else {
            return;
        };
        let belongs = placed.server.clone();
        let idle = self.is_idle(element);
        let step = self.ledger.open_step(element).map(|(_, step)| step);
        let in_order = idle || step.is_some_and(|step| step.in_order);
        let unheard = step.is_some_and(|step| {
            step.in_order && self.is_there(&step.from) && self.agent_of(&step.from).is_none()
        });
        let runs_at: Vec<EntityId> = self
            .recovery
            .hosting
            .iter()
            .filter(|(server, hosted)| (**server != belongs || idle) && hosted.contains(element))
            .map(|(server, _)| server.clone())
            .collect();
        for server in &runs_at {
            self.release(now.monotonic, element, server, in_order, effects);
        }
        // Whoever stops in order must have stopped. Any other is shut out by the next claim.
        let stops = runs_at.iter().any(|server| self.is_there(server));
        if idle || unheard || (in_order && stops) {
            return;
        }
        let Some(place) = self.ledger.place(element) else {
            return;
        };
        let known = self.recovery.placed.get(element);
        if place.replaced && known != Some(&belongs) {
            self.recovery
                .placed
                .insert(element.clone(), belongs.clone());
            effects.push(Effect::Place(Deployment {
                element: element.clone(),
                server: belongs,
                epoch_floor: place.fence,
                cause: StartCause::Recovered,
            }));
        }
    }

    fn release(
        &mut self,
        now: Monotonic,
        element: &EntityId,
        server: &EntityId,
        in_order: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(agent) = self.agent_of(server) else {
            return;
        };
        let key = (element.clone(), server.clone());
        let told = self.recovery.releasing.get(&key);
        let in_time = |(to, until): &(ConnectionId, Monotonic)| *to == agent && now < *until;
        if told.is_some_and(in_time) {
            return;
        }
        // The second time it is not asked but killed.
        let in_order = in_order && told.is_none_or(|(to, _)| *to != agent);
        self.recovery
            .releasing
            .insert(key, (agent, now + RELEASE_WITHIN));
        let element = element.clone();
        effects.push(Effect::TellAgent(
            agent,
            ToAgent::Release { element, in_order },
        ));
    }

    /// Those that were told to stop and did not are told again.
    pub(super) fn release_further(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let hosting = &self.recovery.hosting;
        self.recovery.releasing.retain(|(element, server), _| {
            hosting
                .get(server)
                .is_some_and(|hosted| hosted.contains(element))
        });
        let due = self.recovery.releasing.iter();
        let due = due.filter(|(_, (_, until))| *until <= now.monotonic);
        let due: Vec<EntityId> = due.map(|((element, _), _)| element.clone()).collect();
        for element in due {
            self.reconcile(now, &element, effects);
        }
    }

    pub(super) fn release_deadline(&self) -> Option<Monotonic> {
        let releasing = self.recovery.releasing.iter();
        let told = releasing.filter(|((_, server), (to, _))| self.agent_of(server) == Some(*to));
        told.map(|(_, (_, until))| *until).min()
    }

    /// The lifecycle manager wants an element to run: its agent is told, if the element belongs there.
    pub(super) fn deploy_ordered(
        &mut self,
        server: &EntityId,
        assignment: Assignment,
        effects: &mut Vec<Effect>,
    ) {
        let element = &assignment.element;
        let known = self.elements.get(element);
        let belongs = known.is_some_and(|placed| placed.server == *server);
        if !belongs || self.is_idle(element) || self.stopping.is_some() {
            return;
        }
        let Some(agent) = self.agent_of(server) else {
            return;
        };
        let epoch = known.map_or(0, |placed| placed.status.epoch);
        let recovered = assignment.cause == StartCause::Recovered;
        let assignment = Assignment {
            epoch_floor: assignment.epoch_floor.max(epoch),
            resume_awaited: recovered && self.has_prerequisites(element),
            ..assignment
        };
        effects.extend(self.present(agent, &assignment.element));
        effects.push(Effect::TellAgent(agent, ToAgent::Assign(assignment)));
    }
}
