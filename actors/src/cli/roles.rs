//! `manager`, `agent`, `broker`: one role alone, so that servers can be real machines.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use lamplighter_config::read_secret;
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    Broker as BrokerModel, Credentials, RedisServer, StoreKind, Topology,
};
use lamplighter_runtime::broker::embedded::{EmbeddedSettings, run_embedded};
use lamplighter_runtime::process::Program;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::embedded::Embedded;
use lamplighter_runtime::store::served;
use lamplighter_runtime::transport::control::{Admission, Token};
use lamplighter_runtime::transport::tls::Security;
use tokio::net::TcpListener;

use super::layered::Layered;
use super::stored::{self, STORE_DIRECTORY};
use super::{CommandError, checked, in_system};
use crate::access::Access;
use crate::cluster::{ADDRESS_FILE, TOKEN_FILE};
use crate::fog_agent::{self, AgentPlace, stop_requested};
use crate::global_manager::{self, ManagerPlan};
use crate::host::HostPlace;
use crate::network::{self, Network, NetworkError};
use crate::spec::{BrokerAccess, StoreAccess};

/// Where the local logs of each server are, in the run directory.
const LOCAL_LOGS_DIRECTORY: &str = "local";

/// Where the store was served last, in the run directory.
const STORE_ADDRESS_FILE: &str = "store.address";

/// Run the manager alone.
#[derive(Debug, clap::Args)]
pub(super) struct Manager {
    /// The topology, a TOML file
    file: PathBuf,
    /// Where agents and operators connect: off loopback the address by which they reach this machine
    /// [default: a free port on this machine]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where hosts reach the embedded store
    /// [default: the address of --listen, and a free port that is kept]
    #[arg(long)]
    store_listen: Option<SocketAddr>,
    /// Where the token, the address and the embedded store are
    #[arg(long, env = "LAMPLIGHTER_DIRECTORIES__RUN")]
    run_directory: PathBuf,
    /// The secret that admits agents and operators [default: token in the run directory]
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// The broker, if not the one of the topology
    #[arg(long)]
    broker_url: Option<String>,
    /// The Redis server, if not the one of the topology
    #[arg(long)]
    store_url: Option<String>,
    /// Let `inject` break elements
    #[arg(long, env = "LAMPLIGHTER_ALLOW_INJECT")]
    allow_inject: bool,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    lifeline: bool,
    #[command(flatten)]
    layered: Layered,
}

impl Manager {
    pub(super) fn run(mut self) -> Result<(), CommandError> {
        let settings = self.layered.chosen()?;
        settings.trace("info");
        let settings = settings.settings;
        let listen = self.listen.unwrap_or(settings.manager_listen);
        self.broker_url = self.broker_url.or(settings.broker_url);
        self.store_url = self.store_url.or(settings.store_url);
        self.allow_inject |= settings.allow_inject;
        let mut topology = checked(&self.file, None)?.topology;
        if let Some(autonomy_after) = settings.autonomy_after {
            topology.detection.autonomy_after = autonomy_after;
        }
        sign_in_as(
            &mut topology,
            settings.broker_credentials,
            settings.store_credentials,
        );
        make_directory(&self.run_directory)?;
        let token_file = self.token_file.clone();
        let token_file = token_file.unwrap_or_else(|| self.run_directory.join(TOKEN_FILE));
        let token = match Token::read(&token_file) {
            Err(_) if !token_file.exists() => Token::create(&token_file)?,
            outcome => outcome?,
        };
        let application = &topology.application.name;
        let admission = network::of_manager(&self.run_directory, application, listen, token)?;
        in_system(async move {
            let stop = stop_requested(self.lifeline).map_err(system("watch for signals"))?;
            if let Admission::Certificate(_) = admission {
                tokio::task::spawn_local(network::renew_own(self.run_directory.clone()));
            }
            let listener = TcpListener::bind(listen)
                .await
                .map_err(system(&format!("listen on {listen}")))?;
            let address = listener
                .local_addr()
                .map_err(system("learn the own address"))?;
            let store_listen = self
                .store_listen
                .unwrap_or_else(|| SocketAddr::new(address.ip(), 0));
            let served = (store_listen, admission.security());
            let (store, served) = self.store(&topology, served).await?;
            let access = Access { topology, store };
            access.write(&self.run_directory)?;
            let Access { topology, store } = access;
            let plan = ManagerPlan {
                broker: self.broker(&topology)?,
                store,
                here: served.as_ref().map(|(store, _)| store.clone()),
                admission,
                calls_token: self.secret("calls.token")?,
                allow_inject: self.allow_inject,
                topology,
            };
            let file = self.run_directory.join(ADDRESS_FILE);
            std::fs::write(&file, format!("{address}\n"))
                .map_err(system(&format!("write {}", file.display())))?;
            announce(&address.to_string(), "the manager listens on ");
            global_manager::run(plan, listener, stop).await?;
            Ok(())
        })
    }

    /// Opens the embedded store and serves it, or says how the Redis server is reached.
    async fn store(
        &self,
        topology: &Topology,
        (listen, security): (SocketAddr, Security),
    ) -> Result<(StoreAccess, Option<(AnyStore, served::Server)>), CommandError> {
        let redis = |url: &str, credentials: &Credentials| {
            let (user, password) = signed_in(credentials)?;
            let url = url.to_owned();
            Ok((
                StoreAccess::Redis {
                    url,
                    user,
                    password,
                    durability: topology.store.durability,
                },
                None,
            ))
        };
        match &topology.store.kind {
            StoreKind::Redis(RedisServer::External { url, credentials }) => {
                redis(self.store_url.as_deref().unwrap_or(url), credentials)
            }
            StoreKind::Redis(RedisServer::Managed) => {
                let url = self.store_url.as_deref().ok_or_else(|| {
                    CommandError::Service(
                        "the topology has a managed Redis, which only `up` starts; give --store-url".into(),
                    )
                })?;
                redis(url, &Credentials::default())
            }
            StoreKind::Embedded => {
                let directory = self.run_directory.join(STORE_DIRECTORY);
                let store = Embedded::open(&directory, stored::options(topology))
                    .map_err(|error| CommandError::Service(error.to_string()))?;
                let secret = self.secret("store.token")?;
                let listener = self.store_listener(listen, &security).await?;
                let address = listener
                    .address()
                    .map_err(system("learn the store's address"))?;
                let file = self.run_directory.join(STORE_ADDRESS_FILE);
                std::fs::write(&file, address.to_string())
                    .map_err(system(&format!("write {}", file.display())))?;
                let access = StoreAccess::Served {
                    address: address.to_string(),
                    token: secret.reveal().to_owned(),
                };
                let token = served::Token::new(secret.reveal());
                let here = AnyStore::Embedded(store.clone());
                Ok((access, Some((here, served::serve(store, listener, token)))))
            }
        }
    }

    /// A secret of the application: that of the manager before, so that hosts that were started by it
    /// and by this one know the same.
    fn secret(&self, name: &str) -> Result<Token, CommandError> {
        let file = self.run_directory.join(name);
        Ok(match Token::read(&file) {
            Err(_) if !file.exists() => Token::create(&file)?,
            outcome => outcome?,
        })
    }

    /// Listens where it is said; where no port is, on that of the manager before, if it is still free,
    /// else on any.
    async fn store_listener(
        &self,
        listen: SocketAddr,
        security: &Security,
    ) -> Result<served::Listener, CommandError> {
        let file = self.run_directory.join(STORE_ADDRESS_FILE);
        let before = std::fs::read_to_string(file)
            .ok()
            .and_then(|text| text.parse().ok());
        if let Some(served::Address::Tcp(before)) = before
            && (before.ip(), 0) == (listen.ip(), listen.port())
            && let Ok(listener) =
                served::Listener::bind(&served::Address::Tcp(before), security).await
        {
            return Ok(listener);
        }
        served::Listener::bind(&served::Address::Tcp(listen), security)
            .await
            .map_err(system(&format!("listen on {listen} for the store's users")))
    }

    fn broker(&self, topology: &Topology) -> Result<BrokerAccess, CommandError> {
        let (url, credentials) = match (&self.broker_url, &topology.broker) {
            (Some(url), BrokerModel::External { credentials, .. }) => (url, credentials.clone()),
            (None, BrokerModel::External { url, credentials }) => (url, credentials.clone()),
            (Some(url), BrokerModel::Embedded | BrokerModel::Mosquitto) => {
                (url, Credentials::default())
            }
            (None, BrokerModel::Embedded | BrokerModel::Mosquitto) => {
                return Err(CommandError::Service(
                    "the topology's broker is started by `up` only; give --broker-url".into(),
                ));
            }
        };
        let (user, password) = signed_in(&credentials)?;
        let url = url.clone();
        Ok(BrokerAccess {
            url,
            user,
            password,
        })
    }
}

/// Puts the credentials of the settings, where there are any, in place of the topology's.
fn sign_in_as(topology: &mut Topology, broker: Credentials, store: Credentials) {
    let named =
        |credentials: &Credentials| credentials.user.is_some() || credentials.password.is_some();
    if let BrokerModel::External { credentials, .. } = &mut topology.broker
        && named(&broker)
    {
        *credentials = broker;
    }
    if let StoreKind::Redis(RedisServer::External { credentials, .. }) = &mut topology.store.kind
        && named(&store)
    {
        *credentials = store;
    }
}

/// Run the agent of one server alone.
#[derive(Debug, clap::Args)]
pub(super) struct Agent {
    /// The server of the topology that this machine is
    #[arg(long)]
    server: EntityId,
    /// Where the manager listens, HOST:PORT
    #[arg(long)]
    manager: String,
    /// Where the logs of the hosts go
    #[arg(long, env = "LAMPLIGHTER_DIRECTORIES__RUN")]
    run_directory: PathBuf,
    /// The manager's token file, where the manager is on this machine
    /// [default: token in the run directory]
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// The directory that `certificate` wrote for this server, where the manager listens off loopback
    #[arg(long)]
    identity: Option<PathBuf>,
    /// The address by which other servers reach this one
    /// [default: the one from which it reaches the manager]
    #[arg(long, requires = "identity")]
    address: Option<IpAddr>,
    /// Where the heartbeats of other servers arrive, over UDP, as they reach this machine
    /// [default: a free port of `--address`, or of the address from which it reaches the manager]
    #[arg(long, value_name = "IP:PORT")]
    heartbeats: Option<SocketAddr>,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    lifeline: bool,
    #[command(flatten)]
    layered: Layered,
}

impl Agent {
    pub(super) fn run(self) -> Result<(), CommandError> {
        self.layered.chosen()?.trace("info");
        make_directory(&self.run_directory)?;
        let token_file = self
            .token_file
            .unwrap_or_else(|| self.run_directory.join(TOKEN_FILE));
        let identity = self.identity.as_deref();
        let admission = network::of_agent(&self.server, identity, &token_file)?;
        let program = std::env::current_exe().map_err(system("find this program's own file"))?;
        let log = self
            .run_directory
            .join(format!("hosts-{}.log", self.server));
        let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        // A server's storage is its own, also where several servers are one machine.
        let storage = self.run_directory.join(LOCAL_LOGS_DIRECTORY);
        let storage = storage.join(self.server.as_str());
        let mut arguments: Vec<OsString> = vec!["host".into(), "--server".into()];
        arguments.extend([
            self.server.as_str().into(),
            "--storage".into(),
            storage.into(),
            "--calls-directory".into(),
            crate::host::calls_directory(&self.run_directory).into(),
        ]);
        in_system(async move {
            let stop = stop_requested(self.lifeline).map_err(system("watch for signals"))?;
            let manager = tokio::net::lookup_host(&self.manager)
                .await
                .ok()
                .and_then(|mut found| found.next())
                .ok_or_else(|| {
                    CommandError::Service(format!(
                        "the manager's address {} is not HOST:PORT, or the host is not known",
                        self.manager
                    ))
                })?;
            if let Some(identity) = &self.identity {
                let toward = || network::address_toward(manager);
                let address = self.address.map_or_else(toward, Ok)?;
                let identity = std::path::absolute(identity).map_err(system("find --identity"))?;
                arguments.extend(["--identity".into(), identity.into()]);
                arguments.extend(["--address".into(), address.to_string().into()]);
            }
            let any_port = |address| SocketAddr::new(address, 0);
            tokio::task::spawn_local(network::watch_own(admission.clone()));
            let place = AgentPlace {
                heartbeats: self.heartbeats.or(self.address.map(any_port)),
                server: self.server,
                manager,
                admission,
                host: Program {
                    path: program,
                    arguments,
                    environment,
                    log,
                },
            };
            fog_agent::run(place, stop).await?;
            Ok(())
        })
    }
}

/// Run elements; started by an agent only.
#[derive(Debug, clap::Args)]
pub(super) struct Host {
    /// The server of the topology that this machine is
    #[arg(long)]
    server: EntityId,
    /// Where elements keep their local logs
    #[arg(long)]
    storage: PathBuf,
    /// Where the sockets for calls between elements are made
    #[arg(long)]
    calls_directory: Option<PathBuf>,
    /// The identity of the agent
    #[arg(long)]
    identity: Option<PathBuf>,
    /// The address by which other servers reach this one
    #[arg(long)]
    address: Option<IpAddr>,
}

impl Host {
    pub(super) fn place(self) -> Result<HostPlace, NetworkError> {
        let network = Network::with(self.identity.as_deref(), self.address)?;
        Ok(HostPlace {
            network,
            server: self.server,
            storage: self.storage,
            calls_directory: self.calls_directory,
        })
    }
}

/// Run an embedded MQTT broker.
#[derive(Debug, clap::Args)]
pub(super) struct Broker {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
}

impl Broker {
    pub(super) fn run(&self) -> ! {
        run_embedded(&EmbeddedSettings {
            listen: self.listen,
            credentials: None,
        })
    }
}

/// Tells whoever started this process that it is ready, or where it listens: over the lifeline if that
/// is a socket, else on standard output, with the words before it.
pub(super) fn announce(word: &str, before: &str) {
    use std::io::Write;
    let line = format!("{word}\n");
    let lifeline = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(std::fs::File::from);
    let announced = lifeline.and_then(|mut lifeline| lifeline.write_all(line.as_bytes()));
    if announced.is_err() {
        super::print(&format!("{before}{line}"));
    }
}

/// The user's name and the password, found where the topology says.
pub(super) fn signed_in(
    credentials: &Credentials,
) -> Result<(Option<String>, Option<String>), CommandError> {
    let password = credentials.password.as_ref().map(read_secret);
    let password = password
        .transpose()
        .map_err(|error| CommandError::Service(error.to_string()))?;
    let password = password.map(|secret| secret.expose().to_owned());
    Ok((credentials.user.clone(), password))
}

fn make_directory(directory: &Path) -> Result<(), CommandError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(system(&format!("make {}", directory.display())))
}

fn system(attempted: &str) -> impl FnOnce(std::io::Error) -> CommandError + use<> {
    let attempted = attempted.to_owned();
    move |source| CommandError::System { attempted, source }
}
