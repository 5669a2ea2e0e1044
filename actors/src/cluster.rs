//! `up`: one application on one machine, as the processes it would have on many (paper, 5.1).
//!
//! Everything is started in order (store and broker, manager, agents) and stopped in reverse, each
//! stage with a limit. Each child has a lifeline, so nothing is left behind whatever ends `up`.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{ApplianceApi, Broker, RedisServer, StoreKind, Topology};
use lamplighter_policies::protocol::control::{Answer, Ask};
use lamplighter_policies::restart::{RestartDecision, RestartHistory, RestartPolicy};
use lamplighter_runtime::broker::accepts;
use lamplighter_runtime::clock;
use lamplighter_runtime::process::{Death, Process, Program};
use lamplighter_runtime::transport::control::{Admission, Token};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::operator::{Operator, OperatorError};

pub use error::UpError;
use servers::Servers;

mod error;
mod servers;

/// How long the broker and the manager may take to be there.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the elements may take for their last checkpoints.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// How long a process may take to end once its lifeline has ended; then it is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(4);

/// The names of files in a run directory.
pub const TOKEN_FILE: &str = "token";
/// Where the manager listens.
pub const ADDRESS_FILE: &str = "manager.address";
/// Held by `up` for as long as it runs.
pub(crate) const LOCK_FILE: &str = "up.lock";
/// Where the broker is, as a URL, for whoever wants to speak with the application's devices.
pub const BROKER_FILE: &str = "broker.url";

/// What `up` needs to know.
#[derive(Clone, Debug)]
pub struct UpPlan {
    /// The file of the topology, for the manager to read again.
    pub file: PathBuf,
    /// What it says.
    pub topology: Topology,
    /// Where logs, sockets and the embedded store are; made if absent.
    pub run_directory: PathBuf,
    /// This program, which plays every role.
    pub program: PathBuf,
    /// The environment that all processes get.
    pub environment: Vec<(OsString, OsString)>,
    /// Whether faults may be injected.
    pub allow_inject: bool,
    /// Arguments by which manager and agents read the same settings.
    pub settings: Vec<OsString>,
    /// The broker that runs already, if the settings name one.
    pub broker_url: Option<String>,
    /// The Redis server that runs already, if the settings name one.
    pub store_url: Option<String>,
}

/// How the start went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// How many elements run.
    pub running: u32,
    /// Those that do not, with the reason.
    pub failed: Vec<(EntityId, String)>,
    /// Where the broker is, as a URL.
    pub broker: String,
    /// From the call to the last element's being ready.
    pub took: Duration,
}

/// Starts an application, calls `ready` once all of it runs, and stops it when `stop` completes.
///
/// # Errors
/// What could not be started, or failed too often. All that was started is stopped.
pub async fn up(
    plan: UpPlan,
    ready: impl FnOnce(Started),
    stop: impl Future<Output = ()>,
) -> Result<(), UpError> {
    let began = clock::monotonic();
    let directory = absolute(&plan.run_directory)?;
    let plan = UpPlan {
        run_directory: directory,
        ..plan
    };
    let _lock = lock(&plan.run_directory)?;
    let (deaths, mut died) = mpsc::channel(64);
    let servers = Servers::new(&plan.run_directory);
    let mut cluster = Cluster {
        plan,
        deaths,
        children: Vec::new(),
        servers,
        manager: None,
        broker: String::new(),
    };
    tokio::pin!(stop);
    let outcome = tokio::select! {
        started = cluster.start() => started.map(Some),
        () = &mut stop => Ok(None),
    };
    let outcome = match outcome {
        Ok(Some((running, failed))) => {
            let took = clock::monotonic() - began;
            ready(Started {
                running,
                failed,
                broker: cluster.broker.clone(),
                took,
            });
            cluster.keep(&mut died, stop).await
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    cluster.stop().await;
    outcome
}

/// All processes of one application.
struct Cluster {
    plan: UpPlan,
    deaths: mpsc::Sender<(String, Death)>,
    children: Vec<Child>,
    servers: Servers,
    manager: Option<SocketAddr>,
    broker: String,
}

struct Child {
    name: String,
    program: Program,
    process: Process,
    announcements: Option<StdUnixStream>,
    history: RestartHistory,
    is_alive: bool,
}

impl Cluster {
    async fn start(&mut self) -> Result<(u32, Vec<(EntityId, String)>), UpError> {
        let token_file = self.plan.run_directory.join(TOKEN_FILE);
        let token = Token::create(&token_file)?;
        let mut arguments: Vec<OsString> = vec![
            "manager".into(),
            absolute(&self.plan.file)?.into(),
            "--listen".into(),
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
                .to_string()
                .into(),
        ];
        arguments.extend(self.plan.settings.iter().cloned());
        if let Some(url) = self.start_store().await? {
            arguments.extend(["--store-url".into(), url.into()]);
        }
        if let Some(url) = self.start_broker().await? {
            arguments.extend(["--broker-url".into(), url.clone().into()]);
            self.broker = url;
        } else if let Some(url) = &self.plan.broker_url {
            self.broker.clone_from(url);
        } else if let Broker::External { url, .. } = &self.plan.topology.broker {
            self.broker.clone_from(url);
        }
        let told = self.plan.run_directory.join(BROKER_FILE);
        std::fs::write(told, format!("{}\n", self.broker)).map_err(|source| UpError::System {
            attempted: "write where the broker is into the run directory",
            source,
        })?;
        self.start_devices().await?;
        if self.plan.allow_inject {
            arguments.push("--allow-inject".into());
        }
        self.spawn("manager", arguments)?;
        let address = self.announced("manager").await?;
        let address = address.parse().map_err(|_| self.silent("manager"))?;
        self.manager = Some(address);
        for server in self
            .plan
            .topology
            .servers
            .keys()
            .cloned()
            .collect::<Vec<_>>()
        {
            let mut arguments: Vec<OsString> = vec![
                "agent".into(),
                "--server".into(),
                server.as_str().into(),
                "--manager".into(),
                address.to_string().into(),
            ];
            arguments.extend(self.plan.settings.iter().cloned());
            self.spawn(&format!("agent-{server}"), arguments)?;
        }
        let mut operator = Operator::connect(address, &Admission::Token(token)).await?;
        let answer = operator.ask(Ask::AwaitReady).await?;
        if let Answer::Ready { running, failed } = answer {
            return Ok((running, failed));
        }
        Err(OperatorError::unexpected(&answer).into())
    }

    /// Starts a Redis server if the topology wants one of its own.
    async fn start_store(&mut self) -> Result<Option<String>, UpError> {
        if self.plan.store_url.is_some() {
            return Ok(None);
        }
        match &self.plan.topology.store.kind {
            StoreKind::Redis(RedisServer::Managed) => Ok(Some(self.servers.start_redis().await?)),
            StoreKind::Redis(RedisServer::External { .. }) | StoreKind::Embedded => Ok(None),
        }
    }

    /// Starts a broker unless the topology names one that runs already.
    async fn start_broker(&mut self) -> Result<Option<String>, UpError> {
        if self.plan.broker_url.is_some() {
            return Ok(None);
        }
        match self.plan.topology.broker {
            Broker::External { .. } => Ok(None),
            Broker::Mosquitto => Ok(Some(self.servers.start_mosquitto().await?)),
            Broker::Embedded => {
                let address = free_address().map_err(|source| UpError::System {
                    attempted: "find a free port for the broker",
                    source,
                })?;
                let listen = vec![
                    "broker".into(),
                    "--listen".into(),
                    address.to_string().into(),
                ];
                self.spawn("broker", listen)?;
                if !accepts(address, START_TIMEOUT).await {
                    return Err(self.silent("broker"));
                }
                Ok(Some(format!("mqtt://{address}")))
            }
        }
    }

    /// Starts the simulated appliances, if the topology has any: they are there before anybody commands
    /// them.
    async fn start_devices(&mut self) -> Result<(), UpError> {
        let mut appliances = self.plan.topology.appliances.values();
        if !appliances.any(|appliance| appliance.api == ApplianceApi::Simulated) {
            return Ok(());
        }
        let mut arguments: Vec<OsString> = vec![
            "devices".into(),
            absolute(&self.plan.file)?.into(),
            "--broker-url".into(),
            self.broker.clone().into(),
        ];
        arguments.extend(self.plan.settings.iter().cloned());
        self.spawn("devices", arguments)?;
        self.announced("devices").await.map(drop)
    }

    fn spawn(&mut self, name: &str, mut arguments: Vec<OsString>) -> Result<(), UpError> {
        if name != "broker" {
            let directory = self.plan.run_directory.clone();
            arguments.extend([
                "--run-directory".into(),
                directory.into(),
                "--lifeline".into(),
            ]);
        }
        let program = Program {
            path: self.plan.program.clone(),
            arguments,
            environment: self.plan.environment.clone(),
            log: self.log(name),
        };
        let (process, announcements) = program.spawn_linked()?;
        self.watch(name, &process);
        self.children.push(Child {
            name: name.to_owned(),
            program,
            process,
            announcements: Some(announcements),
            history: RestartHistory::new(RestartPolicy::default()),
            is_alive: true,
        });
        Ok(())
    }

    fn watch(&self, name: &str, process: &Process) {
        let (name, pidfd, deaths) = (
            name.to_owned(),
            process.pidfd().clone(),
            self.deaths.clone(),
        );
        tokio::task::spawn_local(async move {
            match pidfd.death().await {
                Ok(death) => drop(deaths.send((name, death)).await),
                Err(error) => tracing::error!(%name, %error, "a process cannot be watched"),
            }
        });
    }

    /// Waits until a child has said on its lifeline that it is ready, and returns its words.
    async fn announced(&mut self, name: &str) -> Result<String, UpError> {
        let silent = self.silent(name);
        let child = self.children.iter_mut().find(|child| child.name == name);
        let stream = child.and_then(|child| child.announcements.as_ref()?.try_clone().ok());
        let reading = async {
            let mut stream = tokio::net::UnixStream::from_std(stream?).ok()?;
            let mut line = Vec::new();
            while line.last() != Some(&b'\n') && line.len() < 64 {
                line.push(stream.read_u8().await.ok()?);
            }
            Some(String::from_utf8(line).ok()?.trim().to_owned())
        };
        timeout(START_TIMEOUT, reading)
            .await
            .ok()
            .flatten()
            .ok_or(silent)
    }

    /// Starts again what ends by itself, until `stop` completes or something fails too often.
    async fn keep(
        &mut self,
        died: &mut mpsc::Receiver<(String, Death)>,
        mut stop: impl Future<Output = ()> + Unpin,
    ) -> Result<(), UpError> {
        loop {
            let (name, death) = tokio::select! {
                Some(died) = died.recv() => died,
                ended = self.servers.ended() => {
                    self.servers.revive(ended).await?;
                    continue;
                }
                () = &mut stop => return Ok(()),
            };
            let log = self.log(&name);
            let Some(child) = self.children.iter_mut().find(|child| child.name == name) else {
                continue;
            };
            child.is_alive = false;
            let how = death.ended.to_string();
            tracing::warn!(%name, %how, "a process ended; it is started again");
            match child.history.failed(clock::monotonic()) {
                RestartDecision::Escalate => return Err(UpError::Failed { name, how, log }),
                RestartDecision::After(wait) => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = &mut stop => return Ok(()),
                    }
                }
            }
            // Others know the manager by the address that it had.
            if let (true, Some(address)) = (name == "manager", self.manager) {
                let listen = child
                    .program
                    .arguments
                    .iter_mut()
                    .skip_while(|a| *a != "--listen");
                listen
                    .skip(1)
                    .take(1)
                    .for_each(|value| *value = address.to_string().into());
            }
            let (process, announcements) = child.program.spawn_linked()?;
            child.process = process;
            child.announcements = Some(announcements);
            child.is_alive = true;
            let pidfd = child.process.pidfd().clone();
            let deaths = self.deaths.clone();
            tokio::task::spawn_local(async move {
                if let Ok(death) = pidfd.death().await {
                    drop(deaths.send((name, death)).await);
                }
            });
        }
    }

    /// Stops everything in reverse order; what does not stop in time is killed.
    async fn stop(&mut self) {
        if let Some(address) = self.manager
            && let Err(error) = self.stop_elements(address).await
        {
            tracing::warn!(%error, "the elements did not all take their last checkpoint");
        }
        while let Some(last) = self.children.last().map(|c| stage(&c.name).to_owned()) {
            let (ending, rest) = std::mem::take(&mut self.children)
                .into_iter()
                .partition::<Vec<_>, _>(|child| stage(&child.name) == last);
            self.children = rest;
            for child in ending.iter().filter(|child| child.is_alive) {
                if let Some(lifeline) = &child.announcements
                    && let Err(error) = lifeline.shutdown(std::net::Shutdown::Both)
                {
                    tracing::debug!(name = %child.name, %error, "its lifeline has ended");
                }
            }
            for child in ending.iter().filter(|child| child.is_alive) {
                end(child).await;
            }
        }
        self.servers.stop().await;
    }

    async fn stop_elements(&self, address: SocketAddr) -> Result<(), OperatorError> {
        let token = Token::read(&self.plan.run_directory.join(TOKEN_FILE))?;
        let mut operator = Operator::connect(address, &Admission::Token(token)).await?;
        match timeout(STOP_TIMEOUT, operator.ask(Ask::Stop)).await {
            Ok(Ok(Answer::Stopped)) => Ok(()),
            Ok(Ok(other)) => Err(OperatorError::unexpected(&other)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(OperatorError::Late),
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.plan.run_directory.join(format!("{name}.log"))
    }

    fn silent(&self, name: &str) -> UpError {
        UpError::Silent {
            name: name.to_owned(),
            log: self.log(name),
        }
    }
}

/// Children of one stage are stopped together.
fn stage(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

/// Waits for the end of a child, and kills it when it takes too long.
async fn end(child: &Child) {
    // Its status is taken by whoever watches it; here it only has to be gone.
    let pidfd = child.process.pidfd();
    if timeout(EXIT_TIMEOUT, pidfd.gone()).await.is_err() {
        tracing::warn!(name = %child.name, "it did not stop in time; it is killed");
        pidfd.kill();
        if let Err(error) = pidfd.gone().await {
            tracing::warn!(name = %child.name, %error, "its end cannot be watched");
        }
    }
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn absolute(path: &Path) -> Result<PathBuf, UpError> {
    std::path::absolute(path).map_err(|source| UpError::Directory {
        path: path.to_owned(),
        source,
    })
}

/// Makes the run directory, for this user only, and takes its lock.
fn lock(directory: &Path) -> Result<std::fs::File, UpError> {
    let fault = |source| UpError::Directory {
        path: directory.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(fault)?;
    let mut options = std::fs::File::options();
    let path = directory.join(LOCK_FILE);
    let lock = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(fault)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(UpError::Busy(directory.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(fault(source)),
    }
}
