//! Real servers, as far as one machine can have them: each with its agent and its hosts, lost at one
//! stroke. What ran there runs elsewhere with its state, and every event is handled once.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

mod foreseen;
mod outside;

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_policies::protocol::control::{Answer, Ask, ElementState, PlacedStatus};
use lamplighter_tests::site::Site;

use outside::Outside;

const PROGRAM: &str = env!("CARGO_BIN_EXE_relay");

#[tokio::test]
async fn what_ran_on_a_lost_server_goes_on_elsewhere_with_its_state() {
    let mut site = Site::start(PROGRAM, TOPOLOGY, &["rpi1", "rpi2", "pc"]).await;
    all_run(&site, &["rpi1", "rpi2"]).await;
    let mut outside = Outside::connect(&site.broker).await;
    let load = outside.load();
    tokio::time::sleep(Duration::from_millis(300)).await;

    lose(&mut site, "rpi1").await;
    let elements = site.elements(|all| run_off("rpi1", all)).await;
    let moved = elements
        .iter()
        .find(|placed| placed.status.element.as_str() == "relay");
    assert!(moved.unwrap().status.epoch > 1, "{moved:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let last = load.stop().await;
    outside.has_all(last, &site).await;

    // The server is back, empty, and nothing goes back by itself.
    let before = places(&elements);
    site.start_server("rpi1");
    let mut operator = site.operator().await;
    while !operator.standing().await.unwrap().servers.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let after = site.elements(|all| all.iter().all(is_running)).await;
    assert_eq!(places(&after), before);
    let timeline = site.command(&["timeline", "relay"]);
    for phase in [
        "recovering, its dependents wait: its server rpi1 failed",
        "resumed (plan 1)",
    ] {
        assert!(timeline.contains(phase), "{timeline}");
    }
}

#[tokio::test]
async fn a_manager_that_is_killed_while_it_repairs_goes_on_where_it_was() {
    let mut site = Site::start(PROGRAM, TOPOLOGY, &["rpi1", "rpi2", "pc"]).await;
    all_run(&site, &["rpi1", "rpi2"]).await;
    let mut outside = Outside::connect(&site.broker).await;
    let load = outside.load();
    // At once, while failures are collected; with the plan; with elements on their way.
    for (after, server) in [(0, "rpi1"), (55, "rpi2"), (80, "pc")] {
        tokio::time::sleep(Duration::from_millis(200)).await;
        lose(&mut site, server).await;
        tokio::time::sleep(Duration::from_millis(after)).await;
        site.kill_manager().await;
        site.start_manager();
        site.elements(|all| run_off(server, all)).await;
        site.start_server(server);
        let mut operator = site.operator().await;
        while operator
            .standing()
            .await
            .unwrap()
            .servers
            .iter()
            .any(|(id, reason)| id.as_str() == server && reason.starts_with("failed"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let last = load.stop().await;
    outside.has_all(last, &site).await;
    let terms = site.command(&["timeline", "--json"]);
    let terms: serde_json::Value = serde_json::from_str(&terms).unwrap();
    let terms = terms
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["term"].as_u64());
    let terms: std::collections::BTreeSet<u64> = terms.collect();
    assert!(
        terms.len() >= 3,
        "the timeline is that of all managers: {terms:?}"
    );
}

#[tokio::test]
async fn two_servers_that_are_lost_at_once_leave_all_on_the_third() {
    let mut site = Site::start(PROGRAM, TOPOLOGY, &["rpi1", "rpi2", "pc"]).await;
    all_run(&site, &["rpi1", "rpi2"]).await;
    let mut outside = Outside::connect(&site.broker).await;
    let load = outside.load();
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.kill_server("rpi1").await;
    lose(&mut site, "rpi2").await;
    declare(&site, "rpi1").await;
    let elements = site
        .elements(|all| run_off("rpi1", all) && run_off("rpi2", all))
        .await;
    assert!(
        places(&elements).values().all(|server| server == "pc"),
        "{elements:?}"
    );
    let last = load.stop().await;
    outside.has_all(last, &site).await;
}

#[tokio::test]
async fn elements_are_moved_and_servers_drained_and_stopped_while_events_flow() {
    let mut site = Site::start(PROGRAM, TOPOLOGY, &["rpi1", "rpi2", "pc"]).await;
    all_run(&site, &["rpi1", "rpi2"]).await;
    let mut outside = Outside::connect(&site.broker).await;
    let load = outside.load();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(site.command(&["move", "relay", "pc"]), "relay runs on pc\n");
    assert_eq!(site.command(&["drain", "pc"]).lines().count(), 1);
    let elements = site.elements(|all| run_off("pc", all)).await;
    assert!(elements.iter().all(is_running), "{elements:?}");
    assert_eq!(site.command(&["undrain", "pc"]), "");
    // A server leaves in order: its agent stops, and its elements are handed over.
    site.stop_server("rpi2").await;
    site.elements(|all| run_off("rpi2", all)).await;
    let last = load.stop().await;
    outside.has_all(last, &site).await;
}

/// A server dies, and a person says so.
async fn lose(site: &mut Site, server: &str) {
    site.kill_server(server).await;
    declare(site, server).await;
}

async fn declare(site: &Site, server: &str) {
    let mut operator = site.operator().await;
    let server = server.parse().unwrap();
    let answer = operator.ask(Ask::DeclareLost { server }).await.unwrap();
    let outcomes = vec![];
    assert_eq!(answer, Answer::Done { outcomes });
}

async fn all_run(site: &Site, servers: &[&str]) {
    let placed = |all: &[PlacedStatus]| {
        all.iter()
            .all(|placed| is_running(placed) && servers.contains(&placed.server.as_str()))
    };
    site.elements(placed).await;
}

fn is_running(placed: &PlacedStatus) -> bool {
    placed.status.state == ElementState::Running
}

fn run_off(server: &str, all: &[PlacedStatus]) -> bool {
    all.iter()
        .all(|placed| is_running(placed) && placed.server.as_str() != server)
}

fn places(all: &[PlacedStatus]) -> BTreeMap<String, String> {
    let place =
        |placed: &PlacedStatus| (placed.status.element.to_string(), placed.server.to_string());
    all.iter().map(place).collect()
}

const TOPOLOGY: &str = r#"
[application]
name = "servers"
[servers.pc]
storage = "volatile"
[servers.rpi1]
storage = "volatile"
[servers.rpi2]
storage = "volatile"
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
server = "rpi1"
checkpoint = { every = 40, interval = "1s" }
[elements.collector]
kind = "Collector"
server = "rpi2"
inputs = { "test/tell" = "Tell" }
outputs = { unlock = { appliance = "lock" }, command = { topic = "test/command" }, told = { topic = "test/told" } }
checkpoint = { every = 40, interval = "1s" }
[bindings.read]
from = "relay"
to = "reader"
model = "message"
receive = [ { input = "Read" } ]
[bindings.directly]
from = "collector"
to = "direct"
model = "message"
receive = [ { input = "Direct" } ]
[bindings.collect]
from = "collector"
to = "relay"
model = "message"
receive = [ { output = "forward", input = "Forwarded" } ]
[store]
kind = "embedded"
[broker]
kind = "embedded"
"#;
