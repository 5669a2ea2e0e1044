//! How a fog agent starts elements and starts them again.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::hosted::{Hosted, Phase};
use super::{Effect, FogAgent, HostId, Stopping};
use crate::ids::EntityId;
use crate::model::Isolation;
use crate::protocol::control::{Assignment, Decider, Decision, FromAgent};
use crate::protocol::messages::{PROTOCOL_VERSION, StartCause, ToHost};
use crate::restart::{RestartDecision, RestartPolicy};
use crate::time::{Monotonic, Now};

/// What is shown as the failure of an element that comes from another server.
const RECOVERED_HERE: &str = "it could not stay where it was, and is recovered here";

impl FogAgent {
    pub(super) fn greeted(
        &mut self,
        now: Now,
        id: HostId,
        pid: u32,
        version: u32,
        effects: &mut Vec<Effect>,
    ) {
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        host.pid = Some(pid);
        host.kill_at = None;
        if version != PROTOCOL_VERSION {
            host.spent = true;
            effects.push(Effect::Kill(id));
            let how = format!("speaks version {version} of the protocol, not {PROTOCOL_VERSION}");
            return self.spawn_failed(now, &how, effects);
        }
        let waiting: Vec<EntityId> = self
            .elements
            .iter()
            .filter(|(_, hosted)| hosted.phase == Phase::Waiting)
            .map(|(element, _)| element.clone())
            .collect();
        let count = match self.settings.isolation {
            Isolation::Shared => waiting.len(),
            Isolation::Process => 1,
        };
        for element in waiting.iter().take(count) {
            self.give(now, id, element, effects);
        }
        if waiting.is_empty() {
            self.prepare(id, effects);
        }
    }

    /// The elements of a server share their store, so any of them tells the spare what to prepare.
    fn prepare(&self, spare: HostId, effects: &mut Vec<Effect>) {
        let spec = self.elements.values().map(|hosted| &hosted.assignment.spec);
        effects.extend(spec.take(1).cloned().map(|spec| Effect::Tell {
            host: spare,
            message: ToHost::Prepare { spec },
        }));
    }

    pub(super) fn assigned(&mut self, now: Now, assignment: Assignment, effects: &mut Vec<Effect>) {
        if self.stopping != Stopping::No {
            return;
        }
        let element = assignment.element.clone();
        let floor = match self
            .elements
            .get(&element)
            .map(|hosted| (&hosted.phase, hosted))
        {
            None => 0,
            Some((Phase::Stopped | Phase::Failed(_), hosted)) => hosted.assignment.epoch_floor,
            // It runs, or is about to: an assignment that comes again changes nothing.
            Some(_) => return self.show(&element, effects),
        };
        let recovered = assignment.cause == StartCause::Recovered;
        let mut hosted = Hosted::new(assignment);
        hosted.assignment.epoch_floor = hosted.assignment.epoch_floor.max(floor);
        if recovered {
            hosted.failure_seen(now.monotonic, now, RECOVERED_HERE.to_string());
            hosted.decided(now.monotonic, Decider::Manager);
        }
        self.elements.insert(element.clone(), hosted);
        self.start(now, &element, effects);
        self.show(&element, effects);
    }

    /// Gives an element to a host, or has one spawned for it.
    pub(super) fn start(&mut self, now: Now, element: &EntityId, effects: &mut Vec<Effect>) {
        let shared = match self.settings.isolation {
            Isolation::Shared => self.hosts.shared(),
            Isolation::Process => None,
        };
        if let Some(host) = shared.or_else(|| self.hosts.spare()) {
            return self.give(now, host, element, effects);
        }
        if let Some(hosted) = self.elements.get_mut(element) {
            hosted.phase = Phase::Waiting;
        }
        self.spawn_missing(now, effects);
    }

    pub(super) fn give(
        &mut self,
        now: Now,
        host: HostId,
        element: &EntityId,
        effects: &mut Vec<Effect>,
    ) {
        let Some(hosted) = self.elements.get_mut(element) else {
            return;
        };
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.elements.insert(element.clone());
        }
        hosted.given(now.monotonic, host);
        let ended_epoch = hosted.ended_epoch;
        let present = element.clone();
        let Assignment {
            element,
            epoch_floor,
            cause,
            spec,
            resume_awaited,
            ..
        } = hosted.assignment.clone();
        effects.push(Effect::Tell {
            host,
            message: ToHost::Assign {
                element,
                epoch_floor,
                cause,
                ended_epoch,
                spec,
                resume_awaited,
            },
        });
        self.tell_present(host, &present, effects);
        self.tell_of_callees(host, effects);
    }

    /// Spawns hosts for the elements that wait, and the spare once nothing is being repaired: a
    /// process that starts would take the processor from the one that restores.
    pub(super) fn spawn_missing(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stopping != Stopping::No || self.spawn_at.is_some_and(|at| now.monotonic < at) {
            return;
        }
        let count = |phase: fn(&Phase) -> bool| {
            self.elements
                .values()
                .filter(|hosted| phase(&hosted.phase))
                .count()
        };
        let waiting = count(|phase| *phase == Phase::Waiting);
        let restoring = count(|phase| matches!(phase, Phase::Starting(_)));
        let needed = match self.settings.isolation {
            Isolation::Shared => waiting.min(1),
            Isolation::Process => waiting,
        };
        let spare = usize::from(waiting == 0 && restoring == 0 && !self.elements.is_empty());
        for _ in self.hosts.free_count()..needed + spare {
            effects.push(Effect::Spawn(self.hosts.spawned(now.monotonic)));
            self.look_from(now);
        }
    }

    pub(super) fn given_up(
        &mut self,
        now: Now,
        host: HostId,
        element: &EntityId,
        cause: String,
        restart_may_help: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(hosted) = self.hosted_by(host, element) else {
            return;
        };
        if restart_may_help {
            self.release(now, host, element);
            return self.suspect(now, now.monotonic, element, cause, effects);
        }
        hosted.failure_seen(now.monotonic, now, cause.clone());
        hosted.decided(now.monotonic, Decider::Agent);
        hosted.phase = Phase::Failed(cause);
        self.release(now, host, element);
        self.show(element, effects);
        self.stop_further(now, effects);
    }

    pub(super) fn host_exited(
        &mut self,
        now: Now,
        id: HostId,
        how: &str,
        seen_at: Monotonic,
        effects: &mut Vec<Effect>,
    ) {
        let Some(host) = self.hosts.remove(id) else {
            return;
        };
        let how = host.hung.as_deref().unwrap_or(how);
        let idle = host.elements.is_empty() && !host.spent;
        for element in &host.elements {
            self.suspect(now, seen_at, element, how.to_string(), effects);
        }
        if self.stopping != Stopping::No {
            return self.stop_further(now, effects);
        }
        if idle {
            self.spawn_failed(now, how, effects);
        }
        self.spawn_missing(now, effects);
    }

    /// A host ended before it ran anything: wait a little, or give up those who wait for one.
    pub(super) fn spawn_failed(&mut self, now: Now, how: &str, effects: &mut Vec<Effect>) {
        match self.spawns.failed(now.monotonic) {
            RestartDecision::After(wait) => self.spawn_at = Some(now.monotonic + wait),
            RestartDecision::Escalate => {
                self.spawn_at = Some(now.monotonic + self.settings.spawn.within);
                let reason = format!("no host process stays alive; the last one {how}");
                let waiting: Vec<EntityId> = self
                    .elements
                    .iter_mut()
                    .filter(|(_, hosted)| hosted.phase == Phase::Waiting)
                    .map(|(element, hosted)| {
                        hosted.phase = Phase::Failed(reason.clone());
                        element.clone()
                    })
                    .collect();
                for element in waiting {
                    self.escalate(element.clone(), reason.clone(), effects);
                    self.show(&element, effects);
                }
            }
        }
    }

    /// An element failed: ask for a decision, or give up if it fails too often.
    pub(super) fn suspect(
        &mut self,
        now: Now,
        seen_at: Monotonic,
        element: &EntityId,
        cause: String,
        effects: &mut Vec<Effect>,
    ) {
        let (connected, autonomy_after) = (self.connected, self.settings.autonomy_after);
        let Some(hosted) = self.elements.get_mut(element) else {
            return;
        };
        hosted.failure_seen(seen_at, now, cause.clone());
        if self.stopping != Stopping::No {
            hosted.phase = Phase::Failed(cause);
            return self.show(element, effects);
        }
        match hosted.history.failed(now.monotonic) {
            RestartDecision::After(wait) => {
                hosted.phase = Phase::Suspected {
                    decide_by: now.monotonic + autonomy_after,
                    not_before: now.monotonic + wait,
                };
                if connected {
                    effects.push(Effect::Report(FromAgent::Suspected {
                        element: element.clone(),
                        failure: hosted.failure_number(),
                        cause,
                    }));
                } else {
                    self.proceed(now, element, Decider::Agent, effects);
                }
            }
            RestartDecision::Escalate => {
                let RestartPolicy {
                    restarts_max,
                    within,
                    ..
                } = hosted.assignment.restart;
                hosted.decided(now.monotonic, Decider::Agent);
                let reason = format!(
                    "restarted {restarts_max} times within {within:?} and failed again: {cause}"
                );
                hosted.phase = Phase::Failed(reason.clone());
                self.escalate(element.clone(), reason, effects);
            }
        }
        self.show(element, effects);
    }

    pub(super) fn decided(
        &mut self,
        now: Now,
        element: &EntityId,
        failure: u64,
        decision: Decision,
        effects: &mut Vec<Effect>,
    ) {
        let Some(hosted) = self.elements.get_mut(element) else {
            return;
        };
        // A decision about an earlier failure, or one that the agent took meanwhile, is void.
        let awaited = matches!(hosted.phase, Phase::Suspected { .. });
        if !awaited || hosted.failure_number() != failure {
            return;
        }
        match decision {
            Decision::RestartInPlace => {
                hosted.assignment.resume_awaited = false;
                self.proceed(now, element, Decider::Manager, effects);
            }
            Decision::RestartAndAwait => {
                hosted.assignment.resume_awaited = true;
                self.proceed(now, element, Decider::Manager, effects);
            }
            Decision::Leave { reason } => {
                hosted.decided(now.monotonic, Decider::Manager);
                hosted.phase = Phase::Failed(reason);
                self.show(element, effects);
            }
        }
    }

    /// Carries out the decision to restart a suspected element, now or after its backoff.
    pub(super) fn proceed(
        &mut self,
        now: Now,
        element: &EntityId,
        by: Decider,
        effects: &mut Vec<Effect>,
    ) {
        let Some(hosted) = self.elements.get_mut(element) else {
            return;
        };
        let Phase::Suspected { not_before, .. } = hosted.phase else {
            return;
        };
        hosted.decided(now.monotonic, by);
        // Alone it would wait for nobody.
        hosted.assignment.resume_awaited &= by == Decider::Manager;
        hosted.assignment.cause = StartCause::Recovered;
        if now.monotonic < not_before {
            hosted.phase = Phase::BackingOff(not_before);
            self.show(element, effects);
        } else {
            self.start(now, element, effects);
        }
    }
}
