//! One owner acts on a device at a time, also where the one before is cut off from the store, or stands
//! still and wakes up late (invariants P2, I11, I12). Real processes, a real Redis, and the device's own
//! trace as the witness.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

use std::time::Duration;

use lamplighter_policies::protocol::control::ElementStatus;
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{Mqtt, MqttOptions, Publish, Reception};
use lamplighter_tests::application::{Application, PATIENCE, is_running};
use lamplighter_tests::http_device::{HttpDevice, Mood, Told};
use lamplighter_tests::proxy::Proxy;
use lamplighter_tests::redis_server::RedisServer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lights");

/// How long an owner that cannot reach the store goes on, as the topologies here have it.
const LEASE: Duration = Duration::from_secs(1);
/// The longest wait of an adapter before it tries a device again, and the time a request takes.
const TRIES_WITHIN: Duration = Duration::from_secs(6);

#[tokio::test]
async fn an_owner_that_is_cut_off_from_the_store_tells_devices_nothing_when_its_lease_is_over() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port(), 1).await.unwrap();
    let lamp = HttpDevice::start().await;
    lamp.becomes(Mood::Busy);
    let house = House::start(&topology(&lamp, proxy.port(), None)).await;
    house.wish_on().await;
    lamp.told_until(|told| told.len() >= 2).await;

    proxy.cut(true);
    tokio::time::sleep(LEASE).await;
    // What was under way when the lease ended has been answered or given up by now.
    let before = lamp.told().len();
    lamp.becomes(Mood::Obeys);
    tokio::time::sleep(TRIES_WITHIN).await;
    let told = lamp.told();
    let late = &told[before..];
    assert_eq!(late, [], "{}", house.application.logs());
    proxy.cut(false);
    let carried_out = |told: &[Told]| told.iter().any(|told| told.carried_out);
    lamp.told_until(carried_out).await;
    house.stop().await;
}

#[tokio::test]
async fn a_host_that_stood_still_and_was_replaced_tells_devices_nothing_when_it_wakes() {
    let server = RedisServer::start().await;
    let lamp = HttpDevice::start().await;
    lamp.becomes(Mood::Busy);
    let old = House::start(&topology(&lamp, server.port(), None)).await;
    old.wish_on().await;
    let told = lamp.told_until(|told| told.len() >= 2).await;
    let old_epoch = told[0].epoch;
    let running = |status: &ElementStatus| is_running(status) && status.pid.is_some();
    let host = old.application.element("lights", running).await;
    let host = Pid::from_raw(i32::try_from(host.pid.unwrap()).unwrap()).unwrap();
    let agent = Pid::from_raw(i32::try_from(old.application.process("agent")).unwrap()).unwrap();
    // Whoever watches it stands still too, as on a machine that is suspended.
    kill_process(agent, Signal::STOP).unwrap();
    kill_process(host, Signal::STOP).unwrap();

    let broker = old.application.broker.clone();
    let new = Application::start(PROGRAM, &topology(&lamp, server.port(), Some(&broker))).await;
    lamp.told_until(|told| told.iter().any(|told| told.epoch > old_epoch))
        .await;
    kill_process(host, Signal::CONT).unwrap();
    tokio::time::sleep(TRIES_WITHIN).await;
    lamp.becomes(Mood::Obeys);
    let carried_out = |told: &[Told]| told.iter().any(|told| told.carried_out);
    let told = lamp.told_until(carried_out).await;

    let new_from = told.iter().position(|told| told.epoch > old_epoch).unwrap();
    let (before, after) = told.split_at(new_from);
    assert!(
        before.iter().all(|told| told.epoch == old_epoch),
        "{told:?}"
    );
    assert!(after.iter().all(|told| told.epoch > old_epoch), "{told:?}");
    assert_eq!(lamp.carried_out(), [json!({ "state": "ON" })]);
    // The command is the same, whoever sends it.
    assert!(told.iter().all(|one| one.id == told[0].id), "{told:?}");
    new.stop().await;
    kill_process(agent, Signal::CONT).unwrap();
    old.stop().await;
}

/// An application with a lamp, and whoever wishes something of it.
struct House {
    application: Application,
    mqtt: Mqtt,
}

impl House {
    async fn start(topology: &str) -> Self {
        let application = Application::start(PROGRAM, topology).await;
        let address = BrokerAddress {
            url: application.broker.clone(),
            user: None,
            password: None,
        };
        let nothing = std::sync::Arc::new(|_| Reception::Done);
        let mqtt = Mqtt::start(MqttOptions::new(address, "house"), Vec::new(), nothing).unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        Self { application, mqtt }
    }

    async fn wish_on(&self) {
        let wish = json!({ "port": "first", "show": { "state": "ON" } }).to_string();
        let said = self
            .mqtt
            .publish("test/wish", wish, Publish::at_least_once());
        said.unwrap().await.unwrap();
    }

    async fn stop(self) {
        self.mqtt.disconnect(Duration::from_secs(1)).await;
        self.application.stop().await;
    }
}

fn topology(lamp: &HttpDevice, store: u16, broker: Option<&str>) -> String {
    let broker = match broker {
        Some(url) => format!("kind = \"external\"\nurl = \"{url}\""),
        None => "kind = \"embedded\"".to_owned(),
    };
    let address = lamp.address();
    format!(
        r#"
[application]
name = "fenced"
[servers.pc]
storage = "volatile"
[appliances.lamp]
api = "http"
address = "{address}"
role = "actuator"
functions = ["on-off"]
class = "set"
[elements.lights]
kind = "Lights"
server = "pc"
inputs = {{ "test/wish" = "Wish" }}
outputs = {{ first = {{ appliance = "lamp" }}, changed = {{ topic = "test/changed" }} }}
restart = {{ max = 100, backoff = "1ms..5ms" }}
[store]
kind = "redis"
url = "redis://127.0.0.1:{store}"
lease = "1s"
[broker]
{broker}
"#
    )
}
