//! The monitor of a running agent, driven by a simulated network.

use std::collections::BTreeMap;

use lamplighter_policies::detection::server_monitor::{Effect, Input};
use lamplighter_policies::detection::{
    Heartbeat, HeartbeatProfile, HeartbeatSecret, Noticed, Observation, Peer, ServerMonitor,
};
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::time::{Monotonic, Now};

/// One agent's monitor.
pub(super) struct Observer {
    monitor: ServerMonitor,
    server: EntityId,
    suspected: bool,
}

impl Observer {
    /// One that observes the server.
    pub(super) fn of_server(rules: HeartbeatProfile) -> Self {
        Self::new(rules, true, Monotonic(0))
    }

    /// One that does not, and was asked to look at `since`.
    pub(super) fn who_looks(rules: HeartbeatProfile, since: Monotonic) -> Self {
        let mut observer = Self::new(rules, false, since);
        let server = observer.server.clone();
        observer.handle(since, Input::LookRequested(server));
        observer
    }

    fn new(rules: HeartbeatProfile, observes: bool, at: Monotonic) -> Self {
        let name = |name: &str| EntityId::new(name).expect("a fixed name");
        let server = name("server");
        let observed = Peer {
            server: server.clone(),
            address: None,
            incarnation: None,
        };
        let mut observer = Self {
            monitor: ServerMonitor::new(name("observer"), 1),
            server,
            suspected: false,
        };
        let observation = Observation {
            application: name("simulated"),
            secret: HeartbeatSecret::default(),
            rules,
            observed: observes.then_some(observed).into_iter().collect(),
            observers: Vec::new(),
        };
        observer.handle(at, Input::Assigned(observation));
        observer
    }

    pub(super) fn heard(&mut self, at: Monotonic, sequence: u64) {
        let heartbeat = Heartbeat {
            incarnation: 1,
            sequence,
        };
        let from = self.server.clone();
        self.handle(at, Input::HeartbeatReceived { from, heartbeat });
        self.suspected = self.monitor.suspected().next().is_some();
    }

    /// When the server is suspected if nothing more is heard; `None` if it is suspected already.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.monitor.next_deadline().filter(|_| !self.suspected)
    }

    /// Lets time pass until `at`, and says when the server was suspected, if it was.
    pub(super) fn suspects_before(&mut self, at: Monotonic) -> Option<Monotonic> {
        let mut suspected_at = None;
        while let Some(due) = self.monitor.next_deadline().filter(|due| *due < at) {
            let suspects =
                |effect: &Effect| matches!(effect, Effect::Report(Noticed::Suspected { .. }));
            if self.wake(due).iter().any(suspects) {
                self.suspected = true;
                suspected_at = Some(due);
            }
        }
        suspected_at
    }

    /// Lets time pass until `until`, and says when it got a sign of life. `answered` says when a probe
    /// that is sent at some instant is answered, if it is.
    pub(super) fn hears_until(
        &mut self,
        until: Monotonic,
        mut answered: impl FnMut(Monotonic) -> Option<Monotonic>,
    ) -> Option<Monotonic> {
        let mut answers = BTreeMap::new();
        loop {
            let wake = self.monitor.next_deadline();
            let answer = answers.first_key_value().map(|(at, nonce)| (*at, *nonce));
            match (wake, answer) {
                (wake, Some((at, nonce))) if at <= until && wake.is_none_or(|wake| at <= wake) => {
                    answers.remove(&at);
                    let by = self.server.clone();
                    let effects = self.handle(at, Input::ProbeAnswered { by, nonce });
                    let server = self.server.clone();
                    if effects.contains(&Effect::Report(Noticed::Heard { server })) {
                        return Some(at);
                    }
                }
                (Some(due), _) if due <= until => {
                    for effect in self.wake(due) {
                        if let Effect::SendProbe { nonce, .. } = effect {
                            answers.extend(answered(due).map(|at| (at, nonce)));
                        }
                    }
                }
                (Some(_) | None, Some(_) | None) => return None,
            }
        }
    }

    fn handle(&mut self, at: Monotonic, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.monitor.handle(now(at), input, &mut effects);
        effects
    }

    fn wake(&mut self, at: Monotonic) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.monitor.wake(now(at), &mut effects);
        effects
    }
}

fn now(monotonic: Monotonic) -> Now {
    Now {
        monotonic,
        ..Now::default()
    }
}
