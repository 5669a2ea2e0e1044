//! Servers, agents and a store around the manager's machines, as values: everything that happens is a
//! step, and the manager can be killed between any two of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::model::Topology;
use lamplighter_policies::protocol::appliances::Reconfiguration;
use lamplighter_policies::protocol::control::{
    Answer, Ask, Assignment, Decision, ElementState, ElementStatus, FromAgent, ToAgent,
};
use lamplighter_policies::protocol::global_manager::ledger::{Entry, Ledger};
use lamplighter_policies::protocol::global_manager::{ConnectionId, Effect, GlobalManager, Input};
use lamplighter_policies::protocol::lifecycle_manager::{self as lifecycle, LifecycleManager};
use lamplighter_policies::restart::RestartPolicy;
use lamplighter_policies::time::{Monotonic, Now, WallClock};

pub(super) fn id(name: &str) -> EntityId {
    EntityId::new(name).expect("a valid id")
}

/// An operator's connection.
pub(super) const OPERATOR: ConnectionId = ConnectionId(1_000_000);

/// For how long nothing but digests is said before all is taken to be at rest: longer than anything of
/// the manager waits.
const REST: u64 = 300_000_000_000;

/// All of it.
pub(super) struct World {
    topology: Topology,
    placement: BTreeMap<EntityId, EntityId>,
    manager: GlobalManager,
    lifecycle: LifecycleManager,
    now: u64,
    term: u64,
    /// The stable store: the checkpoint and what came after it.
    checkpoint: (u64, Ledger),
    journal: Vec<Entry>,
    /// Per element, the epoch of its owner: who claimed last.
    owners: BTreeMap<EntityId, u64>,
    pub(super) servers: BTreeMap<EntityId, Server>,
    /// What is to be done, in order.
    to_do: VecDeque<Job>,
    next_connection: u64,
    pub(super) answers: Vec<Answer>,
    /// How many jobs were done.
    pub(super) steps: usize,
    /// After how many jobs the manager is killed.
    pub(super) kill_at: Option<usize>,
    /// Whether the store answers.
    pub(super) store_answers: bool,
    /// The order in which elements resumed after a recovery.
    pub(super) resumed: Vec<EntityId>,
    /// What each element was told of those around it, as its log has it.
    told: BTreeMap<EntityId, Reconfiguration>,
}

/// A server with its agent.
#[derive(Default)]
pub(super) struct Server {
    pub(super) is_up: bool,
    connection: Option<ConnectionId>,
    /// What runs here, under which epoch, and how far it is.
    pub(super) hosted: BTreeMap<EntityId, (u64, ElementState)>,
}

#[derive(Debug)]
enum Job {
    Manager(Input),
    Effect(Effect),
    Lifecycle(lifecycle::Input),
    Agent(EntityId, ConnectionId, ToAgent),
    Start(EntityId, Assignment),
    Connect(EntityId),
}

impl World {
    /// An application that runs: every server is there, every element where the topology says.
    pub(super) fn running(topology: Topology) -> Self {
        let placement: BTreeMap<EntityId, EntityId> = topology
            .elements
            .iter()
            .map(|(id, element)| (id.clone(), element.server.clone().expect("it is placed")))
            .collect();
        let servers = topology.servers.keys().map(|server| {
            let up = Server {
                is_up: true,
                ..Server::default()
            };
            (server.clone(), up)
        });
        let mut world = Self {
            manager: GlobalManager::new(&topology, &placement, false),
            lifecycle: LifecycleManager::new(&placement),
            servers: servers.collect(),
            topology,
            placement,
            now: 0,
            term: 0,
            checkpoint: (0, Ledger::default()),
            journal: Vec::new(),
            owners: BTreeMap::new(),
            to_do: VecDeque::new(),
            next_connection: 0,
            answers: Vec::new(),
            steps: 0,
            kill_at: None,
            store_answers: true,
            resumed: Vec::new(),
            told: BTreeMap::new(),
        };
        world.start_manager();
        world.settle();
        world.resumed.clear();
        world
    }

    fn start_manager(&mut self) {
        self.term += 1;
        let (folded, ledger) = self.checkpoint.clone();
        let after = usize::try_from(folded).unwrap();
        self.to_do.push_back(Job::Manager(Input::Restored {
            term: self.term,
            ledger: Box::new(ledger),
            folded,
            entries: self.journal[after..].to_vec(),
        }));
        let servers: Vec<EntityId> = self.servers.keys().cloned().collect();
        self.to_do.extend(servers.into_iter().map(Job::Connect));
    }

    /// Kills the manager, whatever it was about to do, and starts another.
    pub(super) fn kill_manager(&mut self) {
        // What agents are told already reaches them; what the manager was about to do is lost.
        self.to_do
            .retain(|job| matches!(job, Job::Start(..) | Job::Agent(..)));
        self.manager = GlobalManager::new(&self.topology, &self.placement, false);
        self.lifecycle = LifecycleManager::new(&self.placement);
        self.start_manager();
    }

    pub(super) fn now(&self) -> Now {
        Now {
            monotonic: Monotonic(self.now),
            wall: WallClock(i64::try_from(self.now / 1_000).unwrap() + 1),
            skew: Duration::ZERO,
        }
    }

    /// A server dies with all that runs there.
    pub(super) fn lose(&mut self, server: &str) {
        let server = self.servers.get_mut(&id(server)).unwrap();
        server.is_up = false;
        server.hosted.clear();
        if let Some(connection) = server.connection.take() {
            self.to_do
                .push_back(Job::Manager(Input::ConnectionLost(connection)));
        }
    }

    /// A server comes back with what `hosted` says runs there.
    pub(super) fn bring_back(&mut self, server: &str, hosted: &[(&str, u64)]) {
        let back = self.servers.get_mut(&id(server)).unwrap();
        back.is_up = true;
        let running =
            |(element, epoch): &(&str, u64)| (id(element), (*epoch, ElementState::Running));
        back.hosted = hosted.iter().map(running).collect();
        self.to_do.push_back(Job::Connect(id(server)));
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        let connection = OPERATOR;
        self.to_do
            .push_back(Job::Manager(Input::OperatorAsked { connection, ask }));
    }

    pub(super) fn tell(&mut self, server: &str, message: FromAgent) {
        if let Some(connection) = self.servers[&id(server)].connection {
            self.to_do.push_back(Job::Manager(Input::AgentTold {
                connection,
                message,
            }));
        }
    }

    /// Does all that is to be done, and lets time pass up to every deadline, until nothing is left, or
    /// for long nothing but the digests of what everybody knows.
    pub(super) fn settle(&mut self) {
        let mut moved_at = self.now;
        for _ in 0..10_000 {
            while let Some(job) = self.to_do.pop_front() {
                self.steps += 1;
                self.do_job(job);
                if self.kill_at.take_if(|at| *at == self.steps).is_some() {
                    self.kill_manager();
                }
            }
            let Some(deadline) = self.manager.next_deadline() else {
                return;
            };
            if !self.store_answers && deadline.0 > self.now + 60_000_000_000 {
                return;
            }
            self.now = self.now.max(deadline.0);
            let mut effects = Vec::new();
            self.manager.wake(self.now(), &mut effects);
            let is_digest = |it: &Effect| matches!(it, Effect::TellAgent(_, ToAgent::Digest(_)));
            if effects.is_empty() || !effects.iter().all(is_digest) {
                moved_at = self.now;
            } else if self.now > moved_at + REST {
                return;
            }
            self.to_do.extend(effects.into_iter().map(Job::Effect));
        }
        panic!("it does not come to rest");
    }

    fn do_job(&mut self, job: Job) {
        match job {
            Job::Manager(input) => {
                let mut effects = Vec::new();
                self.manager.handle(self.now(), input, &mut effects);
                self.to_do.extend(effects.into_iter().map(Job::Effect));
            }
            Job::Effect(effect) => self.perform(effect),
            Job::Lifecycle(input) => {
                let mut effects = Vec::new();
                self.lifecycle.handle(self.now(), input, &mut effects);
                for lifecycle::Effect::Deploy(deployment) in effects {
                    let assignment = Assignment {
                        element: deployment.element,
                        epoch_floor: deployment.epoch_floor,
                        cause: deployment.cause,
                        restart: RestartPolicy::default(),
                        spec: Vec::new(),
                        resume_awaited: false,
                    };
                    let server = deployment.server;
                    self.to_do
                        .push_back(Job::Manager(Input::DeployOrdered { server, assignment }));
                }
            }
            Job::Agent(server, connection, told) => self.agent(&server, connection, told),
            Job::Start(server, assignment) => self.start(&server, &assignment),
            Job::Connect(server) => self.connect(&server),
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::TellAgent(to, told) => {
                let at = self.servers.iter().find(|(_, s)| s.connection == Some(to));
                if let Some(server) = at.map(|(server, _)| server.clone()) {
                    self.to_do.push_back(Job::Agent(server, to, told));
                }
            }
            Effect::Answer(to, answer) => {
                assert_eq!(to, OPERATOR);
                self.answers.push(answer);
            }
            Effect::Refuse { reason, .. } => panic!("{reason}"),
            Effect::Enrol { server, hosted } => {
                let enrolled = lifecycle::Input::ServerEnrolled { server, hosted };
                self.to_do.push_back(Job::Lifecycle(enrolled));
            }
            Effect::Place(deployment) => {
                let placed = lifecycle::Input::Placed(deployment);
                self.to_do.push_back(Job::Lifecycle(placed));
            }
            Effect::Finish => {}
            Effect::Journal { first, entries } => {
                if !self.store_answers {
                    let reason = "the store is away".into();
                    let delayed = Input::JournalDelayed { reason };
                    return self.to_do.push_back(Job::Manager(delayed));
                }
                assert_eq!(
                    first,
                    self.journal.len() as u64 + 1,
                    "no gap in the journal"
                );
                self.journal.extend(entries);
                let upto = self.journal.len() as u64;
                self.to_do
                    .push_back(Job::Manager(Input::Journalled { upto }));
            }
            Effect::Fold { upto, ledger } => {
                self.checkpoint = (upto, *ledger);
                let upto = Some(upto);
                self.to_do.push_back(Job::Manager(Input::Folded { upto }));
            }
        }
    }

    fn connect(&mut self, server: &EntityId) {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let it = self.servers.get_mut(server).unwrap();
        if !it.is_up {
            return;
        }
        it.connection = Some(connection);
        let hosted = it.hosted.iter();
        let hosted = hosted.map(|(element, (epoch, state))| status(element, *epoch, state));
        let message = FromAgent::Registered {
            hosted: hosted.collect(),
        };
        self.to_do.push_back(Job::Manager(Input::AgentConnected {
            connection,
            server: server.clone(),
            pid: 1,
        }));
        self.to_do.push_back(Job::Manager(Input::AgentTold {
            connection,
            message,
        }));
    }

    fn agent(&mut self, server: &EntityId, connection: ConnectionId, told: ToAgent) {
        let it = self.servers.get_mut(server).unwrap();
        if it.connection != Some(connection) || !it.is_up {
            return;
        }
        match told {
            ToAgent::Assign(assignment) => {
                if !it.hosted.contains_key(&assignment.element) {
                    self.to_do.push_back(Job::Start(server.clone(), assignment));
                }
            }
            ToAgent::Release { element, .. } => {
                if let Some((epoch, _)) = it.hosted.remove(&element) {
                    self.show(server, &element, epoch, &ElementState::Stopped);
                }
            }
            ToAgent::Resume { element } => {
                if let Some((epoch, state)) = it.hosted.get_mut(&element)
                    && *state == ElementState::Restored
                {
                    *state = ElementState::Running;
                    let epoch = *epoch;
                    self.resumed.push(element.clone());
                    self.show(server, &element, epoch, &ElementState::Running);
                }
            }
            ToAgent::Decided {
                element, decision, ..
            } => match decision {
                Decision::RestartInPlace | Decision::RestartAndAwait => {
                    let assignment = Assignment {
                        resume_awaited: decision == Decision::RestartAndAwait,
                        epoch_floor: 0,
                        cause: lamplighter_policies::protocol::messages::StartCause::Recovered,
                        restart: RestartPolicy::default(),
                        spec: Vec::new(),
                        element,
                    };
                    self.to_do.push_back(Job::Start(server.clone(), assignment));
                }
                Decision::Leave { .. } => {
                    it.hosted.remove(&element);
                }
            },
            ToAgent::Reconfigure {
                element,
                reconfiguration,
            } => self.log_notices(server, element, &reconfiguration),
            ToAgent::Orders { .. }
            | ToAgent::Report { .. }
            | ToAgent::Inject { .. }
            | ToAgent::Stop
            | ToAgent::Judge(_)
            | ToAgent::Reach(_)
            | ToAgent::Watch { .. }
            | ToAgent::Monitor(_)
            | ToAgent::Between(_)
            | ToAgent::Digest(_)
            | ToAgent::Await { .. } => {}
        }
    }

    /// An element that runs here logs what it is told, and shows its log.
    fn log_notices(&mut self, server: &EntityId, element: EntityId, told: &Reconfiguration) {
        let runs_here = self.servers[server].hosted.contains_key(&element);
        let logged = self.told.entry(element.clone()).or_default();
        logged.peers.join(&told.peers);
        if runs_here {
            let reconfiguration = logged.clone();
            let shown = FromAgent::Reconfigured {
                element,
                reconfiguration,
            };
            self.tell(server.as_str(), shown);
        }
    }

    /// A host claims the element, which shuts any other owner out, and restores it.
    fn start(&mut self, server: &EntityId, assignment: &Assignment) {
        let Assignment {
            element,
            epoch_floor,
            resume_awaited,
            ..
        } = assignment;
        let it = self.servers.get_mut(server).unwrap();
        if !it.is_up {
            return;
        }
        let owner = self.owners.entry(element.clone()).or_default();
        *owner = (*owner).max(*epoch_floor) + 1;
        let epoch = *owner;
        let state = match resume_awaited {
            true => ElementState::Restored,
            false => ElementState::Running,
        };
        if state == ElementState::Running {
            self.resumed.push(element.clone());
        }
        it.hosted.insert(element.clone(), (epoch, state.clone()));
        self.show(server, element, epoch, &state);
    }

    fn show(&mut self, server: &EntityId, element: &EntityId, epoch: u64, state: &ElementState) {
        let status = Box::new(status(element, epoch, state));
        self.tell(server.as_str(), FromAgent::Status(status));
    }

    /// Where each element runs under the epoch of its owner.
    pub(super) fn runs_at(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (server, it) in &self.servers {
            for (element, (epoch, state)) in &it.hosted {
                if *state == ElementState::Running && self.owners.get(element) == Some(epoch) {
                    all.insert(element.to_string(), server.to_string());
                }
            }
        }
        all
    }

    /// How often each element runs anywhere, owner or not.
    pub(super) fn copies(&self) -> BTreeSet<(String, usize)> {
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        for hosted in self.servers.values().flat_map(|it| it.hosted.keys()) {
            *copies.entry(hosted.to_string()).or_default() += 1;
        }
        copies.into_iter().collect()
    }

    /// What the journal amounts to.
    pub(super) fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for entry in &self.journal {
            ledger.apply(entry);
        }
        ledger
    }
}

fn status(element: &EntityId, epoch: u64, state: &ElementState) -> ElementStatus {
    ElementStatus {
        element: element.clone(),
        state: state.clone(),
        pid: Some(1),
        epoch,
        restarts: 0,
        last_failure: None,
        report: None,
    }
}
