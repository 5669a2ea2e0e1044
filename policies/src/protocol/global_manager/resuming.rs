//! Who may go on when: state is loaded and replayed by all at once, but an element resumes only after
//! those that it requires (paper, 4.2.4).

use alloc::vec::Vec;

use super::{Effect, GlobalManager};
use crate::ids::EntityId;
use crate::notification::EntityState;
use crate::protocol::control::{ElementState, ToAgent};

impl GlobalManager {
    /// Whether an element requires other elements.
    pub(super) fn has_prerequisites(&self, element: &EntityId) -> bool {
        self.required(element).next().is_some()
    }

    fn required<'a>(&'a self, element: &'a EntityId) -> impl Iterator<Item = &'a EntityId> {
        let bindings = self.topology.bindings.values();
        let mandatory = bindings.filter(move |b| b.mandatory && b.from == *element);
        let required = mandatory.filter_map(|binding| binding.to.as_ref());
        required.filter(|entity| self.topology.elements.contains_key(*entity))
    }

    /// Whether an element may resume: none of those that it requires is still being recovered. One that
    /// will not come back is not waited for.
    fn may_resume(&self, element: &EntityId) -> bool {
        self.required(element).all(|required| {
            let placed = self.elements.get(required);
            let runs = placed.is_some_and(|p| p.status.state == ElementState::Running);
            runs || *self.ledger.state(required) != EntityState::Recovering
        })
    }

    /// An element is restored: it is told to go on, or that it is to wait.
    pub(super) fn answer_restored(
        &mut self,
        server: &EntityId,
        element: &EntityId,
        effects: &mut Vec<Effect>,
    ) {
        let Some(agent) = self.agent_of(server) else {
            return;
        };
        let told = if self.may_resume(element) {
            self.recovery.told_to_resume.insert(element.clone());
            let element = element.clone();
            ToAgent::Resume { element }
        } else {
            let element = element.clone();
            ToAgent::Await { element }
        };
        effects.push(Effect::TellAgent(agent, told));
    }

    /// Those that waited for others are told to go on as soon as they may.
    pub(super) fn resume_ready(&mut self, effects: &mut Vec<Effect>) {
        let restored = self.elements.iter().filter(|(element, placed)| {
            placed.status.state == ElementState::Restored
                && !self.recovery.told_to_resume.contains(*element)
                && self.may_resume(element)
        });
        let ready: Vec<(EntityId, EntityId)> = restored
            .map(|(element, placed)| (element.clone(), placed.server.clone()))
            .collect();
        for (element, server) in ready {
            if let Some(agent) = self.agent_of(&server) {
                self.recovery.told_to_resume.insert(element.clone());
                effects.push(Effect::TellAgent(agent, ToAgent::Resume { element }));
            }
        }
    }
}
