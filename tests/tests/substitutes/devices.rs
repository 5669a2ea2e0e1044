//! Lamps on the broker that can die and come back, with a trace of what they physically did.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Incoming, Mqtt, MqttOptions, Publish, QualityOfService, Reception, Subscription,
};
use lamplighter_tests::application::PATIENCE;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// What one device did: the properties of each command that reached it while it lived.
pub(super) type Trace = Vec<Value>;

/// The devices of the house, and what the element says.
pub(super) struct Devices {
    mqtt: Mqtt,
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<u64>,
}

#[derive(Default)]
struct State {
    /// By base topic.
    devices: BTreeMap<String, Device>,
    /// What the element said of changes.
    told: Vec<String>,
    /// What it said that its first lamp shows.
    shown: Vec<Value>,
    reports: u64,
}

#[derive(Default)]
struct Device {
    dead: bool,
    shows: BTreeMap<String, Value>,
    trace: Trace,
}

impl Devices {
    /// Puts devices with these base topics on the broker.
    pub(super) async fn start(broker: &str, bases: &[&str]) -> Self {
        let (deliver, inbox) = mpsc::unbounded_channel::<Incoming>();
        let address = BrokerAddress {
            url: broker.to_owned(),
            user: None,
            password: None,
        };
        let verbs = bases
            .iter()
            .flat_map(|base| [format!("{base}/set"), format!("{base}/get")]);
        let topics = verbs.chain(["test/changed".to_owned(), "test/shown".to_owned()]);
        let subscriptions = topics.map(|filter| Subscription {
            filter,
            quality: QualityOfService::AtLeastOnce,
        });
        let mqtt = Mqtt::start(
            MqttOptions::new(address, "house"),
            subscriptions.collect(),
            Arc::new(move |incoming| {
                // The test may be over.
                deliver.send(incoming).ok();
                Reception::Done
            }),
        );
        let mqtt = mqtt.unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        for base in bases {
            let devices = &mut state.lock().unwrap().devices;
            devices.insert((*base).to_owned(), Device::default());
        }
        let (notice, changed) = watch::channel(0);
        tokio::spawn(live(mqtt.clone(), Arc::clone(&state), inbox, notice));
        Self {
            mqtt,
            state,
            changed,
        }
    }

    /// The device neither answers nor reports from here on, and its bridge says so.
    pub(super) async fn dies(&self, base: &str) {
        self.falls_silent(base);
        self.says(&format!("{base}/availability"), "offline").await;
    }

    /// The device neither answers nor reports from here on, and nobody says so.
    pub(super) fn falls_silent(&self, base: &str) {
        let mut state = self.state.lock().unwrap();
        state.devices.get_mut(base).unwrap().dead = true;
    }

    /// The device is there again, as if it had just been given power.
    pub(super) async fn returns(&self, base: &str) {
        {
            let mut state = self.state.lock().unwrap();
            let device = state.devices.get_mut(base).unwrap();
            device.dead = false;
            device.shows.clear();
        }
        self.says(&format!("{base}/availability"), "online").await;
    }

    /// Somebody publishes something.
    pub(super) async fn says(&self, topic: &str, payload: &str) {
        let said = self
            .mqtt
            .publish(topic, payload.to_owned(), Publish::at_least_once());
        said.unwrap().await.unwrap();
    }

    /// Asks the element to show something on the lamp at a port.
    pub(super) async fn wish(&self, port: &str, show: &Value, for_ms: Option<u64>) {
        let wish = json!({ "port": port, "show": show, "for_ms": for_ms });
        self.says("test/wish", &wish.to_string()).await;
    }

    /// What a device did, as soon as that is as wanted.
    pub(super) async fn trace(&self, base: &str, wanted: impl Fn(&Trace) -> bool) -> Trace {
        let of = |state: &State| state.devices[base].trace.clone();
        self.until(base, |state| Some(of(state)).filter(&wanted))
            .await
    }

    /// Waits until the element has said this of a change, `nth` times since the start.
    pub(super) async fn told(&self, what: &str, nth: usize) {
        let count = |state: &State| state.told.iter().filter(|told| *told == what).count();
        self.until(what, |state| (count(state) >= nth).then_some(()))
            .await;
    }

    /// Waits until the element has said that its first lamp shows this.
    pub(super) async fn shown(&self, wanted: impl Fn(&Value) -> bool) {
        let any = |state: &State| state.shown.iter().any(&wanted).then_some(());
        self.until("what is shown", any).await;
    }

    async fn until<T>(&self, what: &str, found: impl Fn(&State) -> Option<T>) -> T {
        let mut changed = self.changed.clone();
        let waiting = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = found(&self.state.lock().unwrap()) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{what}: {}", self.described()))
    }

    fn described(&self) -> String {
        let state = self.state.lock().unwrap();
        let devices = state.devices.iter();
        let traces: Vec<_> = devices
            .map(|(base, device)| (base, &device.trace))
            .collect();
        format!("{traces:?} {:?} {:?}", state.told, state.shown)
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        let mqtt = self.mqtt.clone();
        tokio::spawn(async move { mqtt.disconnect(Duration::from_secs(1)).await });
    }
}

async fn live(
    mqtt: Mqtt,
    state: Arc<Mutex<State>>,
    mut inbox: mpsc::UnboundedReceiver<Incoming>,
    notice: watch::Sender<u64>,
) {
    while let Some(incoming) = inbox.recv().await {
        let report = take(&mut state.lock().unwrap(), &incoming);
        notice.send_modify(|changes| *changes += 1);
        if let Some((topic, report)) = report {
            let said = mqtt.publish(&topic, report.to_string(), Publish::at_least_once());
            tokio::spawn(said.unwrap());
        }
    }
}

/// What a message does, and what is reported of it.
fn take(state: &mut State, incoming: &Incoming) -> Option<(String, Value)> {
    let text = String::from_utf8_lossy(&incoming.payload).into_owned();
    match incoming.topic.as_str() {
        "test/changed" => state.told.push(text),
        "test/shown" => state.shown.push(serde_json::from_str(&text).unwrap()),
        topic => {
            let (base, verb) = topic.rsplit_once('/')?;
            let device = state.devices.get_mut(base)?;
            if device.dead {
                return None;
            }
            if verb == "set" {
                let command: Value = serde_json::from_str(&text).unwrap();
                for (name, value) in command.as_object().unwrap() {
                    device.shows.insert(name.clone(), value.clone());
                }
                device.trace.push(command);
            }
            state.reports += 1;
            let mut report = json!(device.shows);
            report["last_seen"] = json!(state.reports);
            return Some((base.to_owned(), report));
        }
    }
    None
}
