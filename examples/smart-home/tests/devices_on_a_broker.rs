//! The devices as a real process on a real broker: commands are carried out, the evening is heard.

#![expect(clippy::unwrap_used, reason = "a test fails where its helpers do")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lamplighter::scenario::Player;
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::broker::mosquitto::{ManagedMosquitto, MosquittoSettings};
use lamplighter_runtime::transport::mqtt::{
    Handler, Incoming, Mqtt, MqttOptions, Publish, QualityOfService, Reception, Subscription,
};
use serde_json::{Value, json};
use smart_home::evening::read_evening;
use smart_home::simulator::PhysicalTrace;
use tokio::sync::mpsc;

const WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_lamp_carries_out_a_command_reports_and_writes_it_down() {
    let folder = tempfile::tempdir().unwrap();
    let broker = broker(folder.path()).await;
    let trace = folder.path().join("physical.jsonl");
    let devices = Devices::start(&broker.address(), &trace);
    let (house, mut heard) = listen(&broker.address(), "zigbee2mqtt/bedroom/lamp").await;

    let mut publish = Publish::at_least_once();
    publish.user_properties = vec![("lamplighter-id".into(), "node-hue-actuate/0.7.0".into())];
    let command = r#"{"state":"ON","brightness":200}"#;
    house
        .publish("zigbee2mqtt/bedroom/lamp/set", command, publish)
        .unwrap()
        .await
        .unwrap();

    let shown = json!({ "state": "ON", "brightness": 200 });
    assert_eq!(next(&mut heard).await, shown);
    let traced = PhysicalTrace::read(&trace).unwrap();
    assert_eq!(traced.len(), 1);
    assert_eq!(traced[0].id.as_deref(), Some("node-hue-actuate/0.7.0"));
    assert_eq!(traced[0].state, shown);
    devices.end();
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn the_evening_is_acknowledged_whole_and_the_hall_sensor_sees_who_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let broker = broker(folder.path()).await;
    let devices = Devices::start(&broker.address(), &folder.path().join("physical.jsonl"));
    let (_house, mut heard) = listen(&broker.address(), "wemo/hall").await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/zigbee2mqtt-evening.jsonl");
    let evening = read_evening(&path).unwrap();

    let player = Player::connect(broker.address()).await.unwrap();
    let played = player.play(&evening, 200.0, |_| ()).await.unwrap();

    let acknowledged: u64 = played.acknowledged.values().sum();
    assert_eq!(
        (acknowledged, played.unacknowledged),
        (evening.messages.len() as u64, 0)
    );
    for moved in [true, false, true, false, true, false] {
        assert_eq!(next(&mut heard).await, json!({ "occupancy": moved }));
    }
    devices.end();
    broker.stop().await.unwrap();
}

/// The process; killed if the test fails.
struct Devices(Child);

impl Devices {
    fn start(broker: &BrokerAddress, trace: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_devices"))
            .args(["--broker", &broker.url, "--trace"])
            .arg(trace)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut ready).unwrap();
        let devices = Self(child);
        assert_eq!(ready, "devices: ready\n");
        devices
    }

    /// Ends the process as whoever started it would: its input ends.
    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        // It has ended already if the test succeeded.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn broker(folder: &Path) -> ManagedMosquitto {
    ManagedMosquitto::start(MosquittoSettings {
        directory: folder.join("mosquitto"),
        listen: ([127, 0, 0, 1], 0).into(),
        credentials: None,
    })
    .await
    .unwrap()
}

async fn listen(broker: &BrokerAddress, topic: &str) -> (Mqtt, mpsc::UnboundedReceiver<Incoming>) {
    let (deliver, heard) = mpsc::unbounded_channel();
    let handler: Handler = Arc::new(move |incoming| {
        deliver.send(incoming).unwrap();
        Reception::Done
    });
    let subscription = Subscription {
        filter: topic.into(),
        quality: QualityOfService::AtLeastOnce,
    };
    let options = MqttOptions::new(broker.clone(), "house");
    let mqtt = Mqtt::start(options, vec![subscription], handler).unwrap();
    mqtt.connected(WITHIN).await.unwrap();
    (mqtt, heard)
}

async fn next(heard: &mut mpsc::UnboundedReceiver<Incoming>) -> Value {
    let incoming = tokio::time::timeout(WITHIN, heard.recv())
        .await
        .unwrap()
        .unwrap();
    let mut report: Value = serde_json::from_slice(&incoming.payload).unwrap();
    let last_seen = report.as_object_mut().unwrap().remove("last_seen");
    assert!(last_seen.is_some_and(|milliseconds| milliseconds.is_u64()));
    report
}
