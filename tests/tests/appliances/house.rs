//! An element that shows what it is asked to on three lamps, each of its own kind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lamplighter::device_simulator::TraceLine;
use lamplighter_policies::protocol::appliances::ApplianceStatus;
use lamplighter_policies::protocol::control::ElementStatus;
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Mqtt, MqttOptions, Publish, QualityOfService, Reception, Subscription,
};
use lamplighter_tests::application::{Application, PATIENCE, is_running, kill};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lights");

/// The application, and whoever lives with it.
pub(super) struct House {
    pub(super) application: Application,
    mqtt: Mqtt,
    heard: watch::Receiver<Vec<(String, Value)>>,
}

impl House {
    pub(super) async fn start(topology: &str) -> Self {
        let application = Application::start(PROGRAM, topology).await;
        let address = BrokerAddress {
            url: application.broker.clone(),
            user: None,
            password: None,
        };
        let subscriptions = ["test/shown", "b"].map(|filter| Subscription {
            filter: filter.into(),
            quality: QualityOfService::AtLeastOnce,
        });
        let (tell, heard) = watch::channel(Vec::new());
        let mqtt = Mqtt::start(
            MqttOptions::new(address, "house"),
            subscriptions.to_vec(),
            Arc::new(move |message| {
                let said = serde_json::from_slice(&message.payload).unwrap();
                tell.send_modify(|heard: &mut Vec<_>| heard.push((message.topic, said)));
                Reception::Done
            }),
        );
        let mqtt = mqtt.unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        Self {
            application,
            mqtt,
            heard,
        }
    }

    /// Somebody publishes something.
    pub(super) async fn says(&self, topic: &str, payload: &str) {
        let said = self
            .mqtt
            .publish(topic, payload.to_owned(), Publish::at_least_once());
        said.unwrap().await.unwrap();
    }

    /// Asks the element to show something on the lamp at a port.
    pub(super) async fn wish(&self, port: &str, show: &Value) {
        let wish = json!({ "port": port, "show": show });
        self.says("test/wish", &wish.to_string()).await;
    }

    /// Waits until the element has said that its first lamp shows this.
    pub(super) async fn shown(&self, wanted: impl Fn(&Value) -> bool) {
        self.told("test/shown", wanted).await;
    }

    /// Waits until this was said on a topic.
    pub(super) async fn told(&self, topic: &str, wanted: impl Fn(&Value) -> bool) {
        let mut heard = self.heard.clone();
        let is_it = |(on, said): &(String, Value)| on == topic && wanted(said);
        let waited = timeout(PATIENCE, heard.wait_for(|heard| heard.iter().any(is_it))).await;
        if waited.is_err() {
            panic!("{:?} {}", self.heard.borrow(), self.application.logs());
        }
    }

    /// What a simulated device was told, as soon as that is as wanted.
    pub(super) async fn simulated(
        &self,
        device: &str,
        wanted: impl Fn(&[TraceLine]) -> bool,
    ) -> Vec<TraceLine> {
        let path = self.application.run_directory().join("physical.jsonl");
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let whole = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let all: Vec<TraceLine> = whole.collect();
            let of_device = all
                .into_iter()
                .filter(|line| line.device.as_str() == device);
            let lines: Vec<_> = of_device.collect();
            if wanted(&lines) {
                return lines;
            }
            let logs = || self.application.logs();
            assert!(began.elapsed() < PATIENCE, "{lines:?} {}", logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What stands in a file, as soon as that is as wanted.
    pub(super) async fn file(&self, path: &Path, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let text = std::fs::read(path).unwrap_or_default();
            let shown = serde_json::from_slice(&text).unwrap_or(Value::Null);
            if wanted(&shown) {
                return shown;
            }
            let logs = || self.application.logs();
            assert!(began.elapsed() < PATIENCE, "{shown} {}", logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How an appliance is, as soon as that is as wanted.
    pub(super) async fn appliance(
        &self,
        id: &str,
        wanted: impl Fn(&ApplianceStatus) -> bool,
    ) -> ApplianceStatus {
        let began = Instant::now();
        let mut operator = self.application.operator().await;
        loop {
            let (all, _) = operator.appliances().await.unwrap();
            let status = all.into_iter().find(|it| it.appliance.as_str() == id);
            let status = status.unwrap();
            if wanted(&status) {
                return status;
            }
            let logs = || self.application.logs();
            assert!(began.elapsed() < PATIENCE, "{status:?} {}", logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until no command waits and the log knows it.
    pub(super) async fn settled(&self, element: &str) {
        let settled = |status: &ElementStatus| {
            let report = status.report.as_ref();
            report.is_some_and(|report| report.unacknowledged == 0 && report.queued == 0)
        };
        self.application.element(element, settled).await;
    }

    /// Ends the process that hosts an element, without a word, and waits for the next.
    pub(super) async fn kill(&self, element: &str) {
        let before = self.application.element(element, |e| e.pid.is_some()).await;
        kill(before.pid.unwrap()).await;
        let again = |now: &ElementStatus| is_running(now) && now.restarts > before.restarts;
        self.application.element(element, again).await;
    }

    pub(super) async fn stop(self) {
        self.mqtt.disconnect(Duration::from_secs(1)).await;
        self.application.stop().await;
    }
}

/// Lamps `a`, as `first` says it is spoken to, `b`, which is simulated, and `c`, simulated unless
/// `third` says otherwise.
pub(super) fn lamps(first: &str, third: &str) -> String {
    let third = if third.is_empty() {
        "api = \"simulated\""
    } else {
        third
    };
    format!(
        r#"
[application]
name = "lamps"
[servers.pc]
storage = "volatile"
[appliances.a]
{first}
role = "both"
model = "light"
[appliances.b]
api = "simulated"
role = "both"
model = "light"
substitute = {{ spare = true }}
[appliances.c]
{third}
role = "both"
class = "set"
functions = ["anything"]
substitute = {{ with = "nobody" }}
[elements.lights]
kind = "Lights"
server = "pc"
inputs = {{ "test/wish" = "Wish" }}
outputs = {{ changed = {{ topic = "test/changed" }}, shown = {{ topic = "test/shown" }}, second = {{ appliance = "b" }}, third = {{ appliance = "c" }} }}
checkpoint = {{ every = 15, interval = "1s" }}
restart = {{ max = 100, backoff = "1ms..5ms" }}
[bindings.first]
from = "lights"
to = "a"
receive = [ {{ input = "Shows" }} ]
send = [ {{ output = "first" }} ]
[store]
kind = "embedded"
[broker]
kind = "embedded"
"#
    )
}
