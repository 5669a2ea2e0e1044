//! Failures told to real processes (paper, 4.2.3): those who depend on what failed wait, the others go on
//! untouched, and all resume on recovery with nothing lost.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

use std::process::Command;
use std::time::Duration;

use lamplighter_policies::notification::EntityState;
use lamplighter_policies::protocol::control::{ElementState, ElementStatus};
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{Mqtt, MqttOptions, Publish, Reception};
use lamplighter_tests::application::{Application, PATIENCE, is_running, kill};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_followers");

/// `b` and `c` depend on `a`, and `d` on both. `other` has nothing to do with them. `a` waits for some
/// seconds before it is started a second time; the rest is back at once.
fn topology(backoff: &str) -> String {
    let element = |id: &str, last: bool, backoff: &str| {
        format!(
            r#"
[elements.{id}]
kind = "Follower"
server = "pc"
state = {{ last = {last} }}
restart = {{ max = 100, backoff = "{backoff}" }}
"#
        )
    };
    let binding = |id: &str, from: &str, to: &str| {
        format!(
            r#"
[bindings.{id}]
from = "{from}"
to = "{to}"
receive = [ {{ output = "pass", input = "Passed" }} ]
"#
        )
    };
    let sensor = |id: &str, by: &str| {
        format!(
            r#"
[appliances.{id}]
api = "mqtt"
role = "sensor"
functions = ["reading"]
topic = "test/{id}"
identified_by = "n"
[bindings.{id}-read]
from = "{by}"
to = "{id}"
receive = [ {{ input = "Read" }} ]
"#
        )
    };
    let at_once = "1ms..5ms";
    [
        "[application]\nname = \"notified\"\n[servers.pc]\nstorage = \"volatile\"\n".to_owned(),
        "[store]\nkind = \"embedded\"\n[broker]\nkind = \"embedded\"\n".to_owned(),
        sensor("meter", "a"),
        sensor("clock", "other"),
        element("a", false, backoff),
        element("b", false, at_once),
        element("c", false, at_once),
        element("d", true, at_once),
        element("other", true, at_once),
        binding("to-b", "b", "a"),
        binding("to-c", "c", "a"),
        binding("b-to-d", "d", "b"),
        binding("c-to-d", "d", "c"),
    ]
    .concat()
}

struct House {
    application: Application,
    devices: Mqtt,
}

impl House {
    async fn start(backoff: &str) -> Self {
        let application = Application::start(PROGRAM, &topology(backoff)).await;
        let devices = devices(&application.broker).await;
        Self {
            application,
            devices,
        }
    }

    async fn says(&self, device: &str, number: u32) {
        let (topic, payload) = (format!("test/{device}"), format!("{{\"n\":{number}}}"));
        let said = self
            .devices
            .publish(&topic, payload, Publish::at_least_once());
        said.unwrap().await.unwrap();
    }

    /// Waits until an element serves in this way.
    async fn serves(&self, element: &str, wanted: EntityState) -> ElementStatus {
        let serves = |status: &ElementStatus| {
            let report = status.report.as_ref();
            is_running(status) && report.is_some_and(|report| report.effective == wanted)
        };
        self.application.element(element, serves).await
    }

    /// Kills an element, and waits until its agent has noticed.
    async fn kill(&self, element: &str) -> ElementStatus {
        let running = self.application.element(element, is_running).await;
        let failures = running.last_failure.map_or(0, |failure| failure.number);
        kill(running.pid.unwrap()).await;
        let noticed = |status: &ElementStatus| {
            let failure = status.last_failure.as_ref();
            failure.is_some_and(|failure| failure.number > failures)
        };
        self.application.element(element, noticed).await
    }

    /// Kills `a` twice, so that it stays away for as long as its backoff says.
    async fn a_goes_away(&self) {
        self.kill("a").await;
        self.application.element("a", is_running).await;
        self.kill("a").await;
        let is_away = |status: &ElementStatus| status.state == ElementState::BackingOff;
        self.application.element("a", is_away).await;
    }

    /// What an element remembers, as soon as that is as wanted.
    async fn state(&self, element: &str, wanted: impl Fn(&Memory) -> bool) -> Memory {
        let began = Instant::now();
        loop {
            let mut command = Command::new(PROGRAM);
            command.args(["state", element, "--json"]).env(
                "LAMPLIGHTER_DIRECTORIES__RUN",
                self.application.run_directory(),
            );
            let output = tokio::task::spawn_blocking(move || command.output());
            let output = output.await.unwrap().unwrap();
            let memory: Option<Memory> = serde_json::from_slice(&output.stdout).ok();
            if let Some(memory) = &memory
                && wanted(memory)
            {
                return memory.clone();
            }
            let told = String::from_utf8_lossy(&output.stderr);
            let waited = began.elapsed();
            assert!(
                waited < PATIENCE,
                "{element}: {memory:?} {told} {}",
                self.application.logs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sees that `d` has each of these from `b` and from `c`, once and in order.
    async fn d_has(&self, count: u32) {
        let all = usize::try_from(count).unwrap() * 2;
        let memory = self.state("d", |memory| memory.taken.len() >= all).await;
        let mut taken = memory.taken;
        taken.sort_unstable();
        let twice: Vec<u32> = (1..=count).flat_map(|number| [number, number]).collect();
        assert_eq!(taken, twice);
    }
}

#[derive(Clone, Debug, serde::Deserialize)]
struct Memory {
    taken: Vec<u32>,
    changes: Vec<String>,
}

async fn devices(broker: &str) -> Mqtt {
    let address = BrokerAddress {
        url: broker.to_owned(),
        user: None,
        password: None,
    };
    let options = MqttOptions::new(address, "devices");
    let ignore = std::sync::Arc::new(|_: _| Reception::Done);
    let devices = Mqtt::start(options, Vec::new(), ignore).unwrap();
    devices.connected(PATIENCE).await.unwrap();
    devices
}

#[tokio::test]
async fn a_diamond_waits_for_what_failed_others_go_on_and_nothing_is_lost() {
    let house = House::start("3s..3s").await;
    house.says("meter", 1).await;
    house.d_has(1).await;

    house.a_goes_away().await;
    house.serves("b", EntityState::Suspended).await;
    house.serves("c", EntityState::Suspended).await;
    let d = house.serves("d", EntityState::Stopped).await;
    let because = d.report.unwrap().because;
    assert_eq!(
        because
            .iter()
            .map(|(id, _)| id.as_str())
            .collect::<Vec<_>>(),
        ["b", "c"]
    );
    // What is said to `a` meanwhile waits at the broker, and the others work.
    house.says("meter", 2).await;
    house.says("clock", 7).await;
    house.state("other", |memory| memory.taken == [7]).await;
    let other = house.serves("other", EntityState::Up).await;
    assert_eq!((other.restarts, other.epoch), (0, 1));
    let away = house.application.element("a", |_| true).await;
    assert_eq!(away.state, ElementState::BackingOff, "it is still away");

    for element in ["a", "b", "c", "d"] {
        house.serves(element, EntityState::Up).await;
    }
    house.says("meter", 3).await;
    house.d_has(3).await;
    let told = house.state("b", |memory| memory.changes.len() == 2).await;
    assert_eq!(told.changes, ["to-b failed", "to-b recovered"]);
    let told = house.state("other", |_| true).await;
    assert_eq!(told.changes, Vec::<String>::new());
    house.application.stop().await;
}

#[tokio::test]
async fn repairs_in_place_lose_nothing_and_leave_nobody_waiting_however_long_they_took() {
    let house = House::start("1ms..5ms").await;
    for number in 1..=5 {
        house.says("meter", number).await;
        house.kill("a").await;
        house.application.element("a", is_running).await;
    }
    house.d_has(5).await;
    for element in ["b", "c", "d"] {
        house.serves(element, EntityState::Up).await;
        // A repair that took no time was not noticed; of any other both ends were.
        let even = |memory: &Memory| memory.changes.len().is_multiple_of(2);
        house.state(element, even).await;
    }
    house.application.stop().await;
}

#[tokio::test]
async fn one_that_dies_before_it_could_apply_a_notice_knows_it_when_it_is_back() {
    let house = House::start("3s..3s").await;
    house.says("meter", 1).await;
    house.d_has(1).await;
    let b = house.application.element("b", is_running).await;
    let pid = Pid::from_raw(b.pid.unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    house.a_goes_away().await;
    house.serves("c", EntityState::Suspended).await;
    // It was told, and has not heard it: its agent sees that it hangs, and kills it.
    let again = |status: &ElementStatus| is_running(status) && status.restarts == b.restarts + 1;
    house.application.element("b", again).await;
    house.serves("b", EntityState::Suspended).await;
    let away = house.application.element("a", |_| true).await;
    assert_eq!(away.state, ElementState::BackingOff, "it is still away");
    for element in ["a", "b", "c", "d"] {
        house.serves(element, EntityState::Up).await;
    }
    house.says("meter", 2).await;
    house.d_has(2).await;
    house.application.stop().await;
}

#[tokio::test]
async fn a_manager_that_is_killed_while_somebody_is_away_still_tells_when_that_is_back() {
    let house = House::start("4s..4s").await;
    house.says("meter", 1).await;
    house.d_has(1).await;
    house.a_goes_away().await;
    house.serves("d", EntityState::Stopped).await;
    kill(house.application.process("manager")).await;
    for element in ["a", "b", "c", "d"] {
        house.serves(element, EntityState::Up).await;
    }
    house.says("meter", 2).await;
    house.d_has(2).await;
    house.application.stop().await;
}
