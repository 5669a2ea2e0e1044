//! The monitor of one agent for other servers: heartbeats sent and awaited, and probes where one stays
//! away (paper, 4.2.2: heartbeats with a reset timer; the list of suspected entities).
//!
//! Whom it observes is assigned by the lifecycle manager. It suspects, asks by itself and tells; it never
//! decides. What it thinks of others counts for less when its own timers are late: a busy machine hears
//! late and must not blame others for it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::heartbeat::{Heartbeat, HeartbeatMonitor, HeartbeatProfile};
use super::observation::{Judgement, Noticed, Observation};
use crate::ids::EntityId;
use crate::machine::Machine;
use crate::model::DetectionProfile;
use crate::time::{Monotonic, Now};
use probing::{Next, Probing};

mod probing;
#[cfg(test)]
mod tests;

/// A timer that fires so late shows that this machine is not well.
pub const LATE: Duration = Duration::from_millis(50);
/// How unwell an observer can be.
pub const UNWELLNESS_MAX: u8 = 8;
/// So many timers in time make it one step better.
const TIMELY_WAKES: u32 = 10;
/// Who cannot hear a server that others hear asks again after this long at the latest.
const DOUBT_MAX: Duration = Duration::from_secs(10);
/// How many servers others may ask about at once; more would be an error of the manager.
const LOOKS_MAX: usize = 256;

/// Somebody who asks for a sign of life, as the shell knows it: it need not be a server that this one
/// knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker(pub usize);

/// What the monitor is told. Its time is that of the arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Whom to observe, and who observes.
    Assigned(Observation),
    /// A heartbeat arrived.
    HeartbeatReceived {
        /// Whose.
        from: EntityId,
        /// Which.
        heartbeat: Heartbeat,
    },
    /// Somebody asks for a sign of life.
    ProbeReceived {
        /// Who.
        from: Asker,
        /// Given back in the answer.
        nonce: u64,
    },
    /// A probe was answered.
    ProbeAnswered {
        /// By whom.
        by: EntityId,
        /// That of the probe.
        nonce: u64,
    },
    /// Somebody suspects a server: the manager asks to look too.
    LookRequested(EntityId),
    /// What the manager thinks of a suspected server.
    Judged(EntityId, Judgement),
}

/// What the monitor asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a heartbeat.
    SendHeartbeat(EntityId, Heartbeat),
    /// Ask for a sign of life.
    SendProbe {
        /// Whom.
        to: EntityId,
        /// Given back in the answer.
        nonce: u64,
    },
    /// Give a sign of life.
    SendAnswer {
        /// To whom.
        to: Asker,
        /// That of the probe.
        nonce: u64,
    },
    /// Tell the agent.
    Report(Noticed),
    /// Warn the operator: the jitter of a server's heartbeats asks for a wider margin than the time for
    /// detection leaves, so that wrong suspicions are to be expected. Said once until it is better.
    WarnOfJitter {
        /// Which server.
        server: EntityId,
        /// The margin that the jitter asks for.
        wanted: Duration,
    },
}

/// The monitor of one agent.
#[derive(Debug)]
pub struct ServerMonitor {
    own: EntityId,
    incarnation: u64,
    rules: HeartbeatProfile,
    observers: BTreeSet<EntityId>,
    schedule: Option<Schedule>,
    watched: BTreeMap<EntityId, Watched>,
    looks: BTreeMap<EntityId, Probing>,
    last_nonce: u64,
    unwellness: u8,
    timely_wakes: u32,
    /// Since when this process runs again after it did not for a while: what arrived meanwhile and is
    /// read now says nothing of delays.
    stalled: Option<Monotonic>,
}

/// When heartbeats are due. A sequence number counts the intervals since the beginning, so that one
/// that could not be sent in time shifts none of the others.
#[derive(Debug)]
struct Schedule {
    began: Monotonic,
    sequence: u64,
}

#[derive(Debug)]
struct Watched {
    monitor: HeartbeatMonitor,
    trust: Trust,
    /// How often others heard it in a row while this observer did not.
    contradicted: u32,
    strained: bool,
}

#[derive(Debug)]
enum Trust {
    Trusted,
    Suspected(Probing),
    /// The manager has decided; only a sign of life changes anything.
    Failed,
}

impl ServerMonitor {
    /// A monitor that observes nobody yet. Its `incarnation` is higher than that of every agent of
    /// this server before.
    #[must_use]
    pub fn new(own: EntityId, incarnation: u64) -> Self {
        Self {
            own,
            incarnation,
            rules: DetectionProfile::default().heartbeats(),
            observers: BTreeSet::new(),
            schedule: None,
            watched: BTreeMap::new(),
            looks: BTreeMap::new(),
            last_nonce: 0,
            unwellness: 0,
            timely_wakes: 0,
            stalled: None,
        }
    }

    /// Those that are suspected, or failed, as far as this observer knows.
    pub fn suspected(&self) -> impl Iterator<Item = &EntityId> {
        let suspected = self
            .watched
            .iter()
            .filter(|(_, watched)| !matches!(watched.trust, Trust::Trusted));
        suspected.map(|(server, _)| server)
    }

    fn assigned(&mut self, now: Monotonic, observation: Observation) {
        if self.rules != observation.rules {
            self.rules = observation.rules;
            self.schedule = None;
            self.watched.clear();
        }
        self.schedule.get_or_insert(Schedule {
            began: now,
            sequence: 0,
        });
        let observers = observation.observers.into_iter().map(|peer| peer.server);
        self.observers = observers.filter(|server| *server != self.own).collect();
        let mut before = core::mem::take(&mut self.watched);
        for peer in observation.observed {
            if peer.server == self.own {
                continue;
            }
            let mut watched = before.remove(&peer.server).unwrap_or_else(|| {
                let mut monitor = HeartbeatMonitor::new(self.rules);
                monitor.expect(now, self.rules.patience());
                Watched {
                    monitor,
                    trust: Trust::Trusted,
                    contradicted: 0,
                    strained: false,
                }
            });
            if let Some(incarnation) = peer.incarnation
                && watched.monitor.restarted(incarnation)
            {
                watched.trust = Trust::Trusted;
                watched.monitor.expect(now, self.rules.patience());
            }
            self.watched.insert(peer.server, watched);
        }
    }

    fn heartbeat(
        &mut self,
        now: Monotonic,
        from: &EntityId,
        heartbeat: Heartbeat,
        effects: &mut Vec<Effect>,
    ) {
        let Some(watched) = self.watched.get_mut(from) else {
            return;
        };
        if !watched.monitor.heard(now, heartbeat) {
            return;
        }
        if self.stalled.is_some() {
            watched.monitor.expect(now, self.rules.patience());
        }
        let strain = watched.monitor.strain();
        if let Some(wanted) = strain
            && !watched.strained
        {
            let server = from.clone();
            effects.push(Effect::WarnOfJitter { server, wanted });
        }
        watched.strained = strain.is_some();
        self.alive(now, from, effects);
    }

    /// A server gave a sign of life.
    fn alive(&mut self, now: Monotonic, server: &EntityId, effects: &mut Vec<Effect>) {
        let mut is_news = self.looks.remove(server).is_some();
        if let Some(watched) = self.watched.get_mut(server) {
            watched.contradicted = 0;
            if !matches!(watched.trust, Trust::Trusted) {
                watched.trust = Trust::Trusted;
                watched.monitor.wronged(now);
                is_news = true;
            }
        }
        if is_news {
            let server = server.clone();
            effects.push(Effect::Report(Noticed::Heard { server }));
        }
    }

    fn answered(&mut self, now: Monotonic, by: &EntityId, nonce: u64, effects: &mut Vec<Effect>) {
        let suspected = self.watched.get(by).and_then(|watched| {
            let Trust::Suspected(probing) = &watched.trust else {
                return None;
            };
            probing.asked_at(nonce)
        });
        let looked = self.looks.get(by).and_then(|look| look.asked_at(nonce));
        let Some(asked_at) = suspected.or(looked) else {
            return;
        };
        if let Some(watched) = self.watched.get_mut(by) {
            watched.monitor.answered(now - asked_at);
        }
        self.alive(now, by, effects);
    }

    fn look(&mut self, now: Monotonic, server: EntityId, effects: &mut Vec<Effect>) {
        if server == self.own {
            // To be asked at all is the answer.
            return effects.push(Effect::Report(Noticed::Heard { server }));
        }
        if self.looks.len() < LOOKS_MAX {
            let look = Probing::new(self.rules.confirmation, now);
            self.looks.insert(server, look);
        }
    }

    fn judged(&mut self, now: Monotonic, server: &EntityId, judgement: Judgement) {
        let Some(watched) = self.watched.get_mut(server) else {
            return;
        };
        match (judgement, &watched.trust) {
            (Judgement::Failed, _) => watched.trust = Trust::Failed,
            (Judgement::Alive, Trust::Trusted) => {}
            // Others hear it and this observer does not: it asks again, but less and less often.
            (Judgement::Alive, Trust::Suspected(_) | Trust::Failed) => {
                let patience = self.rules.patience() * (1 << watched.contradicted.min(8));
                watched.contradicted = watched.contradicted.saturating_add(1);
                watched.trust = Trust::Trusted;
                watched.monitor.expect(now, patience.min(DOUBT_MAX));
            }
        }
    }

    /// When a trusted server is suspected: the less well this observer is, the later.
    fn suspected_at(&self, watched: &Watched) -> Option<Monotonic> {
        let allowance = self.rules.margin * u32::from(self.unwellness);
        Some(watched.monitor.deadline()? + allowance)
    }

    fn sends_at(&self) -> Option<Monotonic> {
        let schedule = self.schedule.as_ref()?;
        let intervals = u32::try_from(schedule.sequence + 1).unwrap_or(u32::MAX);
        let next = schedule.began + self.rules.interval * intervals;
        (!self.observers.is_empty()).then_some(next)
    }

    fn send_heartbeats(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        let interval = self.rules.interval.as_nanos().max(1);
        let intervals = (now - schedule.began).as_nanos() / interval;
        schedule.sequence = u64::try_from(intervals).unwrap_or(u64::MAX);
        let heartbeat = Heartbeat {
            incarnation: self.incarnation,
            sequence: schedule.sequence,
        };
        let send = |to: &EntityId| Effect::SendHeartbeat(to.clone(), heartbeat);
        effects.extend(self.observers.iter().map(send));
    }

    fn judge_silence(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        let is_due = |monitor: &Self, watched: &Watched| {
            matches!(watched.trust, Trust::Trusted)
                && monitor.suspected_at(watched).is_some_and(|at| at <= now)
        };
        let due: Vec<EntityId> = self
            .watched
            .iter()
            .filter(|(_, watched)| is_due(self, watched))
            .map(|(server, _)| server.clone())
            .collect();
        for server in due {
            let Some(watched) = self.watched.get_mut(&server) else {
                continue;
            };
            if self.stalled.is_some() {
                // Whoever did not run could not hear.
                watched.monitor.expect(now, self.rules.patience());
                continue;
            }
            watched.trust = Trust::Suspected(Probing::new(self.rules.confirmation, now));
            effects.push(Effect::Report(Noticed::Suspected {
                server,
                silent_for: watched.monitor.silence(now),
                unwellness: self.unwellness,
            }));
        }
    }

    fn probe(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        let nonce = now.0.max(self.last_nonce + 1);
        self.last_nonce = nonce;
        let suspected = self.watched.iter_mut();
        let suspected = suspected.filter_map(|(server, watched)| match &mut watched.trust {
            Trust::Suspected(probing) => Some((server, probing)),
            Trust::Trusted | Trust::Failed => None,
        });
        for (server, probing) in suspected {
            if probing.next(now, nonce) == Next::Ask {
                let to = server.clone();
                effects.push(Effect::SendProbe { to, nonce });
            }
        }
        let mut silent = Vec::new();
        for (server, look) in &mut self.looks {
            match look.next(now, nonce) {
                Next::Ask => {
                    let to = server.clone();
                    effects.push(Effect::SendProbe { to, nonce });
                }
                Next::Wait => {}
                Next::Ended => silent.push(server.clone()),
            }
        }
        for server in silent {
            self.looks.remove(&server);
            effects.push(Effect::Report(Noticed::Silent {
                server,
                unwellness: self.unwellness,
            }));
        }
    }

    /// Learns from the lateness of its own timers how well it is.
    fn examine_itself(&mut self, now: Monotonic) {
        let late = self.next_deadline().map_or(Duration::ZERO, |at| now - at);
        self.stalled.take_if(|since| now - *since > LATE);
        if late > LATE && self.stalled.is_none() {
            self.unwellness = (self.unwellness + 1).min(UNWELLNESS_MAX);
            self.timely_wakes = 0;
            self.stalled = (late >= self.rules.interval).then_some(now);
        }
    }

    fn woke_in_time(&mut self) {
        self.timely_wakes += 1;
        if self.timely_wakes >= TIMELY_WAKES {
            self.timely_wakes = 0;
            self.unwellness = self.unwellness.saturating_sub(1);
        }
    }
}

impl Machine for ServerMonitor {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        let now = now.monotonic;
        self.examine_itself(now);
        match input {
            Input::Assigned(observation) => self.assigned(now, observation),
            Input::HeartbeatReceived { from, heartbeat } => {
                self.heartbeat(now, &from, heartbeat, effects);
            }
            Input::ProbeReceived { from, nonce } => {
                effects.push(Effect::SendAnswer { to: from, nonce });
            }
            Input::ProbeAnswered { by, nonce } => self.answered(now, &by, nonce, effects),
            Input::LookRequested(server) => self.look(now, server, effects),
            Input::Judged(server, judgement) => self.judged(now, &server, judgement),
        }
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        let watched = self
            .watched
            .values()
            .filter_map(|watched| match &watched.trust {
                Trust::Trusted => self.suspected_at(watched),
                Trust::Suspected(probing) => probing.asks_at(),
                Trust::Failed => None,
            });
        let looks = self.looks.values().map(Probing::deadline);
        self.sends_at()
            .into_iter()
            .chain(watched)
            .chain(looks)
            .min()
    }

    fn wake(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let now = now.monotonic;
        let unwellness = self.unwellness;
        self.examine_itself(now);
        if self.sends_at().is_some_and(|at| at <= now) {
            self.send_heartbeats(now, effects);
        }
        self.judge_silence(now, effects);
        self.probe(now, effects);
        if self.unwellness == unwellness && self.stalled.is_none() {
            self.woke_in_time();
        }
        self.stalled = None;
    }
}
