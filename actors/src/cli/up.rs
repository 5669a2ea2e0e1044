//! `up`: a whole application on this machine.

use std::ffi::OsString;
use std::path::PathBuf;

use super::layered::Layered;
use super::{CommandError, Has, checked, in_system, print};
use crate::cluster::{Started, UpPlan, up};
use crate::fog_agent::stop_requested;

/// Variables that children get besides `LAMPLIGHTER_…` and those that hold the topology's secrets.
const PASSED_ON: [&str; 6] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
];

/// Start an application.
#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// The topology, a TOML file
    file: PathBuf,
    /// Where logs, sockets and the embedded store are [default: .lamplighter/APPLICATION]
    #[arg(long, env = "LAMPLIGHTER_DIRECTORIES__RUN")]
    run_directory: Option<PathBuf>,
    /// Let `inject` break elements
    #[arg(long, env = "LAMPLIGHTER_ALLOW_INJECT")]
    allow_inject: bool,
    /// Stop when standard input ends: whoever started it is gone
    #[arg(long)]
    lifeline: bool,
    #[command(flatten)]
    layered: Layered,
}

impl Up {
    pub(super) fn run(self, has: &Has) -> Result<(), CommandError> {
        let chosen = self.layered.chosen()?;
        chosen.trace("warn");
        let topology = checked(&self.file, Some(has))?.topology;
        let system = |attempted: &str| {
            let attempted = attempted.to_owned();
            move |source| CommandError::System { attempted, source }
        };
        let program = std::env::current_exe().map_err(system("find this program's own file"))?;
        let name = topology.application.name.clone();
        let default = || PathBuf::from(".lamplighter").join(name.as_str());
        let plan = UpPlan {
            environment: environment(&topology),
            file: self.file,
            run_directory: self
                .run_directory
                .or_else(|| chosen.run_directory())
                .unwrap_or_else(default),
            settings: self
                .layered
                .arguments()
                .map_err(system("find the file of settings"))?,
            broker_url: chosen.settings.broker_url.clone(),
            store_url: chosen.settings.store_url.clone(),
            program,
            allow_inject: self.allow_inject || chosen.settings.allow_inject,
            topology,
        };
        in_system(async move {
            let stop = stop_requested(self.lifeline).map_err(system("watch for signals"))?;
            up(
                plan,
                |started| print(&ready_line(name.as_str(), &started)),
                stop,
            )
            .await?;
            Ok(())
        })
    }
}

fn ready_line(name: &str, started: &Started) -> String {
    let milliseconds = started.took.as_secs_f64() * 1_000.0;
    let Started {
        running, broker, ..
    } = started;
    if started.failed.is_empty() {
        return format!(
            "{name} is ready: {running} elements run, after {milliseconds:.0} ms; broker {broker}\n"
        );
    }
    let failed: Vec<String> = started
        .failed
        .iter()
        .map(|(id, reason)| format!("  {id}: {reason}\n"))
        .collect();
    format!(
        "{name} is up after {milliseconds:.0} ms: {running} elements run, {} do not:\n{}",
        failed.len(),
        failed.concat()
    )
}

/// What the processes of the application may see of our environment.
fn environment(topology: &lamplighter_policies::model::Topology) -> Vec<(OsString, OsString)> {
    use lamplighter_policies::model::{Broker, RedisServer, SecretSource, StoreKind};
    let broker = match &topology.broker {
        Broker::External { credentials, .. } => credentials.password.as_ref(),
        Broker::Embedded | Broker::Mosquitto => None,
    };
    let store = match &topology.store.kind {
        StoreKind::Redis(RedisServer::External { credentials, .. }) => {
            credentials.password.as_ref()
        }
        StoreKind::Redis(RedisServer::Managed) | StoreKind::Embedded => None,
    };
    let secrets: Vec<&str> = [broker, store]
        .into_iter()
        .flatten()
        .filter_map(|source| match source {
            SecretSource::Env(name) => Some(name.as_str()),
            SecretSource::File(_) => None,
        })
        .collect();
    std::env::vars_os()
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            name.starts_with("LAMPLIGHTER_")
                || PASSED_ON.contains(&&*name)
                || secrets.contains(&&*name)
        })
        .collect()
}
