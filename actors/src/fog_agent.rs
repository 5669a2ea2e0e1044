//! The fog agent of one server as a process: its machine in a shell, hosts and manager around it
//! (paper, 4.2.2).

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::control::{FromManager, Peer, ToManager};
use lamplighter_policies::protocol::fog_agent::{
    Effect, FogAgent, FogAgentSettings, HostId, Input,
};
use lamplighter_policies::protocol::messages::{FromHost, ToHost};
use lamplighter_policies::time::Now;
use lamplighter_runtime::clock;
use lamplighter_runtime::process::{Process, Program, condition};
use lamplighter_runtime::transport::control::{
    Admission, CONTROL_FRAME_BYTES_MAX, ConnectError, Outbox, connect_patiently, receive_all,
};
use lamplighter_runtime::transport::frame::FrameReceiver;
use lamplighter_runtime::transport::heartbeat::Heartbeats;
use tokio::sync::{Notify, oneshot};

use crate::appliance_monitor::Monitor;
use crate::heartbeats::{self, HeartbeatPlace};
use crate::shell::{Escalated, Incarnation, Perform, Role, RoleSettings, Shell};

/// How long what a host said before it died may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What an agent process is started with.
#[derive(Clone, Debug)]
pub struct AgentPlace {
    /// The server whose elements it runs.
    pub server: EntityId,
    /// Where the manager listens.
    pub manager: SocketAddr,
    /// What admits to it.
    pub admission: Admission,
    /// How a host process is started.
    pub host: Program,
    /// Where heartbeats of other servers are received; by default on a free port of the address from
    /// which the manager is reached.
    pub heartbeats: Option<SocketAddr>,
}

/// Why an agent ended other than in order.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The manager does not want it.
    #[error(transparent)]
    Refused(#[from] ConnectError),
    /// The agent failed too often.
    #[error(transparent)]
    Escalated(#[from] Escalated),
    /// It cannot send or receive heartbeats.
    #[error("heartbeats cannot be received{}: {source}; give a free address of this machine with --heartbeats", at(.listen))]
    Heartbeats {
        /// Where, if that was prescribed.
        listen: Option<SocketAddr>,
        /// Why not.
        source: io::Error,
    },
}

fn at(listen: &Option<SocketAddr>) -> String {
    listen
        .map(|listen| format!(" at {listen}"))
        .unwrap_or_default()
}

/// Runs an agent until `stop` completes and everything has stopped, or it must give up.
///
/// # Errors
/// Why it gave up; its hosts stop by themselves then, because their lifelines end.
pub async fn run(
    place: AgentPlace,
    stop: impl Future<Output = ()> + 'static,
) -> Result<(), AgentError> {
    let manager: Rc<RefCell<Option<Outbox<ToManager>>>> = Rc::default();
    let finished = Rc::new(Notify::new());
    let (escalate, escalated) = oneshot::channel();
    let finish = finished.clone();
    let (link, program) = (manager.clone(), place.host.clone());
    let server = place.server.clone();
    let heartbeats: HeartbeatCell = Rc::default();
    let hearts = heartbeats.clone();
    let role = Shell::start(
        RoleSettings::new("fog agent"),
        move |_| Incarnation {
            machine: FogAgent::new(FogAgentSettings::default()),
            performer: Hands {
                program: program.clone(),
                hosts: Rc::default(),
                manager: link.clone(),
                finished: finish.clone(),
                server: server.clone(),
                monitor: None,
                heartbeats: hearts.clone(),
            },
            first: hearts
                .get()
                .map(heartbeats::beating)
                .into_iter()
                .chain(link.borrow().iter().map(|_| Input::ManagerConnected))
                .collect(),
        },
        |failed| drop(escalate.send(failed)),
    );
    let heart = heartbeats::start(
        HeartbeatPlace {
            server: &place.server,
            manager: place.manager,
            listen: place.heartbeats,
            // Of two agents of one server the later one has the greater number; if the clock was set
            // back, the manager says which is the later one.
            incarnation: u64::try_from(clock::wall().0).unwrap_or(0),
            inherited: None,
        },
        &role,
    );
    let heart = heart.map_err(|source| AgentError::Heartbeats {
        listen: place.heartbeats,
        source,
    })?;
    heartbeats.get_or_init(|| heart);
    let stopping = role.clone();
    let stop = tokio::task::spawn_local(async move {
        stop.await;
        stopping.tell(Input::StopRequested);
    });
    let outcome = tokio::select! {
        () = finished.notified() => Ok(()),
        Ok(failed) = escalated => Err(failed.into()),
        refused = stay_connected(&place, &role, &manager) => Err(refused.into()),
    };
    stop.abort();
    role.stop();
    // What the agent said last must leave before the process ends.
    let last = manager.borrow_mut().take();
    if let Some(outbox) = last {
        outbox.drained(LAST_WORDS).await;
    }
    outcome
}

/// Keeps a connection to the manager; returns only if it is refused.
async fn stay_connected(
    place: &AgentPlace,
    role: &Role<Input>,
    manager: &RefCell<Option<Outbox<ToManager>>>,
) -> ConnectError {
    let peer = Peer::Agent {
        server: place.server.clone(),
        pid: std::process::id(),
    };
    loop {
        let link = match connect_patiently(place.manager, &place.admission, &peer).await {
            Ok(link) => link,
            Err(refused) => return refused,
        };
        tracing::info!(manager = %place.manager, "connected");
        manager.replace(Some(link.outbox));
        role.tell(Input::ManagerConnected);
        let mut refused = None;
        receive_all(link.receiver, |message| match message {
            FromManager::Agent(told) => role.tell(Input::ManagerTold(told)),
            FromManager::Refused { reason } => refused = Some(reason),
            FromManager::Welcome | FromManager::Operator(_) => {
                tracing::warn!("the manager said something that is not for an agent");
            }
        })
        .await;
        manager.replace(None);
        role.tell(Input::ManagerLost);
        tracing::warn!("the connection to the manager ended");
        if let Some(reason) = refused {
            let address = place.manager;
            return ConnectError::Refused { address, reason };
        }
    }
}

type HeartbeatCell = Rc<OnceCell<Heartbeats>>;
type HostTable = Rc<RefCell<BTreeMap<HostId, HostEntry>>>;

struct HostEntry {
    process: Process,
    outbox: Option<Outbox<ToHost>>,
}

/// Performs what a fog agent asks for. When it is dropped, the lifelines of its hosts end.
struct Hands {
    program: Program,
    hosts: HostTable,
    manager: Rc<RefCell<Option<Outbox<ToManager>>>>,
    finished: Rc<Notify>,
    server: EntityId,
    /// Started with the first appliance to watch; it ends with the agent's incarnation.
    monitor: Option<Monitor>,
    /// There once they are started; they outlive the agent's incarnations.
    heartbeats: HeartbeatCell,
}

impl Perform for Hands {
    type Machine = FogAgent;

    fn perform(&mut self, _: Now, effect: Effect, role: &Role<Input>) {
        match effect {
            Effect::Spawn(host) => self.spawn(host, role),
            Effect::Tell { host, message } => self.tell(host, message),
            Effect::Close(host) => {
                if let Some(entry) = self.hosts.borrow_mut().get_mut(&host) {
                    entry.outbox = None;
                    entry.process.close();
                }
            }
            Effect::Kill(host) => {
                if let Some(entry) = self.hosts.borrow().get(&host) {
                    entry.process.pidfd().kill();
                }
            }
            Effect::Hang(host) => {
                if let Some(entry) = self.hosts.borrow().get(&host) {
                    entry.process.pidfd().stop();
                }
            }
            Effect::Look(host) => self.look(host, role),
            Effect::Report(message) => {
                if let Some(manager) = &*self.manager.borrow()
                    && !manager.send(ToManager::Agent(message))
                {
                    tracing::debug!("the manager is away; it will be told when it is back");
                }
            }
            Effect::Finish => {
                self.finished.notify_one();
            }
            Effect::Monitor(order) => {
                if let Some(heartbeats) = self.heartbeats.get() {
                    heartbeats.order(order);
                }
            }
            Effect::Watch { appliances, access } => {
                if self.monitor.is_none() {
                    match Monitor::start(&access, &self.server, role.clone()) {
                        Ok(monitor) => self.monitor = Some(monitor),
                        Err(reason) => tracing::error!(reason, "appliances cannot be watched"),
                    }
                }
                if let Some(monitor) = &self.monitor {
                    monitor.watch(appliances);
                }
            }
        }
    }
}

impl Hands {
    fn spawn(&mut self, host: HostId, role: &Role<Input>) {
        let started = self
            .program
            .spawn_linked()
            .map_err(|error| error.to_string());
        let started = started.and_then(|(process, near)| {
            let stream = tokio::net::UnixStream::from_std(near).map_err(|e| e.to_string())?;
            Ok((process, stream))
        });
        let (process, stream) = match started {
            Ok(started) => started,
            Err(how) => {
                let seen_at = clock::monotonic();
                return role.tell(Input::HostExited { host, how, seen_at });
            }
        };
        let (read, write) = stream.into_split();
        let pidfd = process.pidfd().clone();
        let outbox = Some(Outbox::new(write));
        self.hosts
            .borrow_mut()
            .insert(host, HostEntry { process, outbox });
        let teller = role.clone();
        let receiver = FrameReceiver::<_, FromHost>::new(read, CONTROL_FRAME_BYTES_MAX);
        let words = tokio::task::spawn_local(receive_all(receiver, move |message| {
            teller.tell(Input::HostTold { host, message });
        }));
        let (hosts, role) = (Rc::downgrade(&self.hosts), role.clone());
        tokio::task::spawn_local(async move {
            let (how, seen_at) = match pidfd.death().await {
                Ok(death) => (death.ended.to_string(), death.seen_at),
                Err(error) => {
                    pidfd.kill();
                    (format!("cannot be watched: {error}"), clock::monotonic())
                }
            };
            // What it said before it died comes first, so that an orderly end is not taken for a
            // failure. The stream has ended with the process, so there is nothing to wait for.
            if tokio::time::timeout(LAST_WORDS, words).await.is_err() {
                tracing::debug!(?host, "what a dead host said is not complete");
            }
            if let Some(hosts) = hosts.upgrade() {
                hosts.borrow_mut().remove(&host);
            }
            role.tell(Input::HostExited { host, how, seen_at });
        });
    }

    fn look(&self, host: HostId, role: &Role<Input>) {
        let pid = self.hosts.borrow().get(&host).map(|it| it.process.pid());
        match pid.map(condition) {
            Some(Ok(condition)) => role.tell(Input::HostLookedAt(host, condition)),
            // Its end is told by its handle.
            Some(Err(error)) => tracing::debug!(?host, %error, "it is gone"),
            None => {}
        }
    }

    fn tell(&self, host: HostId, message: ToHost) {
        if let Some(entry) = self.hosts.borrow().get(&host) {
            let is_taken = entry
                .outbox
                .as_ref()
                .is_some_and(|outbox| outbox.send(message));
            if !is_taken {
                tracing::warn!(?host, "a host does not listen; it is killed");
                entry.process.pidfd().kill();
            }
        }
    }
}

/// Completes when this process is to stop: at SIGINT, SIGTERM, or, with a lifeline, when standard
/// input ends.
///
/// # Errors
/// The signals cannot be watched.
pub fn stop_requested(lifeline: bool) -> io::Result<impl Future<Output = ()> + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (ended, end) = oneshot::channel::<()>();
    if lifeline {
        // A thread, because a read from standard input cannot be cancelled.
        std::thread::Builder::new()
            .name("lifeline".into())
            .spawn(move || {
                if let Err(error) = io::copy(&mut io::stdin(), &mut io::sink()) {
                    tracing::debug!(%error, "the lifeline broke");
                }
                drop(ended);
            })?;
    } else {
        std::mem::forget(ended);
    }
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = end => {}
        }
    })
}
