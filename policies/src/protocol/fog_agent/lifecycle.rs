//! What the manager has an agent do with single elements besides running them: let one go, have one
//! wait for others, have it resume (paper, 4.2.4).

use alloc::string::String;
use alloc::vec::Vec;

use super::hosted::Phase;
use super::{Effect, FogAgent, HostId};
use crate::ids::EntityId;
use crate::protocol::control::FromAgent;
use crate::protocol::messages::ToHost;
use crate::time::Now;

impl FogAgent {
    /// Runs an element no more. What is not known here runs no more already.
    pub(super) fn let_go(
        &mut self,
        now: Now,
        element: &EntityId,
        in_order: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(hosted) = self.elements.get_mut(element) else {
            return;
        };
        let Some(host) = hosted.host() else {
            if !matches!(hosted.phase, Phase::Failed(_)) {
                hosted.phase = Phase::Stopped;
            }
            return self.show(element, effects);
        };
        let shared = self
            .hosts
            .get_mut(host)
            .is_some_and(|host| host.elements.len() > 1);
        if in_order || shared {
            // A host that others share is not killed for one of its elements, which the store shuts
            // out in any case.
            hosted.phase = Phase::Stopping(host);
            let element = element.clone();
            let message = ToHost::Stop { element };
            effects.push(Effect::Tell { host, message });
        } else {
            hosted.phase = Phase::Stopped;
            self.release(now, host, element);
            effects.push(Effect::Kill(host));
        }
        self.show(element, effects);
    }

    /// A host took the last checkpoint of an element.
    pub(super) fn stopped(
        &mut self,
        now: Now,
        host: HostId,
        element: &EntityId,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(hosted) = self.hosted_by(host, element) {
            hosted.phase = Phase::Stopped;
            self.release(now, host, element);
            self.show(element, effects);
            self.stop_further(now, effects);
        }
    }

    /// A host has the state of an element that waits for others.
    pub(super) fn restored(
        &mut self,
        now: Now,
        host: HostId,
        element: &EntityId,
        epoch: u64,
        effects: &mut Vec<Effect>,
    ) {
        let resume_at = now.monotonic + self.settings.autonomy_after;
        let connected = self.connected;
        let Some(hosted) = self.hosted_by(host, element) else {
            return;
        };
        match hosted.phase {
            Phase::Starting(_) => {}
            Phase::Running(_) => {
                // It resumed once, and was made anew in its host.
                let element = element.clone();
                let message = ToHost::Resume { element };
                return effects.push(Effect::Tell { host, message });
            }
            Phase::Waiting
            | Phase::Restored(..)
            | Phase::Suspected { .. }
            | Phase::BackingOff(_)
            | Phase::Stopping(_)
            | Phase::Stopped
            | Phase::Failed(_) => return,
        }
        hosted.assignment.epoch_floor = hosted.assignment.epoch_floor.max(epoch);
        hosted.phase = Phase::Restored(host, Some(resume_at));
        if connected {
            self.show(element, effects);
        } else {
            self.resume(element, effects);
        }
    }

    /// A restored element goes on.
    pub(super) fn resume(&mut self, element: &EntityId, effects: &mut Vec<Effect>) {
        let Some(hosted) = self.elements.get_mut(element) else {
            return;
        };
        let Phase::Restored(host, _) = hosted.phase else {
            return;
        };
        hosted.phase = Phase::Starting(host);
        let element = element.clone();
        let message = ToHost::Resume { element };
        effects.push(Effect::Tell { host, message });
    }

    /// A restored element waits, for as long as the manager is there.
    pub(super) fn await_others(&mut self, element: &EntityId) {
        if let Some(hosted) = self.elements.get_mut(element)
            && let Phase::Restored(host, _) = hosted.phase
        {
            hosted.phase = Phase::Restored(host, None);
        }
    }

    /// The manager is gone: nobody is waited for.
    pub(super) fn resume_all(&mut self, effects: &mut Vec<Effect>) {
        let restored = self.elements.iter();
        let restored = restored.filter(|(_, hosted)| matches!(hosted.phase, Phase::Restored(..)));
        let restored: Vec<EntityId> = restored.map(|(element, _)| element.clone()).collect();
        for element in restored {
            self.resume(&element, effects);
        }
    }

    /// The manager is told that an element cannot be kept running here.
    pub(super) fn escalate(&self, element: EntityId, cause: String, effects: &mut Vec<Effect>) {
        self.tell_manager(FromAgent::Escalated { element, cause }, effects);
    }
}
