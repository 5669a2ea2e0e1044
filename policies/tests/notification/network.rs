//! Configurators on a network that delays, loses, repeats and reorders, and a manager that tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::notification::{
    BetweenElements, EntityState, LatestOnly, Need, Neighbourhood, Notice, NoticeDecision, Said,
    Table,
};
use lamplighter_policies::protocol::appliances::Reconfiguration;
use lamplighter_policies::protocol::configurator::{
    Configurator, ConfiguratorSettings, Effect, Input,
};
use lamplighter_policies::time::{Monotonic, Now};

/// How far a run may go before it is held to be endless.
const STEPS_MAX: usize = 200_000;
/// How long those who are up may take to come to rest while somebody is down.
const IDLE_AFTER: Duration = Duration::from_secs(30);

/// Who depends on whom, and whether it can do without.
pub(crate) type Edge = (&'static str, &'static str, Need);

pub(crate) fn id(name: &str) -> EntityId {
    EntityId::new(name).expect("the tests use good ids")
}

/// What the network does to messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// All arrive, in the order in which they were sent.
    Fair,
    /// Some are lost, some come twice, and all in any order.
    Foul,
}

/// One element: what is lost when it fails, and its log, which is not.
struct Node {
    configurator: Option<Configurator>,
    settings: ConfiguratorSettings,
    log: Reconfiguration,
    version: u64,
    incarnation: u64,
    /// Reached the log and is not in force yet.
    newest: Reconfiguration,
}

/// Something on its way.
#[derive(Clone)]
enum Wire {
    Told(EntityId, Reconfiguration),
    Between(BetweenElements),
    Shown(EntityId, Reconfiguration),
    /// The store of an element took a record; it is neither lost nor repeated.
    Logged(EntityId, u64, Reconfiguration),
}

pub(crate) struct Network {
    nodes: BTreeMap<EntityId, Node>,
    notices: BTreeMap<EntityId, Notice>,
    outbox: LatestOnly<(EntityId, EntityId), Notice>,
    wires: Vec<Wire>,
    now: Monotonic,
    weather: Weather,
    dice: u64,
    /// How many reconfigurations elements told their followers.
    pub(crate) reconfigurations: usize,
}

impl Network {
    pub(crate) fn new(edges: &[(EntityId, EntityId, Need)], weather: Weather, seed: u64) -> Self {
        let mut around: BTreeMap<EntityId, Neighbourhood> = BTreeMap::new();
        for (from, to, need) in edges {
            let dependent = around.entry(from.clone()).or_default();
            dependent.needs(to.clone(), *need);
            let prerequisite = around.entry(to.clone()).or_default();
            prerequisite.dependents.insert(from.clone());
        }
        let node = |(element, around): (EntityId, Neighbourhood)| {
            let settings = ConfiguratorSettings {
                element: element.clone(),
                follows: around.prerequisites.keys().cloned().collect(),
                around,
            };
            let node = Node {
                configurator: None,
                settings,
                log: Reconfiguration::default(),
                version: 0,
                incarnation: 0,
                newest: Reconfiguration::default(),
            };
            (element, node)
        };
        let mut network = Self {
            nodes: around.into_iter().map(node).collect(),
            notices: BTreeMap::new(),
            outbox: LatestOnly::default(),
            wires: Vec::new(),
            now: Monotonic(0),
            weather,
            dice: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            reconfigurations: 0,
        };
        for element in network.elements() {
            network.start(&element);
        }
        network
    }

    fn node(&mut self, element: &EntityId) -> &mut Node {
        let node = self.nodes.get_mut(element);
        node.expect("it has an edge")
    }

    pub(crate) fn elements(&self) -> Vec<EntityId> {
        self.nodes.keys().cloned().collect()
    }

    pub(crate) fn is_up(&self, element: &EntityId) -> bool {
        self.nodes[element].configurator.is_some()
    }

    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        usize::try_from(self.dice >> 33).expect("31 bits fit") % sides
    }

    /// The element is gone, and what it had not logged with it.
    pub(crate) fn crash(&mut self, element: &EntityId) {
        let node = self.node(element);
        node.configurator = None;
        node.newest = node.log.clone();
    }

    /// It starts again with all that the manager has decided.
    pub(crate) fn start(&mut self, element: &EntityId) {
        let mut present = Table::default();
        for notice in self.notices.values() {
            present.join(&Table::of(notice));
        }
        let node = self.node(element);
        node.incarnation += 1;
        node.configurator = Some(Configurator::new(node.settings.clone()));
        if node.log.join(&Reconfiguration::of_peers(present)) {
            node.version += 1;
        }
        node.newest = node.log.clone();
        self.tell(element, Input::Started);
    }

    /// The manager commits how an element is.
    pub(crate) fn commit(&mut self, element: &EntityId, state: EntityState) {
        let epoch = self.notices.get(element).map_or(1, |n| n.epoch + 1);
        let decision = if state == EntityState::Up {
            NoticeDecision::Resume
        } else {
            NoticeDecision::AwaitRecovery
        };
        let notice = Notice {
            term: 1,
            entity: element.clone(),
            epoch,
            state,
            decision,
        };
        self.notices.insert(element.clone(), notice.clone());
        let around = &self.nodes[element].settings.around;
        for neighbour in around.dependents.iter().chain(around.prerequisites.keys()) {
            let row = (neighbour.clone(), element.clone());
            self.outbox.put(self.now, row, notice.clone());
        }
        self.say_due();
    }

    /// Lets at most `steps` messages arrive.
    pub(crate) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            if !self.step() {
                return;
            }
        }
    }

    /// Runs until nothing is on its way and nobody wants to say anything more.
    pub(crate) fn settle(&mut self) {
        // What is for those who are down is said for ever; after this nothing else is.
        let idle_from = self.now + IDLE_AFTER;
        for _ in 0..STEPS_MAX {
            if self.step() {
                continue;
            }
            let nodes = self.nodes.values().filter_map(|n| n.configurator.as_ref());
            let deadlines = nodes.filter_map(Machine::next_deadline);
            let Some(at) = deadlines.chain(self.outbox.next_deadline()).min() else {
                return;
            };
            let everyone = self.nodes.values().all(|node| node.configurator.is_some());
            if !everyone && at > idle_from {
                return;
            }
            self.now = self.now.max(at);
            self.wake();
        }
        panic!("it never settles");
    }

    fn wake(&mut self) {
        self.say_due();
        for element in self.elements() {
            let now = self.time();
            let node = self.node(&element);
            let mut effects = Vec::new();
            if let Some(configurator) = &mut node.configurator {
                configurator.wake(now, &mut effects);
            }
            self.perform(&element, effects);
        }
    }

    fn say_due(&mut self) {
        for ((to, _), notice) in self.outbox.due(self.now) {
            let peers = Table::of(&notice);
            self.wires
                .push(Wire::Told(to, Reconfiguration::of_peers(peers)));
        }
    }

    fn step(&mut self) -> bool {
        if self.wires.is_empty() {
            return false;
        }
        if self.weather == Weather::Fair {
            let wire = self.wires.remove(0);
            self.arrive(wire);
            return true;
        }
        if self.roll(6) == 0 {
            // Time goes on while messages are under way.
            self.now = self.now + Duration::from_millis(15);
            self.wake();
        }
        let at = self.roll(self.wires.len());
        let wire = self.wires.swap_remove(at);
        let lossless = matches!(wire, Wire::Logged(..));
        match self.roll(10) {
            0 | 1 if !lossless => {}
            2 | 3 if !lossless => {
                self.wires.push(wire.clone());
                self.arrive(wire);
            }
            _ => self.arrive(wire),
        }
        true
    }

    fn arrive(&mut self, wire: Wire) {
        match wire {
            Wire::Told(to, reconfiguration) => self.tell(&to, Input::Told(reconfiguration)),
            Wire::Between(message) => {
                let to = message.to.clone();
                self.tell(&to, Input::Heard(message));
            }
            Wire::Shown(by, shown) => self
                .outbox
                .retain(|(to, _), notice| *to != by || !shown.peers.covers(&Table::of(notice))),
            Wire::Logged(element, incarnation, reconfiguration) => {
                let node = self.node(&element);
                if node.incarnation != incarnation || node.configurator.is_none() {
                    return;
                }
                node.version += 1;
                node.log.join(&reconfiguration);
                self.show(&element);
            }
        }
    }

    fn show(&mut self, element: &EntityId) {
        let node = &self.nodes[element];
        let applied = Input::Applied {
            incarnation: node.incarnation,
            version: node.version,
            reconfiguration: node.log.clone(),
        };
        self.tell(element, applied);
    }

    fn tell(&mut self, element: &EntityId, input: Input) {
        let now = self.time();
        let node = self.node(element);
        let mut effects = Vec::new();
        if let Some(configurator) = &mut node.configurator {
            configurator.handle(now, input, &mut effects);
        }
        self.perform(element, effects);
    }

    fn perform(&mut self, element: &EntityId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::AskWhatIsApplied => self.show(element),
                Effect::Apply(reconfiguration) => {
                    let node = self.node(element);
                    if node.newest.join(&reconfiguration) {
                        let incarnation = node.incarnation;
                        let logged = Wire::Logged(element.clone(), incarnation, reconfiguration);
                        self.wires.push(logged);
                    }
                }
                Effect::Show(shown) => self.wires.push(Wire::Shown(element.clone(), shown)),
                Effect::Say(message) => {
                    let told = matches!(message.said, Said::Reconfigured(_));
                    self.reconfigurations += usize::from(told);
                    self.wires.push(Wire::Between(message));
                }
                Effect::Pull(_) => unreachable!("nobody sends digests here"),
            }
        }
    }

    fn time(&self) -> Now {
        Now {
            monotonic: self.now,
            ..Now::default()
        }
    }

    /// By element that is up, how it is and whom it blocks.
    pub(crate) fn situations(&self) -> BTreeMap<EntityId, (EntityState, BTreeSet<EntityId>)> {
        let up = self.nodes.iter().filter(|(_, n)| n.configurator.is_some());
        let situation = |(element, node): (&EntityId, &Node)| {
            let (around, seen) = (&node.settings.around, node.log.seen());
            let situation = (around.effective(&seen), around.blocked(&seen));
            (element.clone(), situation)
        };
        up.map(situation).collect()
    }

    /// The same as it has to be: worked out from the prerequisites to the dependents in one go, with the
    /// manager's last word about each.
    pub(crate) fn expected(&self) -> BTreeMap<EntityId, (EntityState, BTreeSet<EntityId>)> {
        let mut known = Table::default();
        for notice in self.notices.values() {
            known.join(&Table::of(notice));
        }
        let mut expected = BTreeMap::new();
        // As many rounds as there are elements reach the end of the longest path.
        for version in 1..=self.nodes.len() {
            for (element, node) in &self.nodes {
                let around = &node.settings.around;
                let state = around.effective(&known);
                expected.insert(element.clone(), (state.clone(), around.blocked(&known)));
                let own = lamplighter_policies::notification::Situation {
                    incarnation: 1,
                    version: version as u64,
                    state,
                };
                known.join(&Table::of_situation(element.clone(), own));
            }
        }
        expected.retain(|element, _| self.is_up(element));
        expected
    }
}
