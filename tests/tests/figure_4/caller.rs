//! An application in which an element calls a lamp and a pump over HTTP and a door on the broker, on a
//! server with the storage that a cell of the figure asks for.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_policies::protocol::control::ElementStatus;
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Mqtt, MqttOptions, Publish, QualityOfService, Reception, Subscription,
};
use lamplighter_tests::application::{Application, PATIENCE, is_running, kill};
use lamplighter_tests::http_device::HttpDevice;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::house::Storage;

const PROGRAM: &str = env!("CARGO_BIN_EXE_caller");

/// The application and its devices.
pub(crate) struct Caller {
    application: Application,
    mqtt: Mqtt,
    answers: watch::Receiver<Value>,
    gate: TempDir,
    pub(crate) lamp: HttpDevice,
    pub(crate) pump: HttpDevice,
}

impl Caller {
    pub(crate) async fn start(storage: Storage) -> Self {
        let gate = tempfile::tempdir().unwrap();
        let (lamp, pump) = (HttpDevice::start().await, HttpDevice::start().await);
        pump.by_hand("count", json!(0));
        let topology = topology(storage, &gate, &lamp, &pump);
        let application = Application::start(PROGRAM, &topology).await;
        let address = BrokerAddress {
            url: application.broker.clone(),
            user: None,
            password: None,
        };
        let (tell, answers) = watch::channel(Value::Null);
        let mqtt = Mqtt::start(
            MqttOptions::new(address, "outside"),
            vec![Subscription {
                filter: "test/answers".into(),
                quality: QualityOfService::AtLeastOnce,
            }],
            Arc::new(move |message| {
                let told: Value = serde_json::from_slice(&message.payload).unwrap();
                tell.send_replace(told["answers"].clone());
                Reception::Done
            }),
        );
        let mqtt = mqtt.unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        Self {
            application,
            mqtt,
            answers,
            gate,
            lamp,
            pump,
        }
    }

    /// Has the element call the appliance at a port.
    pub(crate) async fn ask(&self, n: u32, port: &str, show: Value) {
        let asked = json!({ "n": n, "port": port, "show": show });
        self.publish("test/ask", asked.to_string()).await;
    }

    async fn publish(&self, topic: &str, payload: String) {
        let published = self.mqtt.publish(topic, payload, Publish::at_least_once());
        timeout(PATIENCE, published.unwrap())
            .await
            .unwrap()
            .unwrap();
    }

    /// Sees that the element has exactly these answers; devices answer each in its own time.
    pub(crate) async fn answered_in_any_order(&self, expected: &mut [(u32, &str)]) {
        let mut answers = self.answers.clone();
        let began = Instant::now();
        for question in 0.. {
            self.publish("test/tell", question.to_string()).await;
            // Without an answer in a while it is asked again.
            drop(timeout(Duration::from_millis(500), answers.changed()).await);
            let had = answers.borrow_and_update().clone();
            let mut had: Vec<(u32, String)> = serde_json::from_value(had).unwrap_or_default();
            if had.len() >= expected.len() {
                had.sort();
                expected.sort();
                let expected = expected.iter().map(|(n, told)| (*n, (*told).to_owned()));
                let expected: Vec<_> = expected.collect();
                assert_eq!(had, expected, "{}", self.application.logs());
                return;
            }
            let logs = || self.application.logs();
            assert!(began.elapsed() < PATIENCE, "{had:?} {}", logs());
        }
    }

    /// Ends the process that hosts the element, without a word.
    pub(crate) async fn kill(&self) {
        let status = self
            .application
            .element("caller", |e| e.pid.is_some())
            .await;
        kill(status.pid.unwrap()).await;
    }

    /// Waits until the element is back.
    pub(crate) async fn is_back(&self, restarts: u64) {
        let back =
            |status: &ElementStatus| is_running(status) && u64::from(status.restarts) >= restarts;
        self.application.element("caller", back).await;
    }

    /// Whether the element keeps a log on its server.
    pub(crate) fn has_local_log(&self) -> bool {
        let directory = self.application.run_directory();
        directory.join("local/pc/caller").is_dir()
    }

    /// Closes the gate before the element takes an answer.
    pub(crate) fn close(&self) -> UnixListener {
        UnixListener::bind(self.gate.path().join("gate")).unwrap()
    }

    /// Waits until the element is held at its gate: in its handler, with the answer in its log.
    pub(crate) async fn held(&self, gate: &UnixListener) -> UnixStream {
        let held = timeout(PATIENCE, gate.accept()).await;
        let logs = || self.application.logs();
        let (held, _) = held.unwrap_or_else(|_| panic!("{}", logs())).unwrap();
        held
    }

    /// Opens the gate for good.
    pub(crate) fn open(&self) {
        std::fs::remove_file(self.gate.path().join("gate")).unwrap();
    }

    pub(crate) async fn stop(self) {
        self.mqtt.disconnect(Duration::from_secs(1)).await;
        self.application.stop().await;
    }
}

fn topology(storage: Storage, gate: &TempDir, lamp: &HttpDevice, pump: &HttpDevice) -> String {
    let storage = match storage {
        Storage::Persistent => "persistent",
        Storage::Volatile => "volatile",
    };
    let (lamp, pump, gate) = (lamp.address(), pump.address(), gate.path().display());
    format!(
        r#"
[application]
name = "caller"
[servers.pc]
storage = "{storage}"
[models.doser]
other = "irreversible"
evidence = {{ counter = "count" }}
properties.dose = {{ access = "taken", values = {{ min = 1, max = 9 }}, accumulates = true }}
properties.count = {{ access = "shown", values = {{ min = 0, max = 1e9 }} }}
[appliances.lamp]
api = "http"
address = "{lamp}"
role = "both"
class = "set"
functions = ["on-off"]
[appliances.pump]
api = "http"
address = "{pump}"
role = "both"
model = "doser"
[appliances.door]
api = "simulated"
role = "both"
model = "switch"
[elements.caller]
kind = "Caller"
server = "pc"
state = {{ gate = "{gate}/gate" }}
inputs = {{ "test/ask" = "Ask", "test/tell" = "Tell" }}
outputs = {{ answers = {{ topic = "test/answers" }} }}
checkpoint = {{ every = 15, interval = "1s" }}
restart = {{ max = 100, backoff = "1ms..5ms" }}
[bindings.lamp-calls]
from = "caller"
to = "lamp"
model = "call"
reply_within = "60s"
send = [ {{ output = "lamp", reply = "Answered" }} ]
[bindings.pump-calls]
from = "caller"
to = "pump"
model = "call"
reply_within = "60s"
send = [ {{ output = "pump", reply = "Answered" }} ]
[bindings.door-calls]
from = "caller"
to = "door"
model = "call"
reply_within = "60s"
send = [ {{ output = "door", reply = "Answered" }} ]
[store]
kind = "embedded"
[broker]
kind = "embedded"
"#
    )
}
