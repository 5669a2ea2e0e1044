//! The manager as a process: global manager and lifecycle manager in their shells, and the
//! connections of agents and operators around them (paper, 3.3 and 4.2).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use lamplighter_policies::detection::HeartbeatSecret;
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Topology;
use lamplighter_policies::placement::{Budget, NoPlace, Problem, place};
use lamplighter_policies::protocol::control::{Answer, Assignment, FromManager, Peer, ToManager};
use lamplighter_policies::protocol::global_manager::{ConnectionId, Effect, GlobalManager, Input};
use lamplighter_policies::protocol::lifecycle_manager::{
    self as lifecycle, Deployment, LifecycleManager,
};
use lamplighter_policies::time::{Now, WallClock};
use lamplighter_runtime::message_pack::MessagePackError;
use lamplighter_runtime::store::StoreError;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::transport::control::{
    Admission, Admitted, Outbox, Token, receive_all, serve,
};
use lamplighter_runtime::transport::tls;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use crate::appliance_monitor::Hearing;
use crate::lifecycle_manager::{self, Describe};
use crate::shell::{Escalated, Incarnation, Perform, Role, RoleSettings, Shell};
use crate::spec::{BrokerAccess, ElementSpec, StoreAccess};

use self::journal::{Journal, JournalStore};

mod journal;

/// How long the last answers may take to leave.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a manager process is started with.
#[derive(Clone, Debug)]
pub struct ManagerPlan {
    /// The checked topology.
    pub topology: Topology,
    /// How hosts reach the broker.
    pub broker: BrokerAccess,
    /// How hosts reach the store.
    pub store: StoreAccess,
    /// The store itself, if this process has it open.
    pub here: Option<AnyStore>,
    /// What admits agents and operators.
    pub admission: Admission,
    /// What admits elements to those that they call.
    pub calls_token: Token,
    /// Whether faults may be injected.
    pub allow_inject: bool,
}

/// Why a manager could not start, or ended other than in order.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// An essential element has no place.
    #[error("no place for {element}: {why}; add a server or ask for less")]
    NoPlace {
        /// Which.
        element: EntityId,
        /// What keeps it from each server.
        why: NoPlace,
    },
    /// An element cannot be described to its host.
    #[error("an element cannot be described to its host: {0}")]
    Unencodable(#[from] MessagePackError),
    /// A role failed too often.
    #[error(transparent)]
    Escalated(#[from] Escalated),
    /// The journal cannot be kept: another manager has taken over, or the store refuses.
    #[error("the manager cannot keep its journal, and must not decide without it: {0}")]
    Journal(StoreError),
    /// The listener failed.
    #[error("the manager cannot accept connections: {0}")]
    Listener(#[from] io::Error),
}

/// Runs the manager until `stop` completes and every agent has stopped.
///
/// # Errors
/// Why it could not start or go on.
pub async fn run(
    plan: ManagerPlan,
    listener: TcpListener,
    stop: impl Future<Output = ()> + 'static,
) -> Result<(), ManagerError> {
    let connections: Connections = Rc::default();
    let finished = Rc::new(Notify::new());
    let (escalate, mut escalated) = mpsc::channel(1);
    let (replaced, mut refused) = mpsc::channel(1);
    let role = start_roles(
        &plan,
        connections.clone(),
        finished.clone(),
        escalate,
        replaced,
    )?;
    let next = Cell::new(0);
    let (admitting, table) = (role.clone(), connections.clone());
    let admit = move |admitted| {
        next.set(next.get() + 1);
        let connection = ConnectionId(next.get());
        hold(connection, admitted, admitting.clone(), table.clone())
    };
    let stopping = role.clone();
    let stop = tokio::task::spawn_local(async move {
        stop.await;
        stopping.tell(Input::StopRequested);
    });
    let outcome = tokio::select! {
        () = finished.notified() => Ok(()),
        Some(failed) = escalated.recv() => Err(failed.into()),
        Some(error) = refused.recv() => Err(ManagerError::Journal(error)),
        served = serve(listener, plan.admission, admit) => served.map_err(ManagerError::from),
    };
    stop.abort();
    role.stop();
    let outboxes: Vec<_> = connections
        .borrow()
        .values()
        .map(|connected| connected.outbox.clone())
        .collect();
    for outbox in outboxes {
        outbox.drained(LAST_WORDS).await;
    }
    outcome
}

/// Starts the global manager, which starts the lifecycle manager beside it.
fn start_roles(
    plan: &ManagerPlan,
    connections: Connections,
    finished: Rc<Notify>,
    escalate: mpsc::Sender<Escalated>,
    replaced: mpsc::Sender<StoreError>,
) -> Result<Role<Input>, ManagerError> {
    let access = JournalStore {
        application: plan.topology.application.name.clone(),
        access: plan.store.clone(),
        here: plan.here.clone(),
        security: plan.admission.security(),
    };
    let placement = first_placement(&plan.topology)?;
    let describe = describe(plan, &placement)?;
    let hearing = Hearing {
        application: plan.topology.application.name.clone(),
        broker: plan.broker.clone(),
    };
    let hearing = hearing.encode()?;
    let (topology, allow_inject) = (plan.topology.clone(), plan.allow_inject);
    let secret = HeartbeatSecret::new(plan.calls_token.reveal());
    let escalated = move |failed| {
        // The first failure ends the process; the second changes nothing.
        drop(escalate.try_send(failed));
    };
    let escalations = escalated.clone();
    let factory = move |role: &Role<Input>| {
        // Whatever it knew is told again by the agents, which connect anew.
        connections.borrow_mut().clear();
        let first = placement.clone();
        let make = move || LifecycleManager::new(&first);
        let lifecycle =
            lifecycle_manager::start(make, describe.clone(), role.clone(), escalations.clone());
        Incarnation {
            machine: GlobalManager::new(&topology, &placement, allow_inject)
                .hearing_over(hearing.clone())
                .signing_heartbeats_with(secret.clone()),
            performer: Hands {
                connections: connections.clone(),
                lifecycle,
                journal: Journal::open(access.clone(), role.lasting(), replaced.clone()),
                finished: finished.clone(),
            },
            first: vec![],
        }
    };
    Ok(Shell::start(
        RoleSettings::new("global manager"),
        factory,
        escalated,
    ))
}

/// Where elements run at first. The application starts without those that are not essential and have
/// no place.
fn first_placement(topology: &Topology) -> Result<BTreeMap<EntityId, EntityId>, ManagerError> {
    let placement = place(&Problem::initial(topology), Budget::DEPLOYMENT);
    for (element, why) in placement.unplaced {
        if topology.elements[&element].essential {
            return Err(ManagerError::NoPlace { element, why });
        }
        tracing::warn!(%element, %why, "an element has no place and is left out");
    }
    Ok(placement.hosts)
}

/// How each element is described to its host, wherever it is placed.
///
/// # Errors
/// One cannot be: all are tried once, so that none fails to be when it matters.
fn describe(
    plan: &ManagerPlan,
    placement: &BTreeMap<EntityId, EntityId>,
) -> Result<Describe, MessagePackError> {
    for (element, server) in placement {
        assignment(plan, &Deployment::first(element, server))?;
    }
    let plan = plan.clone();
    Ok(Rc::new(move |deployment| {
        assignment(&plan, deployment).ok().flatten()
    }))
}

/// Writes down all that a host must know of an element. Where it runs decides when it is saved (paper,
/// Figure 4).
fn assignment(
    plan: &ManagerPlan,
    deployment: &Deployment,
) -> Result<Option<Assignment>, MessagePackError> {
    let id = &deployment.element;
    let spec = ElementSpec::of(
        &plan.topology,
        id,
        &plan.broker,
        &plan.store,
        plan.allow_inject,
    );
    let Some(spec) = spec else { return Ok(None) };
    let spec = ElementSpec {
        saving: plan
            .topology
            .timing(&spec.element, Some(&deployment.server)),
        calls_token: plan.calls_token.reveal().to_owned(),
        ..spec
    };
    Ok(Some(Assignment {
        element: id.clone(),
        epoch_floor: deployment.epoch_floor,
        cause: deployment.cause,
        restart: spec.element.restart,
        spec: spec.encode()?,
        resume_awaited: false,
    }))
}

type Connections = Rc<RefCell<BTreeMap<ConnectionId, Connected>>>;

/// A peer that is connected.
struct Connected {
    outbox: Outbox<FromManager>,
    /// Which server's agent it is by its certificate, and until when that holds.
    certified: Option<(EntityId, WallClock)>,
}

/// Brings what a peer says to the global manager, until it ends the connection.
async fn hold(
    connection: ConnectionId,
    admitted: Admitted,
    role: Role<Input>,
    connections: Connections,
) {
    let connected = Connected {
        outbox: admitted.outbox,
        certified: admitted.certified.and_then(|certified| {
            let until = certified.validity.until;
            match certified.name.role {
                tls::Role::Agent(server) => Some((server, until)),
                tls::Role::Authority | tls::Role::Manager | tls::Role::Operator => None,
            }
        }),
    };
    connections.borrow_mut().insert(connection, connected);
    if let Peer::Agent { server, pid } = admitted.peer {
        tracing::info!(%server, pid, "an agent connected");
        role.tell(Input::AgentConnected {
            connection,
            server,
            pid,
        });
    }
    receive_all(admitted.receiver, |message| match message {
        ToManager::Agent(message) => role.tell(Input::AgentTold {
            connection,
            message,
        }),
        ToManager::Operator(ask) => role.tell(Input::OperatorAsked { connection, ask }),
        ToManager::Hello { .. } => tracing::warn!("a peer says hello again"),
    })
    .await;
    connections.borrow_mut().remove(&connection);
    role.tell(Input::ConnectionLost(connection));
}

/// Performs what the global manager asks for.
struct Hands {
    connections: Connections,
    lifecycle: Role<lifecycle::Input>,
    journal: Journal,
    finished: Rc<Notify>,
}

impl Perform for Hands {
    type Machine = GlobalManager;

    fn perform(&mut self, _: Now, effect: Effect, _: &Role<Input>) {
        match effect {
            Effect::TellAgent(to, message) => self.send(to, FromManager::Agent(message)),
            Effect::Answer(to, mut answer) => {
                self.add_certificates(&mut answer);
                self.send(to, FromManager::Operator(answer));
            }
            Effect::Refuse { connection, reason } => {
                tracing::warn!(%reason, "a peer is refused");
                self.send(connection, FromManager::Refused { reason });
                self.connections.borrow_mut().remove(&connection);
            }
            Effect::Enrol { server, hosted } => {
                self.lifecycle
                    .tell(lifecycle::Input::ServerEnrolled { server, hosted });
            }
            Effect::Finish => {
                self.finished.notify_one();
            }
            Effect::Place(deployment) => {
                self.lifecycle.tell(lifecycle::Input::Placed(deployment));
            }
            Effect::Journal { first, entries } => self.journal.append(first, entries),
            Effect::Fold { upto, ledger } => self.journal.fold(upto, *ledger),
        }
    }
}

impl Hands {
    /// What the machine cannot know: by which certificates its agents are connected.
    fn add_certificates(&self, answer: &mut Answer) {
        let Answer::Status { servers, .. } = answer else {
            return;
        };
        let connections = self.connections.borrow();
        let shown = connections.values().filter_map(|one| one.certified.clone());
        let shown: BTreeMap<EntityId, WallClock> = shown.collect();
        for status in servers.iter_mut().filter(|status| status.agent.is_some()) {
            status.certificate_until = shown.get(&status.server).copied();
        }
    }

    /// A peer that does not read is cut off: it connects again and is told what matters then.
    fn send(&self, to: ConnectionId, message: FromManager) {
        let mut connections = self.connections.borrow_mut();
        if connections
            .get(&to)
            .is_some_and(|connected| !connected.outbox.send(message))
        {
            connections.remove(&to);
        }
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}
