//! How a fog agent reports on its elements, and how it ends.

use alloc::vec::Vec;

use super::hosted::{Hosted, Phase};
use super::{EXIT_TIMEOUT, Effect, FogAgent, REPORT_TIMEOUT, Reporting, Stopping};
use crate::ids::EntityId;
use crate::protocol::control::FromAgent;
use crate::protocol::messages::ToHost;
use crate::time::Now;

impl FogAgent {
    pub(super) fn report(&mut self, now: Now, request: u64, effects: &mut Vec<Effect>) {
        let mut awaited = Vec::new();
        let mut asked = Vec::new();
        for (element, hosted) in &self.elements {
            let Phase::Running(host) = hosted.phase else {
                continue;
            };
            awaited.push(element.clone());
            if !asked.contains(&host) {
                asked.push(host);
            }
        }
        let message = ToHost::Report { request };
        effects.extend(asked.into_iter().map(|host| Effect::Tell {
            host,
            message: message.clone(),
        }));
        self.reporting = Some(Reporting {
            request,
            awaited,
            deadline: now.monotonic + REPORT_TIMEOUT,
        });
        self.end_report(effects);
    }

    pub(super) fn reported(&mut self, request: u64, element: &EntityId, effects: &mut Vec<Effect>) {
        if let Some(reporting) = &mut self.reporting
            && reporting.request == request
        {
            reporting.awaited.retain(|awaited| awaited != element);
            self.show(element, effects);
            self.end_report(effects);
        }
    }

    pub(super) fn end_report(&mut self, effects: &mut Vec<Effect>) {
        if let Some(Reporting { request, .. }) = self.reporting.take_if(|r| r.awaited.is_empty()) {
            self.tell_manager(FromAgent::Reported { request }, effects);
        }
    }

    pub(super) fn stop(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stopping != Stopping::No {
            return;
        }
        self.stopping = Stopping::Elements {
            kill_at: now.monotonic + self.settings.stop_timeout,
        };
        let elements: Vec<EntityId> = self.elements.keys().cloned().collect();
        for element in &elements {
            let Some(hosted) = self.elements.get_mut(element) else {
                continue;
            };
            if let Some(host) = hosted.host() {
                hosted.phase = Phase::Stopping(host);
                effects.push(Effect::Tell {
                    host,
                    message: ToHost::Stop {
                        element: element.clone(),
                    },
                });
            } else if !matches!(hosted.phase, Phase::Failed(_)) {
                hosted.phase = Phase::Stopped;
            }
            self.show(element, effects);
        }
        self.stop_further(now, effects);
    }

    /// Goes on with the agent's end as far as it can: elements first, then hosts, then itself.
    pub(super) fn stop_further(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let stopping = |hosted: &Hosted| matches!(hosted.phase, Phase::Stopping(_));
        if matches!(self.stopping, Stopping::Elements { .. })
            && !self.elements.values().any(stopping)
        {
            effects.extend(self.hosts.ids().map(Effect::Close));
            self.stopping = Stopping::Hosts {
                kill_at: now.monotonic + EXIT_TIMEOUT,
            };
        }
        if matches!(self.stopping, Stopping::Hosts { .. }) && self.hosts.is_empty() {
            self.stopping = Stopping::Done;
            self.tell_manager(FromAgent::Stopped, effects);
            effects.push(Effect::Finish);
        }
    }
}
