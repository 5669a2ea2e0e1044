//! The appliances on the broker: commands come in, are carried out and traced, reports go out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lamplighter::{DeviceFence, EntityId};
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Handler, Incoming, Mqtt, MqttError, MqttOptions, Publish, PublishError, QualityOfService,
    Reception, Signature, Subscription, receipt,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::trace::{PhysicalTrace, TraceError, TraceLine, now_us};
use super::{APPLIANCES, DOOR_TOPIC, Device, PLUG_IN_TOPIC, UNPLUG_TOPIC, WEMO_TOPIC, Wemo};

/// The user property by which a command says who it is.
const ID_PROPERTY: &str = "lamplighter-id";

/// The user property by which a command says in which epoch of its sender it was sent.
const EPOCH_PROPERTY: &str = "lamplighter-epoch";

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long unfinished reports may take at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// Why the devices cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The trace cannot be written: what the devices do would go unseen.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The broker cannot be used.
    #[error("the devices cannot reach their broker: {0}")]
    Broker(#[from] MqttError),
    /// A report was refused.
    #[error("a device cannot report: {0}")]
    Report(#[from] PublishError),
}

/// All appliances of the house, and the trace of what they did.
#[derive(Debug)]
pub struct Appliances {
    /// By base topic: id in the topology, and the device.
    devices: BTreeMap<&'static str, (&'static str, Device)>,
    /// Base topics of the dead.
    unplugged: BTreeSet<&'static str>,
    /// By base topic, which owners are obeyed.
    fences: BTreeMap<&'static str, DeviceFence>,
    wemo: Wemo,
    trace: PhysicalTrace,
}

/// What an appliance reports: topic and payload.
type Report = (String, Value);

impl Appliances {
    /// All of them, off.
    #[must_use]
    pub fn new(trace: PhysicalTrace) -> Self {
        let devices = APPLIANCES
            .iter()
            .map(|(id, topic, kind)| (*topic, (*id, Device::new(*kind))))
            .collect();
        Self {
            devices,
            unplugged: BTreeSet::new(),
            fences: BTreeMap::new(),
            wemo: Wemo::default(),
            trace,
        }
    }

    /// What they say when they are switched on: that they are there.
    #[must_use]
    pub fn switched_on(&self) -> Vec<Report> {
        self.devices
            .keys()
            .chain([&WEMO_TOPIC])
            .map(|topic| availability(topic, "online"))
            .collect()
    }

    /// Takes one message, and returns what is reported about it. A command whose sender says in which
    /// epoch it is obeyed only if no later one of the same sender was heard.
    ///
    /// # Errors
    /// The trace cannot be written.
    pub fn take(
        &mut self,
        topic: &str,
        payload: &[u8],
        id: Option<&str>,
        epoch: Option<u64>,
    ) -> Result<Vec<Report>, TraceError> {
        let body = serde_json::from_slice(payload)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(payload).into_owned()));
        if topic == UNPLUG_TOPIC {
            return Ok(self.unplug(&body).into_iter().collect());
        }
        if topic == PLUG_IN_TOPIC {
            return Ok(self.plug_in(&body).into_iter().collect());
        }
        if topic == DOOR_TOPIC {
            let report = self.wemo.door_reported(&body);
            return Ok(report
                .map(|report| (WEMO_TOPIC.into(), report))
                .into_iter()
                .collect());
        }
        let Some((base, verb)) = topic.rsplit_once('/') else {
            return Ok(Vec::new());
        };
        let Some((base, (name, device))) = self.devices.iter_mut().find(|(it, _)| **it == base)
        else {
            return Ok(Vec::new());
        };
        if self.unplugged.contains(base) {
            return Ok(Vec::new());
        }
        if verb == "set" {
            let fence = self.fences.entry(base).or_default();
            let sender = id.and_then(sender_of).zip(epoch);
            let obeys = sender.is_none_or(|(sender, epoch)| fence.admits(&sender, epoch));
            let carried_out = obeys && device.carry_out(id, &body);
            self.trace.write(&TraceLine {
                at_us: now_us(),
                device: (*name).to_owned(),
                id: id.map(ToOwned::to_owned),
                command: body,
                carried_out,
                state: device.report(),
            })?;
        }
        Ok(vec![((*base).to_owned(), device.report())])
    }

    /// A device dies, and its bridge says so.
    fn unplug(&mut self, body: &Value) -> Option<Report> {
        let mut devices = self.devices.iter();
        let (topic, _) = devices.find(|(_, (name, _))| body["device"] == *name)?;
        self.unplugged.insert(topic);
        Some(availability(topic, "offline"))
    }

    /// A device is given power again, and its bridge says so.
    fn plug_in(&mut self, body: &Value) -> Option<Report> {
        let mut all = APPLIANCES.iter();
        let (id, topic, kind) = all.find(|(id, ..)| body["device"] == *id)?;
        self.unplugged.remove(topic);
        self.devices.insert(topic, (id, Device::new(*kind)));
        Some(availability(topic, "online"))
    }
}

/// What the bridge says of a device.
fn availability(topic: &str, state: &str) -> Report {
    (format!("{topic}/availability"), json!({ "state": state }))
}

/// Runs the appliances on a broker until `stopped` ends; says so on `ready` once they can be told
/// something.
///
/// # Errors
/// The broker cannot be reached or refuses, or the trace cannot be written.
pub async fn run(
    broker: BrokerAddress,
    trace: PhysicalTrace,
    ready: impl FnOnce(),
    stopped: impl Future<Output = ()>,
) -> Result<(), SimulatorError> {
    let (deliver, mut inbox) = mpsc::unbounded_channel::<(Incoming, Signature)>();
    // A command is acknowledged when it is in the trace, so that the broker keeps it until then. The
    // mailbox is bounded by what the broker sends unacknowledged.
    let handler: Handler = Arc::new(move |incoming| {
        let (signature, receipt) = receipt();
        match deliver.send((incoming, signature)) {
            Ok(()) => Reception::When(receipt),
            Err(_) => Reception::Refused {
                reason: "the devices are switched off".into(),
            },
        }
    });
    let options = MqttOptions::new(broker, "devices");
    let mqtt = Mqtt::start(options, subscriptions(), handler)?;
    mqtt.connected(CONNECT_WITHIN).await?;
    let mut appliances = Appliances::new(trace);
    report(&mqtt, appliances.switched_on())?;
    ready();

    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            Some((incoming, signature)) = inbox.recv() => {
                let (id, epoch) = (property(&incoming, ID_PROPERTY), property(&incoming, EPOCH_PROPERTY));
                let epoch = epoch.and_then(|epoch| epoch.parse().ok());
                let reports = appliances.take(&incoming.topic, &incoming.payload, id, epoch)?;
                signature.sign();
                report(&mqtt, reports)?;
            }
        }
    }
    mqtt.disconnect(FINISH_WITHIN).await;
    Ok(())
}

fn subscriptions() -> Vec<Subscription> {
    let verbs = |(_, topic, _): &(&str, &str, _)| [format!("{topic}/set"), format!("{topic}/get")];
    APPLIANCES
        .iter()
        .flat_map(verbs)
        .chain([DOOR_TOPIC, UNPLUG_TOPIC, PLUG_IN_TOPIC].map(ToOwned::to_owned))
        .map(|filter| Subscription {
            filter,
            quality: QualityOfService::AtLeastOnce,
        })
        .collect()
}

/// Reports in order. The broker's acknowledgement is awaited elsewhere: it comes by the thread that
/// waits, with the next command in hand, for us.
fn report(mqtt: &Mqtt, reports: Vec<Report>) -> Result<(), PublishError> {
    for (topic, mut payload) in reports {
        if let Value::Object(properties) = &mut payload
            && !topic.ends_with("/availability")
        {
            // As zigbee2mqtt does (`last_seen: epoch`): without it two reports of the same state are
            // equal, and nobody can tell a second report from a repeated one.
            properties.insert("last_seen".into(), (now_us() / 1_000).into());
        }
        let publication = mqtt.publish(&topic, payload.to_string(), Publish::at_least_once())?;
        tokio::spawn(async move {
            if let Err(fault) = publication.await {
                tracing::warn!(topic, %fault, "a report did not reach the broker");
            }
        });
    }
    Ok(())
}

/// Who sent a command, by its id: what stands before the last slash.
fn sender_of(id: &str) -> Option<EntityId> {
    EntityId::new(id.rsplit_once('/')?.0).ok()
}

fn property<'a>(incoming: &'a Incoming, wanted: &str) -> Option<&'a str> {
    let mut properties = incoming.user_properties.iter();
    let found = properties.find(|(name, _)| name == wanted);
    found.map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_carried_out_traced_and_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("physical.jsonl");
        let mut appliances = Appliances::new(PhysicalTrace::open(&path).unwrap());

        let reports = appliances
            .take(
                "zigbee2mqtt/bedroom/lamp/set",
                br#"{"state":"ON"}"#,
                Some("a/0.1.0"),
                Some(2),
            )
            .unwrap();

        let shown = json!({ "state": "ON", "brightness": 110 });
        assert_eq!(
            reports,
            [("zigbee2mqtt/bedroom/lamp".to_owned(), shown.clone())]
        );
        let traced = PhysicalTrace::read(&path).unwrap();
        assert_eq!(traced.len(), 1);
        assert_eq!(
            traced[0],
            TraceLine {
                at_us: traced[0].at_us,
                device: "hue-lamp".into(),
                id: Some("a/0.1.0".into()),
                command: json!({ "state": "ON" }),
                carried_out: true,
                state: shown,
            }
        );
    }

    #[test]
    fn a_question_is_answered_and_leaves_no_trace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("physical.jsonl");
        let mut appliances = Appliances::new(PhysicalTrace::open(&path).unwrap());

        let reports = appliances
            .take(
                "zigbee2mqtt/bedroom/hue_go/get",
                br#"{"state":""}"#,
                None,
                None,
            )
            .unwrap();

        let shown = json!({ "state": "OFF", "brightness": 110 });
        assert_eq!(reports, [("zigbee2mqtt/bedroom/hue_go".to_owned(), shown)]);
        assert_eq!(PhysicalTrace::read(&path).unwrap(), []);
    }

    #[test]
    fn a_device_that_is_unplugged_does_nothing_more_and_its_bridge_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("physical.jsonl");
        let mut appliances = Appliances::new(PhysicalTrace::open(&path).unwrap());

        let dies = appliances.take(UNPLUG_TOPIC, br#"{"device":"hue-lamp"}"#, None, None);
        let offline = availability("zigbee2mqtt/bedroom/lamp", "offline");
        assert_eq!(dies.unwrap(), [offline]);

        for verb in ["set", "get"] {
            let topic = format!("zigbee2mqtt/bedroom/lamp/{verb}");
            let reports = appliances.take(&topic, br#"{"state":"ON"}"#, Some("a/0.1.0"), None);
            assert_eq!(reports.unwrap(), []);
        }
        assert_eq!(PhysicalTrace::read(&path).unwrap(), []);
    }

    #[test]
    fn a_device_that_is_plugged_in_again_is_as_it_came_and_its_bridge_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("physical.jsonl");
        let mut appliances = Appliances::new(PhysicalTrace::open(&path).unwrap());
        let topic = "zigbee2mqtt/bedroom/lamp";
        let on = br#"{"state":"ON"}"#;
        let device = br#"{"device":"hue-lamp"}"#;

        appliances
            .take(&format!("{topic}/set"), on, None, None)
            .unwrap();
        appliances.take(UNPLUG_TOPIC, device, None, None).unwrap();
        let back = appliances.take(PLUG_IN_TOPIC, device, None, None);
        assert_eq!(back.unwrap(), [availability(topic, "online")]);
        let reports = appliances.take(&format!("{topic}/get"), b"", None, None);
        let shown = json!({ "state": "OFF", "brightness": 110 });
        assert_eq!(reports.unwrap(), [(topic.to_owned(), shown)]);
    }

    #[test]
    fn a_sender_that_was_replaced_is_not_obeyed_and_the_trace_shows_its_try() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("physical.jsonl");
        let mut appliances = Appliances::new(PhysicalTrace::open(&path).unwrap());
        let mut told = |word: &str, epoch| {
            let command = json!({ "state": word }).to_string();
            let topic = "zigbee2mqtt/bedroom/lamp/set";
            appliances.take(topic, command.as_bytes(), Some("a/0.1.0"), Some(epoch))
        };
        told("ON", 4).unwrap();
        told("OFF", 3).unwrap();
        told("OFF", 5).unwrap();
        let traced = PhysicalTrace::read(&path).unwrap();
        let carried_out: Vec<bool> = traced.iter().map(|line| line.carried_out).collect();
        assert_eq!(carried_out, [true, false, true]);
    }

    #[test]
    fn the_wemo_sensor_reports_when_the_door_opens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("physical.jsonl");
        let mut appliances = Appliances::new(PhysicalTrace::open(&path).unwrap());

        let reports = appliances
            .take(DOOR_TOPIC, br#"{"contact":false}"#, None, None)
            .unwrap();

        assert_eq!(
            reports,
            [(WEMO_TOPIC.to_owned(), json!({ "occupancy": true }))]
        );
    }
}
