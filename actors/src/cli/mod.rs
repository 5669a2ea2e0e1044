//! The command line: one program that plays every role.

mod appliances;
mod certificate;
mod check;
mod dead_letters;
mod detector;
mod devices;
mod explain;
mod foresight;
mod inject;
mod judge;
mod layered;
mod lifecycle;
mod log;
mod new;
mod roles;
mod scenario;
mod settings;
mod state;
mod status;
mod store;
mod stored;
mod timeline;
mod told;
mod up;
mod when;
mod world;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use lamplighter_runtime::process::HostLink;
use lamplighter_runtime::store::Saved;

pub use self::stored::StoredError;
pub use crate::access::AccessError;
pub use crate::host::{FoldedState, HostPlace};

use crate::cluster::UpError;
use crate::fog_agent::AgentError;
use crate::global_manager::ManagerError;
use crate::operator::OperatorError;
use crate::spec::ElementSpec;

/// Why a command failed. Its text is for people: what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The topology has faults; all of them are in the text.
    #[error("{0}")]
    Topology(String),
    /// The topology names elements that this program does not have.
    #[error(
        "this program has no element of kind {missing}; it has {known}. Register it with .element::<…>(\"{missing}\")"
    )]
    UnknownKind {
        /// The kind in the topology.
        missing: String,
        /// The kinds of the program.
        known: String,
    },
    /// `up` failed.
    #[error(transparent)]
    Up(#[from] UpError),
    /// The manager failed.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// The agent failed.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The running application cannot be asked.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// A token file cannot be used.
    #[error(transparent)]
    Token(#[from] lamplighter_runtime::transport::control::TokenError),
    /// This process cannot take part in the network.
    #[error(transparent)]
    Network(#[from] crate::network::NetworkError),
    /// A new application cannot be written.
    #[error(transparent)]
    Scaffold(#[from] crate::scaffold::ScaffoldError),
    /// A setting is wrong; all that are, are in the text.
    #[error(transparent)]
    Settings(#[from] lamplighter_config::settings::SettingsError),
    /// Simulated devices failed.
    #[error(transparent)]
    Devices(#[from] crate::device_simulator::SimulatorError),
    /// The topology names an adapter that this program does not have.
    #[error(
        "appliance {appliance} is spoken to by the adapter {missing:?}, and this program has {known}. Register it with .appliance::<…>({missing:?})"
    )]
    UnknownAdapter {
        /// The appliance.
        appliance: String,
        /// The adapter in the topology.
        missing: String,
        /// The adapters of the program.
        known: String,
    },
    /// A scenario cannot be read.
    #[error(transparent)]
    Scenario(#[from] crate::scenario::ScenarioError),
    /// A scenario cannot be played.
    #[error(transparent)]
    Play(#[from] crate::scenario::PlayError),
    /// Nothing can be recorded.
    #[error(transparent)]
    Record(#[from] crate::scenario::RecordError),
    /// What is stored cannot be shown.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// What the operator's commands need cannot be written.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The store must not be used; each reason is in what was printed.
    #[error("the store must not be used as it is: {0} of what is above rules it out")]
    StoreRefused(usize),
    /// A store or broker that is to be used cannot be.
    #[error("{0}")]
    Service(String),
    /// The system refuses something.
    #[error("cannot {attempted}: {source}")]
    System {
        /// What was attempted.
        attempted: String,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The host failed.
    #[error("{0}")]
    Host(String),
}

/// What an application adds to the command line.
pub trait Application {
    /// The names of the elements that the program has.
    fn kinds(&self) -> Vec<String>;

    /// The names of the adapters that the program has for appliances of its own.
    fn adapters(&self) -> Vec<String> {
        Vec::new()
    }

    /// Restores the state of an element from what is saved, with the program's own code, as a host
    /// would.
    ///
    /// # Errors
    /// For people: why it cannot be restored.
    fn folded(&self, spec: &ElementSpec, saved: &Saved) -> Result<FoldedState, String>;

    /// Plays the host: runs what the agent at the other end of the link says, until the link ends.
    /// Called on the main thread, within an actix system.
    ///
    /// # Errors
    /// For people: why the host could not go on.
    fn run_host(
        &self,
        place: HostPlace,
        link: HostLink,
    ) -> impl Future<Output = Result<(), String>>;
}

/// Resilient fog and IoT applications as actors.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a topology: print all its faults, or what it describes
    Check(check::Check),
    /// Start an application on this machine; Ctrl-C stops it in order
    Up(up::Up),
    /// Show how every element of a running application is
    Status(status::Status),
    /// Show what an element remembers, as a host would restore it now
    State(state::State),
    /// Show what holds in every space of the physical world, and until when
    World(world::World),
    /// Explain the last recovery of an element, what it did about an appliance, or what would become of
    /// everything if something failed
    Explain(explain::Explain),
    /// Say that a command of unknown fate was carried out, or is not wanted any more
    Ack(judge::Judge),
    /// Say that a command of unknown fate was not carried out, and have it sent again
    Redo(judge::Judge),
    /// Show the inputs that were given up, and why
    DeadLetters(dead_letters::DeadLetters),
    /// Show what an element has received since its checkpoint
    Log(log::Log),
    /// Check the stable store
    Store(store::Store),
    /// Break an element of a running application, for a drill
    Inject(inject::Inject),
    /// Have an element run on another server, with its state
    Move(lifecycle::Move),
    /// Move all elements off a server, and place none there until `undrain`
    Drain(lifecycle::Drain),
    /// Let elements be placed on a server again
    Undrain(lifecycle::Drain),
    /// Say that a server is lost: its elements are recovered elsewhere
    Lost(lifecycle::Lost),
    /// Show what was decided and repaired, phase by phase
    Timeline(timeline::Timeline),
    /// Play a scenario into the broker: recorded, timed or random traffic
    Scenario(scenario::Play),
    /// Record what goes over the broker, for `scenario` to play
    Record(scenario::Record),
    /// Try the detection profiles on a simulated network
    Detector(detector::Detector),
    /// Print every setting with its value and where that comes from
    Settings(settings::Settings),
    /// Write a new application that builds and passes its own tests
    New(new::New),
    /// Run the manager of an application alone
    Manager(roles::Manager),
    /// Run the agent of one server alone
    Agent(roles::Agent),
    /// Make the identity of a server's agent, to be copied to that server's machine
    Certificate(certificate::Certificate),
    /// Run an embedded MQTT broker
    Broker(roles::Broker),
    /// Simulate the appliances of a topology that are simulated, on its broker
    Devices(devices::Devices),
    /// Run elements; started by an agent only
    #[command(hide = true)]
    Host(roles::Host),
}

/// Runs what the arguments of this process say.
///
/// # Errors
/// Why the command failed.
pub fn run(application: &impl Application) -> Result<(), CommandError> {
    let CommandLine { command } = CommandLine::parse();
    match command {
        Command::Check(check) => check.run(&Has::of(application)),
        Command::Up(up) => up.run(&Has::of(application)),
        Command::Status(status) => status.run(),
        Command::State(state) => state.run(application),
        Command::World(world) => world.run(application),
        Command::Explain(explain) => explain.run(),
        Command::Ack(judge) => judge.acknowledge(),
        Command::Redo(judge) => judge.redo(),
        Command::DeadLetters(letters) => letters.run(),
        Command::Log(log) => log.run(),
        Command::Store(store) => store.run(application),
        Command::Inject(inject) => inject.run(),
        Command::Move(wish) => wish.run(),
        Command::Drain(wish) => wish.run(true),
        Command::Undrain(wish) => wish.run(false),
        Command::Lost(lost) => lost.run(),
        Command::Timeline(timeline) => timeline.run(),
        Command::Scenario(play) => play.run(),
        Command::Record(record) => record.run(),
        Command::Detector(detector) => {
            detector.run();
            Ok(())
        }
        Command::Settings(settings) => settings.run(),
        Command::New(new) => new.run(),
        Command::Manager(manager) => manager.run(),
        Command::Agent(agent) => agent.run(),
        Command::Certificate(certificate) => certificate.run(),
        Command::Broker(broker) => broker.run(),
        Command::Devices(devices) => devices.run(),
        Command::Host(host) => {
            traced("info", false);
            let place = host.place()?;
            in_system(async {
                let link = HostLink::from_stdin().map_err(|source| CommandError::System {
                    attempted: "take the agent's connection from standard input; hosts are started by agents only".into(),
                    source,
                })?;
                application
                    .run_host(place, link)
                    .await
                    .map_err(CommandError::Host)
            })
        }
    }
}

/// Runs to the end on this thread, with actix around it.
fn in_system<T>(role: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    actix::System::new().block_on(role)
}

/// Sends traces to standard error; `RUST_LOG` says which.
fn traced(level: &str, json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let traces = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let outcome = if json {
        traces.json().try_init()
    } else {
        traces.try_init()
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "traces go where they went before");
    }
}

/// Writes to standard output; a reader that is gone is no fault of ours.
fn print(text: &str) {
    use std::io::Write;
    if let Err(error) = std::io::stdout().write_all(text.as_bytes()) {
        tracing::debug!(%error, "standard output is closed");
    }
}

/// Writes a remark to standard error, where it does not mix with what was asked for.
fn complain(text: &str) {
    use std::io::Write;
    if let Err(error) = std::io::stderr().write_all(text.as_bytes()) {
        tracing::debug!(%error, "standard error is closed");
    }
}

/// Where the application of a command runs.
#[derive(Debug, clap::Args)]
struct RunDirectory {
    /// Where the application's logs, sockets and embedded store are
    /// [default: .lamplighter/APPLICATION, the only one there]
    #[arg(long, env = "LAMPLIGHTER_DIRECTORIES__RUN")]
    run_directory: Option<PathBuf>,
}

impl RunDirectory {
    /// The directory that was named, or that of an application by default.
    fn find_for(&self, application: &str) -> PathBuf {
        let default = || PathBuf::from(".lamplighter").join(application);
        self.run_directory.clone().unwrap_or_else(default)
    }

    /// The directory that was named, or the only one of `./.lamplighter`.
    fn find(&self) -> Result<PathBuf, CommandError> {
        if let Some(directory) = &self.run_directory {
            return Ok(directory.clone());
        }
        if let Some(directory) = layered::Layered::default().chosen()?.run_directory() {
            return Ok(directory);
        }
        let parent = PathBuf::from(".lamplighter");
        let listed = std::fs::read_dir(&parent).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
        found.retain(|path| path.join(crate::cluster::TOKEN_FILE).exists());
        match found.len() {
            0 => Err(OperatorError::NothingRuns(parent).into()),
            1 => Ok(found.remove(0)),
            _ => Err(CommandError::Service(format!(
                "several applications have run here; say which with --run-directory: {}",
                found
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }
}

/// What a program has registered.
struct Has {
    kinds: Vec<String>,
    adapters: Vec<String>,
}

impl Has {
    fn of(application: &impl Application) -> Self {
        Self {
            kinds: application.kinds(),
            adapters: application.adapters(),
        }
    }

    /// The bare command line has no elements, and cannot tell which there are.
    fn anything(&self) -> Option<&Self> {
        (!self.kinds.is_empty()).then_some(self)
    }
}

/// Reads and checks a topology, and that the program has what it names.
fn checked(
    file: &std::path::Path,
    has: Option<&Has>,
) -> Result<lamplighter_config::Checked, CommandError> {
    use std::io::IsTerminal;
    let color = std::io::stderr().is_terminal();
    let checked = lamplighter_config::load(file)
        .map_err(|faults| CommandError::Topology(faults.render(color)))?;
    let Some(Has { kinds, adapters }) = has else {
        return Ok(checked);
    };
    let mut used = checked.topology.elements.values();
    if let Some(element) = used.find(|element| !kinds.contains(&element.kind)) {
        return Err(CommandError::UnknownKind {
            missing: element.kind.clone(),
            known: all_of(kinds),
        });
    }
    for (id, appliance) in &checked.topology.appliances {
        if let Some(missing) = appliance.adapter.as_ref()
            && !adapters.contains(missing)
        {
            return Err(CommandError::UnknownAdapter {
                appliance: id.to_string(),
                missing: missing.clone(),
                known: all_of(adapters),
            });
        }
    }
    Ok(checked)
}

fn all_of(names: &[String]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}
