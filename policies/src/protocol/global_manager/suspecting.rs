//! From what agents notice of each other to what is held of a server (paper, 4.2.2; the decision before
//! the repair).
//!
//! A suspicion opens a window. The other observers, a few relays and the server's own agent are asked to
//! look; one sign of life refutes it, and silence for enough of them confirms it. That the manager itself
//! hears nothing of a server is never evidence: its own network may be what failed. Nobody is believed who
//! suspects most of what it observes while others do not, and where much of a zone falls silent at once
//! more time is given, because that is more likely the network.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Effect, GlobalManager};
use crate::detection::{
    HeartbeatProfile, HeartbeatSecret, Judgement, MonitorOrder, Noticed, Observation, Observers,
    Peer, Suspicion, Verdict, assign_observers,
};
use crate::ids::EntityId;
use crate::model::{Channel, Server, Topology};
use crate::protocol::control::{ServerState, ToAgent};
use crate::time::{Monotonic, Now};

/// An observer that suspects so many servers may be the one that is cut off.
const ISOLATED_SUSPICIONS: usize = 3;
/// So many servers of a zone must be suspected before the network is.
const MASS_SUSPICIONS: usize = 3;
/// If this share of a zone, in tenths, is exceeded by those suspected at once.
const MASS_TENTHS: usize = 3;
/// What is suspected at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What is known of servers through their agents.
#[derive(Debug)]
pub(super) struct Suspecting {
    application: EntityId,
    secret: HeartbeatSecret,
    rules: HeartbeatProfile,
    servers: BTreeMap<EntityId, Server>,
    channels: BTreeMap<EntityId, Channel>,
    peers: BTreeMap<EntityId, Peer>,
    /// By server, who observes it.
    observers: Observers,
    /// By server, whom it observes.
    observed: BTreeMap<EntityId, BTreeSet<EntityId>>,
    /// By agent, what it was told last.
    told: BTreeMap<EntityId, Observation>,
    open: BTreeMap<EntityId, Suspicion>,
    /// How many suspicions there were; it makes others relays each time.
    count: usize,
}

impl Suspecting {
    pub(super) fn new(topology: &Topology) -> Self {
        let mut suspecting = Self {
            application: topology.application.name.clone(),
            secret: HeartbeatSecret::default(),
            rules: topology.detection.profile.heartbeats(),
            servers: topology.servers.clone(),
            channels: topology.channels.clone(),
            peers: BTreeMap::new(),
            observers: Observers::new(),
            observed: BTreeMap::new(),
            told: BTreeMap::new(),
            open: BTreeMap::new(),
            count: 0,
        };
        suspecting.assign(&BTreeSet::new());
        suspecting
    }

    fn assign(&mut self, absent: &BTreeSet<EntityId>) {
        self.observers = assign_observers(&self.servers, &self.channels, absent);
        self.observed.clear();
        for (server, by) in &self.observers {
            for observer in by {
                let observed = self.observed.entry(observer.clone()).or_default();
                observed.insert(server.clone());
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.open.values().map(Suspicion::ends_at).min()
    }

    pub(super) fn observers_of(&self, server: &EntityId) -> Vec<EntityId> {
        let observers = self.observers.get(server).into_iter().flatten();
        observers.cloned().collect()
    }

    fn peer(&self, server: &EntityId) -> Peer {
        let known = self.peers.get(server).cloned();
        known.unwrap_or_else(|| Peer {
            server: server.clone(),
            address: None,
            incarnation: None,
        })
    }

    fn observation_of(&self, server: &EntityId) -> Observation {
        let peers = |of: &BTreeMap<EntityId, BTreeSet<EntityId>>| {
            let servers = of.get(server).into_iter().flatten();
            servers.map(|server| self.peer(server)).collect()
        };
        Observation {
            application: self.application.clone(),
            secret: self.secret.clone(),
            rules: self.rules,
            observed: peers(&self.observed),
            observers: peers(&self.observers),
        }
    }

    /// Those who must know of a change of this server, itself included.
    fn concerned(&self, server: &EntityId) -> BTreeSet<EntityId> {
        let observers = self.observers.get(server).into_iter().flatten();
        let observed = self.observed.get(server).into_iter().flatten();
        let concerned = observers.chain(observed).chain([server]);
        concerned.cloned().collect()
    }

    /// Whether an observer suspects so much that others do not that it must be cut off itself.
    fn is_isolated(&self, observer: &EntityId) -> bool {
        let observed = self.observed.get(observer).map_or(0, BTreeSet::len);
        let suspicions: Vec<&Suspicion> = self
            .open
            .values()
            .filter(|suspicion| suspicion.is_silent_for(observer))
            .collect();
        let alone = |suspicion: &&Suspicion| suspicion.silent_for().count() == 1;
        suspicions.len() >= ISOLATED_SUSPICIONS
            && suspicions.len() * 2 >= observed
            && suspicions.iter().all(alone)
    }

    /// Whether so much of the zone of a server fell silent at once that it may be the network.
    fn is_mass(&self, server: &EntityId) -> Option<BTreeSet<EntityId>> {
        let zone = &self.servers.get(server)?.zone;
        let since = self.open.get(server)?.since();
        let in_zone = |other: &EntityId| self.servers.get(other).map(|s| &s.zone) == Some(zone);
        let size = self.servers.values().filter(|s| s.zone == *zone).count();
        let at_once: BTreeSet<EntityId> = self
            .open
            .iter()
            .filter(|(other, open)| in_zone(other) && since - open.since() <= AT_ONCE)
            .map(|(other, _)| other.clone())
            .collect();
        let is_mass = at_once.len() >= MASS_SUSPICIONS && at_once.len() * 10 > size * MASS_TENTHS;
        is_mass.then_some(at_once)
    }
}

impl GlobalManager {
    /// The same manager, with the secret that heartbeats are signed with.
    #[must_use]
    pub fn signing_heartbeats_with(mut self, secret: HeartbeatSecret) -> Self {
        self.suspecting.secret = secret;
        self
    }

    /// An agent says where it hears heartbeats: those who observe it, or are observed by it, are told.
    pub(super) fn beats(
        &mut self,
        server: &EntityId,
        address: String,
        incarnation: u64,
        effects: &mut Vec<Effect>,
    ) {
        let peer = Peer {
            server: server.clone(),
            address: Some(address),
            incarnation: Some(incarnation),
        };
        self.suspecting.peers.insert(server.clone(), peer);
        self.suspecting.told.remove(server);
        self.assign_monitors(self.suspecting.concerned(server), effects);
    }

    /// Any word of a server's agent is a sign of its life.
    pub(super) fn spoke(&mut self, now: Now, server: &EntityId, effects: &mut Vec<Effect>) {
        match self.server_state(server) {
            ServerState::Awaited => self.stands(now, server, ServerState::Up, None),
            ServerState::Up | ServerState::Returned => {}
            ServerState::Suspected | ServerState::Failed => self.heard(now, server, effects),
        }
    }

    pub(super) fn noticed(
        &mut self,
        now: Now,
        by: &EntityId,
        noticed: Noticed,
        effects: &mut Vec<Effect>,
    ) {
        match noticed {
            Noticed::Suspected {
                server, unwellness, ..
            } => self.suspected(now, by, server, unwellness, effects),
            Noticed::Silent { server, unwellness } => {
                if let Some(suspicion) = self.suspecting.open.get_mut(&server) {
                    suspicion.silent(by.clone(), unwellness);
                }
                self.settle(now, effects);
            }
            Noticed::Heard { server } => self.heard(now, &server, effects),
        }
    }

    /// Decides what can be decided by now.
    pub(super) fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stopping.is_some() {
            // Servers fall silent one after another, as they are told to.
            self.suspecting.open.clear();
        }
        let ripe = |suspicion: &Suspicion| suspicion.verdict(now.monotonic) != Verdict::Open;
        let open = self.suspecting.open.iter();
        let due: Vec<EntityId> = open
            .filter(|(_, suspicion)| ripe(suspicion))
            .map(|(server, _)| server.clone())
            .collect();
        for server in due {
            self.discount_isolated(now, &server, effects);
            let Some(suspicion) = self.suspecting.open.remove(&server) else {
                continue;
            };
            match suspicion.verdict(now.monotonic) {
                Verdict::Open => drop(self.suspecting.open.insert(server, suspicion)),
                Verdict::Refuted | Verdict::Unfounded => self.acquit(now, &server, effects),
                Verdict::Confirmed => self.condemn(now, &server, &suspicion, effects),
            }
        }
    }

    fn suspected(
        &mut self,
        now: Now,
        by: &EntityId,
        server: EntityId,
        unwellness: u8,
        effects: &mut Vec<Effect>,
    ) {
        if self.stopping.is_some() || !self.servers.contains_key(&server) {
            return;
        }
        match self.server_state(&server) {
            ServerState::Failed => {
                return self.tell_judgement(by, &server, Judgement::Failed, effects);
            }
            ServerState::Awaited | ServerState::Up | ServerState::Returned => {
                self.open_suspicion(now, &server, Some(by), effects);
            }
            ServerState::Suspected => {}
        }
        if let Some(suspicion) = self.suspecting.open.get_mut(&server) {
            suspicion.silent(by.clone(), unwellness);
        }
        self.settle(now, effects);
    }

    /// Asks whoever may know: the other observers, some relays, and the server's agent itself.
    fn open_suspicion(
        &mut self,
        now: Now,
        server: &EntityId,
        by: Option<&EntityId>,
        effects: &mut Vec<Effect>,
    ) {
        let suspicion = Suspicion::new(self.suspecting.rules.confirmation, now.monotonic);
        self.suspecting.open.insert(server.clone(), suspicion);
        let cause = by.map(|by| format!("{by} hears no heartbeats of it"));
        self.stands(now, server, ServerState::Suspected, cause);
        let mut asked: Vec<EntityId> = self.suspecting.observers_of(server);
        asked.retain(|observer| Some(observer) != by);
        asked.extend(self.relays(server, by, &asked));
        asked.push(server.clone());
        let look = MonitorOrder::Look(self.suspecting.peer(server));
        for agent in asked {
            self.tell_monitor(&agent, look.clone(), effects);
        }
        if let Some(at_once) = self.suspecting.is_mass(server) {
            let open = self.suspecting.open.iter_mut();
            let held = open.filter(|(server, _)| at_once.contains(*server));
            held.for_each(|(_, suspicion)| suspicion.hold());
        }
    }

    /// Servers that do not observe this one and can look, those of other zones first.
    fn relays(
        &mut self,
        server: &EntityId,
        by: Option<&EntityId>,
        observers: &[EntityId],
    ) -> Vec<EntityId> {
        self.suspecting.count += 1;
        let suspecting = &self.suspecting;
        let zone = |server: &EntityId| suspecting.servers.get(server).map(|s| &s.zone);
        let connected = self.servers.iter().filter(|(_, agent)| agent.is_some());
        let mut relays: Vec<&EntityId> = connected
            .map(|(relay, _)| relay)
            .filter(|relay| *relay != server && Some(*relay) != by && !observers.contains(relay))
            .collect();
        if !relays.is_empty() {
            let turn = suspecting.count % relays.len();
            relays.rotate_left(turn);
        }
        relays.sort_by_key(|relay| zone(relay) == zone(server));
        let count = usize::try_from(suspecting.rules.confirmation.relays).unwrap_or(0);
        relays.into_iter().take(count).cloned().collect()
    }

    fn heard(&mut self, now: Now, server: &EntityId, effects: &mut Vec<Effect>) {
        if let Some(suspicion) = self.suspecting.open.get_mut(server) {
            suspicion.alive(now.monotonic);
            self.settle(now, effects);
        } else if self.server_state(server) == ServerState::Failed {
            self.tell_observers(server, Judgement::Alive, effects);
            self.server_returned(now, server, effects);
            self.reassign(effects);
        }
    }

    /// What somebody says who must be cut off itself counts for nothing; others look at it instead.
    fn discount_isolated(&mut self, now: Now, server: &EntityId, effects: &mut Vec<Effect>) {
        let Some(suspicion) = self.suspecting.open.get(server) else {
            return;
        };
        let silent: Vec<EntityId> = suspicion.silent_for().cloned().collect();
        let isolated: Vec<EntityId> = silent
            .into_iter()
            .filter(|observer| self.suspecting.is_isolated(observer))
            .filter(|observer| self.others_are_trusted(observer))
            .collect();
        for observer in isolated {
            for suspicion in self.suspecting.open.values_mut() {
                suspicion.discount(&observer);
            }
            let state = self.server_state(&observer);
            if matches!(state, ServerState::Up | ServerState::Returned) {
                self.open_suspicion(now, &observer, None, effects);
            }
        }
    }

    /// Whether somebody else is there who would know better.
    fn others_are_trusted(&self, observer: &EntityId) -> bool {
        let connected = self.servers.iter().filter(|(_, agent)| agent.is_some());
        connected.map(|(server, _)| server).any(|other| {
            let state = self.server_state(other);
            other != observer && matches!(state, ServerState::Up | ServerState::Returned)
        })
    }

    /// Nothing was wrong with it.
    fn acquit(&mut self, now: Now, server: &EntityId, effects: &mut Vec<Effect>) {
        self.stands(now, server, ServerState::Up, None);
        self.tell_observers(server, Judgement::Alive, effects);
    }

    fn condemn(
        &mut self,
        now: Now,
        server: &EntityId,
        suspicion: &Suspicion,
        effects: &mut Vec<Effect>,
    ) {
        let silent: Vec<&str> = suspicion.silent_for().map(EntityId::as_str).collect();
        let network = if suspicion.is_held() {
            "; much of its zone fell silent at once, perhaps with the network"
        } else {
            ""
        };
        let took = now.monotonic - suspicion.since();
        let cause = format!(
            "silent for {} while it was asked, for {} ms{network}",
            silent.join(", "),
            took.as_millis()
        );
        self.tell_observers(server, Judgement::Failed, effects);
        self.server_failed(now, server, cause, effects);
        self.reassign(effects);
    }

    /// Assigns observers anew: a server that failed observes nobody.
    fn reassign(&mut self, effects: &mut Vec<Effect>) {
        let standings = self.standings.iter();
        let absent = standings
            .filter(|(_, standing)| standing.state == ServerState::Failed)
            .map(|(server, _)| server.clone())
            .collect();
        self.suspecting.assign(&absent);
        self.assign_monitors(self.servers.keys().cloned().collect(), effects);
    }

    /// Tells the agents of these servers whom to observe, where that is news.
    fn assign_monitors(&mut self, servers: BTreeSet<EntityId>, effects: &mut Vec<Effect>) {
        let is_connected =
            |server: &EntityId| self.servers.get(server).is_some_and(Option::is_some);
        let connected: Vec<EntityId> = servers.into_iter().filter(is_connected).collect();
        for server in connected {
            let observation = self.suspecting.observation_of(&server);
            if self.suspecting.told.get(&server) != Some(&observation) {
                let order = MonitorOrder::Observe(observation.clone());
                self.tell_monitor(&server, order, effects);
                self.suspecting.told.insert(server, observation);
            }
        }
    }

    fn tell_observers(&self, server: &EntityId, judgement: Judgement, effects: &mut Vec<Effect>) {
        for observer in self.suspecting.observers_of(server) {
            self.tell_judgement(&observer, server, judgement, effects);
        }
    }

    fn tell_judgement(
        &self,
        to: &EntityId,
        server: &EntityId,
        judgement: Judgement,
        effects: &mut Vec<Effect>,
    ) {
        let order = MonitorOrder::Judge(server.clone(), judgement);
        self.tell_monitor(to, order, effects);
    }

    fn tell_monitor(&self, server: &EntityId, order: MonitorOrder, effects: &mut Vec<Effect>) {
        if let Some(Some(agent)) = self.servers.get(server) {
            let order = ToAgent::Monitor(order);
            effects.push(Effect::TellAgent(agent.connection, order));
        }
    }
}

#[cfg(test)]
mod tests;
