//! One application whose server has the storage that a cell of the figure asks for, and the devices
//! around it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter_policies::protocol::control::ElementStatus;
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Mqtt, MqttOptions, Publish, QualityOfService, Reception, Subscription,
};
use lamplighter_tests::application::{Application, PATIENCE};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

const PROGRAM: &str = env!("CARGO_BIN_EXE_relay");

/// The local storage of the server.
#[derive(Clone, Copy)]
pub(crate) enum Storage {
    /// It survives its server's failure.
    Persistent,
    /// It does not.
    Volatile,
}

/// The ids of the commands that arrived.
#[derive(Clone, Default)]
pub(crate) struct Commands {
    /// At a device that must not be told twice.
    pub(crate) lock: Vec<String>,
    /// At one that knows a copy by its id.
    pub(crate) keyed: BTreeSet<String>,
}

/// What the collector has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Told {
    /// The question that it answers.
    pub(crate) question: u32,
    /// What came over the relay.
    pub(crate) forwarded: Vec<u32>,
    /// What a device said to it.
    pub(crate) direct: Vec<u32>,
}

/// The application and its devices.
pub(crate) struct House {
    /// The processes.
    pub(crate) application: Application,
    mqtt: Mqtt,
    commands: Arc<Mutex<Commands>>,
    answers: tokio::sync::Mutex<mpsc::UnboundedReceiver<Told>>,
}

impl House {
    pub(crate) async fn start(storage: Storage) -> Self {
        let application = Application::start(PROGRAM, &topology(storage)).await;
        let address = BrokerAddress {
            url: application.broker.clone(),
            user: None,
            password: None,
        };
        let subscribe = |filter: &str| Subscription {
            filter: filter.into(),
            quality: QualityOfService::AtLeastOnce,
        };
        let filters = ["test/command", "test/lock/#", "test/told"];
        let commands = Arc::new(Mutex::new(Commands::default()));
        let (tell, answers) = mpsc::unbounded_channel();
        let heard = Arc::clone(&commands);
        let mqtt = Mqtt::start(
            MqttOptions::new(address, "outside"),
            filters.map(subscribe).to_vec(),
            Arc::new(move |message| {
                if message.topic == "test/told" {
                    tell.send(serde_json::from_slice(&message.payload).unwrap())
                        .ok();
                    return Reception::Done;
                }
                let mut properties = message.user_properties.iter();
                let id = properties.find(|(name, _)| name == "lamplighter-id");
                let (_, id) = id.expect("a command has an id");
                let mut commands = heard.lock().unwrap();
                match message.topic.as_str() {
                    "test/command" => drop(commands.keyed.insert(id.clone())),
                    _ => commands.lock.push(id.clone()),
                }
                Reception::Done
            }),
        );
        let mqtt = mqtt.unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        Self {
            application,
            mqtt,
            commands,
            answers: tokio::sync::Mutex::new(answers),
        }
    }

    /// Both devices say these numbers; returns when the broker has them.
    pub(crate) async fn say(&self, numbers: RangeInclusive<u32>) {
        for number in numbers {
            for topic in ["test/read", "test/direct"] {
                self.publish(topic, format!("{{\"n\":{number}}}")).await;
            }
        }
    }

    async fn publish(&self, topic: &str, payload: String) {
        let published = self.mqtt.publish(topic, payload, Publish::at_least_once());
        timeout(PATIENCE, published.unwrap())
            .await
            .unwrap()
            .unwrap();
    }

    /// What the collector has, once it has `last` from both.
    pub(crate) async fn told(&self, last: u32) -> Told {
        let began = Instant::now();
        let mut answers = self.answers.lock().await;
        for question in 0.. {
            self.publish("test/tell", question.to_string()).await;
            let answer = timeout(Duration::from_millis(500), answers.recv()).await;
            if let Ok(Some(told)) = answer
                && told.forwarded.contains(&last)
                && told.direct.contains(&last)
            {
                return told;
            }
            let logs = || self.application.logs();
            assert!(began.elapsed() < PATIENCE, "{last} is missing {}", logs());
        }
        unreachable!("questions do not run out")
    }

    /// Commands go one by one, and may be under way when all events are there.
    pub(crate) async fn all_commands_are_settled(&self) {
        let settled = |collector: &ElementStatus| {
            let report = collector.report.as_ref();
            report.is_some_and(|report| report.unacknowledged == 0)
        };
        self.application.element("collector", settled).await;
    }

    pub(crate) fn commands(&self) -> Commands {
        self.commands.lock().unwrap().clone()
    }

    pub(crate) async fn stop(self) {
        // A client whose broker has gone would go on looking for it beside those of other tests.
        self.mqtt.disconnect(Duration::from_secs(1)).await;
        self.application.stop().await;
    }
}

fn topology(storage: Storage) -> String {
    let storage = match storage {
        Storage::Persistent => "persistent",
        Storage::Volatile => "volatile",
    };
    format!(
        r#"
[application]
name = "figure"
[servers.pc]
storage = "{storage}"
[appliances.lock]
api = "mqtt"
role = "actuator"
functions = ["unlock"]
topic = "test/lock"
class = "irreversible"
[appliances.reader]
api = "mqtt"
role = "sensor"
functions = ["reading"]
topic = "test/read"
identified_by = "n"
[appliances.direct]
api = "mqtt"
role = "sensor"
functions = ["reading"]
topic = "test/direct"
identified_by = "n"
[elements.relay]
kind = "Relay"
server = "pc"
checkpoint = {{ every = 15, interval = "1s" }}
restart = {{ max = 100, backoff = "1ms..5ms" }}
[elements.collector]
kind = "Collector"
server = "pc"
inputs = {{ "test/tell" = "Tell" }}
outputs = {{ unlock = {{ appliance = "lock" }}, command = {{ topic = "test/command" }}, told = {{ topic = "test/told" }} }}
checkpoint = {{ every = 15, interval = "1s" }}
restart = {{ max = 100, backoff = "1ms..5ms" }}
[bindings.read]
from = "relay"
to = "reader"
model = "message"
receive = [ {{ input = "Read" }} ]
[bindings.directly]
from = "collector"
to = "direct"
model = "message"
receive = [ {{ input = "Direct" }} ]
[bindings.collect]
from = "collector"
to = "relay"
model = "message"
receive = [ {{ output = "forward", input = "Forwarded" }} ]
[store]
kind = "embedded"
[broker]
kind = "embedded"
"#
    )
}
