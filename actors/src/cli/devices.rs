//! `devices`: the simulated appliances of a topology, as a process of their own.

use std::path::PathBuf;

use lamplighter_policies::model::{Broker, Credentials};
use lamplighter_runtime::broker::BrokerAddress;

use super::layered::Layered;
use super::{CommandError, checked, in_system, roles};
use crate::device_simulator;
use crate::fog_agent::stop_requested;

/// Simulate the appliances of a topology that have `api = "simulated"`.
#[derive(Debug, clap::Args)]
pub(super) struct Devices {
    /// The topology, a TOML file
    file: PathBuf,
    /// The broker, if not the one of the topology
    #[arg(long)]
    broker_url: Option<String>,
    /// Where to write down every command that reaches a device, and what it did; one JSON object a line
    /// [default: physical.jsonl in the run directory, nowhere without one]
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Where the application's logs are
    #[arg(long, env = "LAMPLIGHTER_DIRECTORIES__RUN")]
    run_directory: Option<PathBuf>,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    lifeline: bool,
    #[command(flatten)]
    layered: Layered,
}

/// The trace of what simulated devices were told and did, in a run directory.
const TRACE_FILE: &str = "physical.jsonl";

impl Devices {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let settings = self.layered.chosen()?;
        settings.trace("info");
        let settings = settings.settings;
        let topology = checked(&self.file, None)?.topology;
        let (url, credentials) = match &topology.broker {
            Broker::External { url, credentials } => (Some(url.clone()), credentials.clone()),
            Broker::Embedded | Broker::Mosquitto => (None, Credentials::default()),
        };
        let url = self.broker_url.or(settings.broker_url).or(url);
        let url = url.ok_or_else(|| {
            let why = "the topology's broker is started by `up` only; give --broker-url";
            CommandError::Service(why.into())
        })?;
        let named = |it: &Credentials| it.user.is_some() || it.password.is_some();
        let credentials = Some(settings.broker_credentials)
            .filter(named)
            .unwrap_or(credentials);
        let (user, password) = roles::signed_in(&credentials)?;
        let broker = BrokerAddress {
            url,
            user,
            password,
        };
        let directory = self.run_directory;
        let trace = self.trace.or_else(|| Some(directory?.join(TRACE_FILE)));
        in_system(async move {
            let stop = stop_requested(self.lifeline).map_err(|source| CommandError::System {
                attempted: "watch for signals".into(),
                source,
            })?;
            let ready = || roles::announce("ready", "the simulated devices are ");
            device_simulator::run(&topology, broker, trace.as_deref(), ready, stop).await?;
            Ok(())
        })
    }
}
