//! What the global manager knows of appliances, and what it decides when one fails: another serves in
//! its place, the application does without it, or the application has failed (paper, 4.2.4).
//!
//! All decisions are made anew, over all failures, whenever something changes. What was decided is
//! known to those who were told, so a manager that was started again asks them before it decides.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::{ConnectionId, Effect, GlobalManager};
use crate::detection::{ApplianceVerdict, ApplianceWatch, BridgeVerdict};
use crate::ids::EntityId;
use crate::model::{Appliance, ApplianceApi, Liveness, Topology};
use crate::notification::Table;
use crate::protocol::appliances::{ApplianceStatus, ApplicationState, Reconfiguration, Served};
use crate::protocol::control::{Answer, FromAgent, STATUS_ENTITIES_MAX, ToAgent};
use crate::recovery::{Decision, Situation, Standing, decide, servers_of};
use crate::time::{Monotonic, Now};

mod shown;

/// How long a manager that was started waits for all agents to say what was decided before it.
const LEARN_WITHIN: Duration = Duration::from_millis(1_500);

/// The appliances of one application.
#[derive(Debug)]
pub(super) struct Appliances {
    topology: Topology,
    access: Vec<u8>,
    /// By appliance, the server whose agent watches it.
    watchers: BTreeMap<EntityId, EntityId>,
    verdicts: BTreeMap<EntityId, ApplianceVerdict>,
    bridges: BTreeMap<String, BridgeVerdict>,
    standing: Standing,
    decisions: BTreeMap<EntityId, Decision>,
    epoch: u64,
    /// By element, what it was told last.
    told: BTreeMap<EntityId, Reconfiguration>,
    registered: BTreeSet<EntityId>,
    learning: Learning,
}

/// Whether those who know what was decided before have been heard.
#[derive(Debug)]
enum Learning {
    /// Nobody was heard yet.
    NotBegun,
    /// Some were.
    Until(Monotonic),
    Done,
}

impl Appliances {
    pub(super) fn new(topology: &Topology) -> Self {
        let watched = topology
            .appliances
            .iter()
            .filter(|(_, appliance)| is_watchable(&appliance.liveness));
        let watcher = |(id, _): (&EntityId, &Appliance)| {
            // Whoever has a channel to it; the first, where the topology names no channel.
            let near = servers_of(topology, id).min();
            let server = near.or_else(|| topology.servers.keys().next())?;
            Some((id.clone(), server.clone()))
        };
        Self {
            watchers: watched.filter_map(watcher).collect(),
            topology: topology.clone(),
            access: Vec::new(),
            verdicts: BTreeMap::new(),
            bridges: BTreeMap::new(),
            standing: Standing::new(),
            decisions: BTreeMap::new(),
            epoch: 0,
            told: BTreeMap::new(),
            registered: BTreeSet::new(),
            learning: Learning::NotBegun,
        }
    }

    fn watched_by(&self, server: &EntityId) -> Vec<ApplianceWatch> {
        let here = self.watchers.iter().filter(|(_, by)| *by == server);
        here.filter_map(|(id, _)| {
            let appliance = self.topology.appliances.get(id)?;
            let mut shown = appliance.model.properties.iter();
            let shown = shown.find(|(_, property)| property.access.is_shown());
            Some(ApplianceWatch {
                appliance: id.clone(),
                topic: appliance.topic.clone(),
                asked_for: shown.map_or_else(|| "state".to_string(), |(name, _)| name.clone()),
                liveness: appliance.liveness.clone(),
                address: match appliance.api {
                    ApplianceApi::Http => appliance.address.clone(),
                    ApplianceApi::Mqtt | ApplianceApi::Simulated | ApplianceApi::Program => None,
                },
            })
        })
        .collect()
    }

    /// Takes what somebody says was decided before; the newest counts.
    fn learn(&mut self, element: EntityId, mut known: Reconfiguration) {
        // How elements are is told by notices.
        known.peers = Table::default();
        self.epoch = self.epoch.max(known.epoch);
        for (of, served) in &known.served {
            if let Served::By(by) = served
                && !self.standing.contains_key(of)
            {
                self.standing.insert(of.clone(), by.clone());
            }
        }
        let newest = self.told.entry(element).or_default();
        if known.epoch >= newest.epoch {
            *newest = known;
        }
    }

    /// Decides anew and says who must be told what.
    fn decide(&mut self, servers_away: &BTreeSet<EntityId>) -> Vec<(EntityId, Reconfiguration)> {
        let failed = self.failed();
        let unreachable = self.unreachable();
        self.decisions = decide(Situation {
            topology: &self.topology,
            failed: &failed,
            unreachable: &unreachable,
            servers_away,
            standing: &self.standing,
        });
        let standing = |(of, decision): (&EntityId, &Decision)| match decision {
            Decision::Substitute { by, .. } => Some((of.clone(), by.clone())),
            Decision::Nobody { .. } => None,
        };
        self.standing = self.decisions.iter().filter_map(standing).collect();
        self.changes()
    }

    /// Which appliances failed, which only their bridge keeps out of reach, and who stands in for whom.
    pub(super) fn present(&self) -> (BTreeSet<EntityId>, BTreeSet<EntityId>, Standing) {
        (self.failed(), self.unreachable(), self.standing.clone())
    }

    fn unreachable(&self) -> BTreeSet<EntityId> {
        let all = self.topology.appliances.keys();
        let away = all.filter(|id| self.bridge_down(id).is_some());
        away.cloned().collect()
    }

    /// Those that are suspected, and those in whose place another serves and of which nothing was heard
    /// since: a manager that was started again does not give a place back to the dead.
    fn failed(&self) -> BTreeSet<EntityId> {
        let failed = |id: &&EntityId| match self.verdict(id) {
            ApplianceVerdict::Suspected { .. } => true,
            ApplianceVerdict::Unheard => {
                self.standing.contains_key(*id) && self.watchers.contains_key(*id)
            }
            ApplianceVerdict::Trusted => false,
        };
        let all = self.topology.appliances.keys();
        all.filter(failed).cloned().collect()
    }

    fn verdict(&self, appliance: &EntityId) -> ApplianceVerdict {
        self.verdicts.get(appliance).copied().unwrap_or_default()
    }

    /// The bridge of an appliance, if it is down, and since when.
    fn bridge_down(&self, appliance: &EntityId) -> Option<(crate::time::WallClock, &String)> {
        let bridge = self.topology.appliances.get(appliance)?;
        let bridge = bridge.liveness.bridge.as_ref()?;
        match self.bridges.get(bridge)? {
            BridgeVerdict::Down(since) => Some((*since, bridge)),
            BridgeVerdict::Up => None,
        }
    }

    fn changes(&mut self) -> Vec<(EntityId, Reconfiguration)> {
        let application_failed = self.application_failed();
        let mut changes = Vec::new();
        for element in self.topology.elements.keys() {
            let served = self.served_for(element);
            let concerned = application_failed.is_some() && self.has_appliances(element);
            let wanted = Reconfiguration {
                epoch: self.epoch + 1,
                served,
                application_failed: application_failed.clone().filter(|_| concerned),
                ..Reconfiguration::default()
            };
            let told = self.told.entry(element.clone()).or_default();
            if !told.says_as(&wanted) {
                *told = wanted.clone();
                changes.push((element.clone(), wanted));
            }
        }
        self.epoch += u64::from(!changes.is_empty());
        changes
    }

    fn served_for(&self, element: &EntityId) -> BTreeMap<EntityId, Served> {
        let used: BTreeSet<&EntityId> = self.topology.prerequisites(element).collect();
        let served = |(of, decision): (&EntityId, &Decision)| {
            let served = match decision {
                Decision::Substitute { by, .. } => Served::By(by.clone()),
                Decision::Nobody { .. } => Served::Nobody,
            };
            used.contains(of).then(|| (of.clone(), served))
        };
        self.decisions.iter().filter_map(served).collect()
    }

    fn has_appliances(&self, element: &EntityId) -> bool {
        let mut all = self.topology.prerequisites(element);
        all.any(|entity| self.topology.appliances.contains_key(entity))
    }

    fn application_failed(&self) -> Option<String> {
        let lost = |(of, decision): (&EntityId, &Decision)| {
            let essential = self.topology.appliances.get(of)?.essential;
            let nobody = matches!(decision, Decision::Nobody { .. });
            (essential && nobody)
                .then(|| format!("{of} is essential, it failed, and nothing can take its place"))
        };
        self.decisions.iter().find_map(lost)
    }

    /// Those that a server watched are watched by others, as near to them as may be.
    fn rewatch(&mut self, lost: &EntityId, there: &BTreeSet<EntityId>) -> BTreeSet<EntityId> {
        let mut told = BTreeSet::new();
        for (appliance, watcher) in &mut self.watchers {
            if watcher != lost {
                continue;
            }
            let near = servers_of(&self.topology, appliance).find(|server| there.contains(*server));
            if let Some(server) = near.or_else(|| there.first()) {
                watcher.clone_from(server);
                told.insert(server.clone());
            }
        }
        told
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        match self.learning {
            Learning::Until(at) => Some(at),
            Learning::NotBegun | Learning::Done => None,
        }
    }
}

impl GlobalManager {
    /// Says how agents reach what appliances speak over, encoded for their shell.
    #[must_use]
    pub fn hearing_over(mut self, access: Vec<u8>) -> Self {
        self.appliances.access = access;
        self
    }

    /// An agent is there: it is told what to watch and what was decided.
    pub(super) fn appliances_of(
        &mut self,
        now: Now,
        server: &EntityId,
        agent: ConnectionId,
        effects: &mut Vec<Effect>,
    ) {
        self.have_watched(server, agent, effects);
        for (element, reconfiguration) in &self.appliances.told {
            let here = self
                .elements
                .get(element)
                .is_some_and(|e| e.server == *server);
            if here && reconfiguration.epoch > 0 {
                let reconfigure = ToAgent::Reconfigure {
                    element: element.clone(),
                    reconfiguration: reconfiguration.clone(),
                };
                effects.push(Effect::TellAgent(agent, reconfigure));
            }
        }
        self.appliances.registered.insert(server.clone());
        if matches!(self.appliances.learning, Learning::NotBegun) {
            self.appliances.learning = Learning::Until(now.monotonic + LEARN_WITHIN);
        }
        let all = self.servers.keys();
        if all
            .into_iter()
            .all(|known| self.appliances.registered.contains(known))
        {
            self.appliances.learning = Learning::Done;
        }
        self.decide_on_appliances(effects);
    }

    fn have_watched(&self, server: &EntityId, agent: ConnectionId, effects: &mut Vec<Effect>) {
        let watched = self.appliances.watched_by(server);
        for appliances in watched.chunks(STATUS_ENTITIES_MAX) {
            let watch = ToAgent::Watch {
                appliances: appliances.to_vec(),
                access: self.appliances.access.clone(),
            };
            effects.push(Effect::TellAgent(agent, watch));
        }
    }

    /// A server is lost: what its agent watched is watched by the agents of others.
    pub(super) fn watch_elsewhere(&mut self, lost: &EntityId, effects: &mut Vec<Effect>) {
        let there = self.servers.keys().filter(|server| {
            *server != lost && self.is_there(server) && self.agent_of(server).is_some()
        });
        let there: BTreeSet<EntityId> = there.cloned().collect();
        for server in self.appliances.rewatch(lost, &there) {
            if let Some(agent) = self.agent_of(&server) {
                self.have_watched(&server, agent, effects);
            }
        }
    }

    /// An agent says something of appliances.
    pub(super) fn told_of_appliances(&mut self, told: FromAgent, effects: &mut Vec<Effect>) {
        match told {
            FromAgent::Judged { appliance, verdict } => {
                self.appliances.verdicts.insert(appliance, verdict);
            }
            FromAgent::JudgedBridge { bridge, verdict } => {
                self.appliances.bridges.insert(bridge, verdict);
            }
            FromAgent::Reconfigured {
                element,
                reconfiguration,
            } => self.appliances.learn(element, reconfiguration),
            FromAgent::Registered { .. }
            | FromAgent::Suspected { .. }
            | FromAgent::Status(_)
            | FromAgent::Reported { .. }
            | FromAgent::Listening(_)
            | FromAgent::Stopped
            | FromAgent::Escalated { .. }
            | FromAgent::Beats { .. }
            | FromAgent::Noticed(_)
            | FromAgent::Between(_)
            | FromAgent::Lacking { .. } => return,
        }
        self.decide_on_appliances(effects);
    }

    /// Decides, unless those who know what was decided before have not been heard yet.
    fn decide_on_appliances(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.appliances.learning, Learning::Done) || self.stopping.is_some() {
            return;
        }
        let away =
            |(server, agent): (&EntityId, &Option<_>)| agent.is_none().then(|| server.clone());
        let servers_away = self.servers.iter().filter_map(away).collect();
        for (element, reconfiguration) in self.appliances.decide(&servers_away) {
            let placed = self.elements.get(&element);
            let agent = placed.and_then(|placed| self.servers.get(&placed.server)?.as_ref());
            // An agent that is away is told when it is back.
            effects.extend(agent.map(|agent| {
                let reconfigure = ToAgent::Reconfigure {
                    element,
                    reconfiguration,
                };
                Effect::TellAgent(agent.connection, reconfigure)
            }));
        }
    }

    pub(super) fn learn_no_longer(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        if self.appliances.next_deadline().is_some_and(|at| at <= now) {
            self.appliances.learning = Learning::Done;
            self.decide_on_appliances(effects);
        }
    }

    /// How the application is: its appliances and its elements together.
    fn application(&self) -> ApplicationState {
        let (fatal, missing) = self.missing_elements();
        match (self.appliances.application(), fatal) {
            (failed @ ApplicationState::Failed { .. }, _) => failed,
            (_, Some(reason)) => ApplicationState::Failed { reason },
            (ApplicationState::Whole, None) if missing.is_empty() => ApplicationState::Whole,
            (ApplicationState::Whole, None) => ApplicationState::Degraded { reasons: missing },
            (ApplicationState::Degraded { mut reasons }, None) => {
                reasons.extend(missing);
                ApplicationState::Degraded { reasons }
            }
        }
    }

    pub(super) fn answer_appliances(&self, to: ConnectionId, effects: &mut Vec<Effect>) {
        let ids = self.appliances.topology.appliances.keys();
        let all: Vec<ApplianceStatus> = ids.map(|id| self.appliances.status(id)).collect();
        let application = self.application();
        let mut chunks = all.chunks(STATUS_ENTITIES_MAX);
        loop {
            let appliances = chunks.next().unwrap_or_default().to_vec();
            let more = chunks.len() > 0;
            let answer = Answer::Appliances {
                appliances,
                application: application.clone(),
                more,
            };
            effects.push(Effect::Answer(to, answer));
            if !more {
                return;
            }
        }
    }
}

fn is_watchable(liveness: &Liveness) -> bool {
    let Liveness {
        silent_after,
        probe,
        availability,
        bridge,
        ..
    } = liveness;
    silent_after.is_some() || probe.is_some() || availability.is_some() || bridge.is_some()
}
