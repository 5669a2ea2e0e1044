//! The appliances of a topology that are simulated, as devices on its broker: each does what its model
//! says (paper, 5.1).
//!
//! They live in a process of their own, because devices do not fail with the elements that command
//! them. They speak as those of zigbee2mqtt do, on `TOPIC`, `TOPIC/set` and `TOPIC/get`, so all that
//! holds of a real device holds of them. What no real device has is `TOPIC/sense`: what is published
//! there is what the device senses.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Appliance, ApplianceApi, Topology, Value};
use lamplighter_policies::physical_world::{CarriedOut, EventId, SimulatedDevice};
use lamplighter_policies::state_saving::Properties;
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::clock;
use lamplighter_runtime::transport::mqtt::{
    Handler, Incoming, Mqtt, MqttError, MqttOptions, Publish, PublishError, QualityOfService,
    Reception, Signature, Subscription, receipt,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How many commands may wait to be carried out: the broker's next one waits for the one before, so more
/// than a few wait only where connections keep breaking.
const WAITING_MAX: usize = 64;
/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long unfinished reports may take at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(1);
/// How often is looked whether a device is to report by itself.
const TICK: Duration = Duration::from_millis(100);

/// Why simulated devices cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The topology has no simulated appliance.
    #[error("no appliance of the topology has `api = \"simulated\"`")]
    Nobody,
    /// The trace cannot be written: what the devices do would go unseen.
    #[error("cannot write the trace {path}: {source}")]
    Trace {
        /// Which file.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The broker cannot be used.
    #[error("the simulated devices cannot reach their broker: {0}")]
    Broker(#[from] MqttError),
    /// A report was refused.
    #[error("a simulated device cannot report: {0}")]
    Report(#[from] PublishError),
}

/// A command that reached a device, as the device itself writes it down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceLine {
    /// When, in microseconds since 1970 UTC.
    pub at_us: i64,
    /// The appliance.
    pub device: EntityId,
    /// Who the command says it is: `lamplighter-id`.
    pub id: Option<String>,
    /// In which epoch of its owner it was sent: `lamplighter-epoch`.
    pub epoch: Option<u64>,
    /// What it asked for.
    pub command: Properties,
    /// Whether anything happened in the physical world.
    pub carried_out: bool,
    /// Whether it came from an owner that was replaced, and was not obeyed.
    pub fenced: bool,
    /// What the device shows after it.
    pub shown: Properties,
}

/// One simulated appliance on the broker.
struct Simulated {
    id: EntityId,
    device: SimulatedDevice,
    /// What no two of its reports share, and what says when they are from.
    stamps: Vec<String>,
    period: Option<Duration>,
    reported: u64,
}

/// All simulated appliances of a topology, by topic.
struct Devices {
    devices: BTreeMap<String, Simulated>,
    trace: Option<(PathBuf, File)>,
}

/// Runs the simulated appliances of a topology on its broker until `stopped` ends; says so on `ready`
/// once they can be told something. Each command that reaches one is written into `trace`.
///
/// # Errors
/// The broker cannot be reached or refuses, or the trace cannot be written.
pub async fn run(
    topology: &Topology,
    broker: BrokerAddress,
    trace: Option<&Path>,
    ready: impl FnOnce(),
    stopped: impl Future<Output = ()>,
) -> Result<(), SimulatorError> {
    let mut devices = Devices::of(topology, trace)?;
    let (deliver, mut inbox) = mpsc::channel::<(Incoming, Signature)>(WAITING_MAX);
    // A command is acknowledged when it is in the trace; one that is refused is sent again.
    let handler: Handler = Arc::new(move |incoming| {
        let (signature, receipt) = receipt();
        match deliver.try_send((incoming, signature)) {
            Ok(()) => Reception::When(receipt),
            Err(TrySendError::Full(_)) => Reception::Refused {
                reason: format!("{WAITING_MAX} commands wait to be carried out"),
            },
            Err(TrySendError::Closed(_)) => Reception::Refused {
                reason: "the devices are switched off".into(),
            },
        }
    });
    let name = format!("lamplighter-{}-devices", topology.application.name);
    let mqtt = Mqtt::start(
        MqttOptions::new(broker, name),
        devices.subscriptions(),
        handler,
    )?;
    mqtt.connected(CONNECT_WITHIN).await?;
    let all: Vec<String> = devices.devices.keys().cloned().collect();
    for topic in &all {
        devices.report(&mqtt, topic)?;
    }
    ready();
    let mut tick = ticks();
    let began = clock::monotonic();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            Some((incoming, signature)) = inbox.recv() => {
                let told = devices.take(&incoming)?;
                signature.sign();
                if let Some(topic) = told {
                    devices.report(&mqtt, &topic)?;
                }
            }
            _ = tick.tick() => {
                for topic in devices.due(clock::monotonic() - began) {
                    devices.report(&mqtt, &topic)?;
                }
            }
        }
    }
    mqtt.disconnect(FINISH_WITHIN).await;
    Ok(())
}

impl Devices {
    fn of(topology: &Topology, trace: Option<&Path>) -> Result<Self, SimulatorError> {
        let simulated = topology.appliances.iter();
        let simulated = simulated.filter(|(_, it)| it.api == ApplianceApi::Simulated);
        let devices: BTreeMap<_, _> = simulated.map(|(id, it)| Simulated::of(id, it)).collect();
        if devices.is_empty() {
            return Err(SimulatorError::Nobody);
        }
        let trace = trace.map(|path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let fault = |source| SimulatorError::Trace {
                path: path.to_owned(),
                source,
            };
            file.map(|file| (path.to_owned(), file)).map_err(fault)
        });
        let trace = trace.transpose()?;
        Ok(Self { devices, trace })
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        let verbs = |topic: &String| ["set", "get", "sense"].map(|verb| format!("{topic}/{verb}"));
        let filters = self.devices.keys().flat_map(verbs);
        filters
            .map(|filter| Subscription {
                filter,
                quality: QualityOfService::AtLeastOnce,
            })
            .collect()
    }

    /// Takes one message. Returns who reports about it.
    fn take(&mut self, incoming: &Incoming) -> Result<Option<String>, SimulatorError> {
        let Some((topic, verb)) = incoming.topic.rsplit_once('/') else {
            return Ok(None);
        };
        let Some(simulated) = self.devices.get_mut(topic) else {
            return Ok(None);
        };
        // A retained command would be carried out again whenever the devices are switched on.
        if incoming.retained {
            return Ok(None);
        }
        let said = properties(&incoming.payload);
        match verb {
            "set" => {
                let line = simulated.commanded(incoming, said);
                if let Some((path, file)) = &mut self.trace {
                    write(file, &line).map_err(|source| SimulatorError::Trace {
                        path: path.clone(),
                        source,
                    })?;
                }
                Ok((!line.fenced).then(|| topic.to_owned()))
            }
            "sense" => {
                simulated.device.sense(&said);
                Ok(Some(topic.to_owned()))
            }
            _ => Ok(Some(topic.to_owned())),
        }
    }

    /// The devices that are to report by themselves, as so much time has passed.
    fn due(&mut self, passed: Duration) -> Vec<String> {
        let due = |(topic, simulated): (&String, &mut Simulated)| {
            let period = simulated.period?.as_millis().max(1);
            let rounds = u64::try_from(passed.as_millis() / period).unwrap_or(u64::MAX);
            let is_due = rounds > simulated.reported;
            simulated.reported = rounds;
            is_due.then(|| topic.clone())
        };
        self.devices.iter_mut().filter_map(due).collect()
    }

    /// A device says what it shows. The broker's acknowledgement is awaited elsewhere: it comes by the
    /// thread that waits, with the next command in hand, for us.
    fn report(&self, mqtt: &Mqtt, topic: &str) -> Result<(), PublishError> {
        let Some(simulated) = self.devices.get(topic) else {
            return Ok(());
        };
        let mut shown = simulated.device.shown().clone();
        for stamp in &simulated.stamps {
            shown.insert(stamp.clone(), Value::Integer(clock::wall().0 / 1_000));
        }
        let payload = serde_json::to_vec(&shown).expect("properties have a form in JSON");
        let publication = mqtt.publish(topic, payload, Publish::at_least_once())?;
        let topic = topic.to_owned();
        tokio::spawn(async move {
            if let Err(fault) = publication.await {
                tracing::warn!(topic, %fault, "a report did not reach the broker");
            }
        });
        Ok(())
    }
}

impl Simulated {
    fn of(id: &EntityId, appliance: &Appliance) -> (String, Self) {
        let topic = appliance.topic.clone().unwrap_or_else(|| id.to_string());
        let first = appliance.safe_state.clone().unwrap_or_default();
        let stamps = [&appliance.identified_by, &appliance.stamped_by];
        let simulated = Self {
            id: id.clone(),
            device: SimulatedDevice::new(appliance.model.clone(), &first),
            stamps: stamps.into_iter().flatten().cloned().collect(),
            period: appliance.report_period,
            reported: 0,
        };
        (topic, simulated)
    }

    fn commanded(&mut self, incoming: &Incoming, command: Properties) -> TraceLine {
        let property = |wanted: &str| {
            let mut all = incoming.user_properties.iter();
            all.find_map(|(name, value)| (name == wanted).then(|| value.clone()))
        };
        let id = property("lamplighter-id");
        let epoch = property("lamplighter-epoch").and_then(|epoch| epoch.parse().ok());
        let sender: Option<EventId> = id.as_deref().and_then(|id| id.parse().ok());
        let owner = sender.as_ref().zip(epoch);
        let outcome = self.device.carry_out(owner, &command);
        TraceLine {
            at_us: clock::wall().0,
            device: self.id.clone(),
            id,
            epoch,
            command,
            carried_out: outcome == CarriedOut::Changed,
            fenced: outcome == CarriedOut::Fenced,
            shown: self.device.shown().clone(),
        }
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// What a message says; one that is no JSON object has one nameless property.
fn properties(payload: &[u8]) -> Properties {
    serde_json::from_slice(payload).unwrap_or_else(|_| {
        let word = String::from_utf8_lossy(payload).into_owned();
        [(String::new(), Value::Text(word))].into()
    })
}

/// In one write, so that a line is whole or not there.
fn write(file: &mut File, line: &TraceLine) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)
}
