//! Appliances that are spoken to in other ways than over the broker: HTTP, the program's own adapter,
//! and the simulator (paper, 3.1). Real processes, whose hosts are killed.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

mod house;

use lamplighter_policies::protocol::appliances::ApplianceState;
use lamplighter_policies::protocol::control::ElementStatus;
use lamplighter_tests::http_device::{HttpDevice, Mood};
use serde_json::json;

use house::{House, lamps};

#[tokio::test]
async fn a_lamp_over_http_is_told_asked_and_heard() {
    let lamp = HttpDevice::start().await;
    let house = House::start(&lamps(&http(&lamp, ""), "")).await;
    house.wish("first", &json!({ "state": "ON" })).await;
    let told = lamp.told_until(|told| !told.is_empty()).await;
    assert_eq!(told[0].command, json!({ "state": "ON" }));
    assert!(told[0].id.starts_with("lights/"), "{told:?}");
    // What it shows is read as often as the topology says, and comes to the element.
    house.shown(|shown| shown["state"] == "ON").await;
    lamp.by_hand("brightness", json!(7));
    house.shown(|shown| shown["brightness"] == 7).await;

    // After a crash it is asked, and told only what differs.
    house.kill("lights").await;
    house.wish("first", &json!({ "brightness": 9 })).await;
    lamp.told_until(|told| told.len() >= 2).await;
    let carried_out = [json!({ "state": "ON" }), json!({ "brightness": 9 })];
    assert_eq!(lamp.carried_out(), carried_out);
    let epochs: Vec<u64> = lamp.told().iter().map(|told| told.epoch).collect();
    assert!(epochs[1] > epochs[0], "{epochs:?}");
    house.stop().await;
}

#[tokio::test]
async fn a_lamp_that_was_switched_while_its_host_was_away_is_shown_what_holds() {
    let lamp = HttpDevice::start().await;
    let house = House::start(&lamps(&http(&lamp, ""), "")).await;
    house.wish("first", &json!({ "state": "ON" })).await;
    lamp.told_until(|told| !told.is_empty()).await;
    house.settled("lights").await;
    lamp.becomes(Mood::Busy);
    house.wish("first", &json!({ "state": "OFF" })).await;
    lamp.told_until(|told| told.len() >= 2).await;
    house.kill("lights").await;
    lamp.becomes(Mood::Obeys);
    let told = lamp
        .told_until(|told| told.iter().filter(|told| told.carried_out).count() >= 2)
        .await;
    assert_eq!(lamp.shows()["state"], "OFF", "{told:?}");
    assert_eq!(lamp.carried_out().len(), 2);
    house.stop().await;
}

#[tokio::test]
async fn a_device_that_is_not_reached_holds_up_no_other_and_is_told_when_it_is_back() {
    let lamp = HttpDevice::start().await;
    lamp.becomes(Mood::Busy);
    let house = House::start(&lamps(&http(&lamp, ""), "")).await;
    house.wish("first", &json!({ "state": "ON" })).await;
    lamp.told_until(|told| told.len() >= 3).await;
    let troubled = |lights: &ElementStatus| {
        let report = lights.report.as_ref();
        let trouble = report.and_then(|report| report.trouble.as_deref());
        trouble.is_some_and(|trouble| trouble.contains("503"))
    };
    house.application.element("lights", troubled).await;
    house.wish("second", &json!({ "state": "ON" })).await;
    house.simulated("b", |lines| !lines.is_empty()).await;
    lamp.becomes(Mood::Obeys);
    lamp.told_until(|told| told.iter().any(|told| told.carried_out))
        .await;
    assert_eq!(lamp.carried_out(), [json!({ "state": "ON" })]);
    house.stop().await;
}

#[tokio::test]
async fn what_a_device_refuses_is_given_up_and_kept_for_people() {
    let lamp = HttpDevice::start().await;
    let house = House::start(&lamps(&http(&lamp, ""), "")).await;
    lamp.becomes(Mood::Refuses);
    house.wish("first", &json!({ "state": "ON" })).await;
    let buried = |lights: &ElementStatus| {
        let report = lights.report.as_ref();
        report.is_some_and(|report| report.dead_letters == 1 && report.unacknowledged == 0)
    };
    house.application.element("lights", buried).await;
    assert_eq!(lamp.told().len(), 1);
    house.stop().await;
}

#[tokio::test]
async fn a_lamp_over_http_that_dies_is_noticed_and_a_simulated_one_takes_over() {
    let lamp = HttpDevice::start().await;
    let probed =
        "liveness = { probe = { every = \"500ms\", within = \"500ms\" }, debounce = \"500ms\" }";
    // What a substitute shows when it is asked would count as something that happened.
    let unheard =
        lamps(&http(&lamp, probed), "").replace("receive = [ { input = \"Shows\" } ]\n", "");
    let house = House::start(&unheard).await;
    house
        .appliance("a", |a| a.state == ApplianceState::Alive)
        .await;
    let on = json!({ "state": "ON", "brightness": 127 });
    house.wish("first", &on).await;
    lamp.told_until(|told| !told.is_empty()).await;
    lamp.becomes(Mood::Dead);
    let a = house.appliance("a", |a| a.replaced_by.is_some()).await;
    assert_eq!(a.replaced_by.unwrap().as_str(), "b");
    let lines = house.simulated("b", |lines| !lines.is_empty()).await;
    assert_eq!(json!(lines[0].command), on);
    house.stop().await;
}

#[tokio::test]
async fn a_simulated_lamp_survives_the_host_that_commands_it_and_is_shown_what_holds_once() {
    let lamp = HttpDevice::start().await;
    let house = House::start(&lamps(&http(&lamp, ""), "")).await;
    house.wish("second", &json!({ "state": "ON" })).await;
    house.simulated("b", |lines| lines.len() == 1).await;
    house.settled("lights").await;
    house.kill("lights").await;
    house.wish("second", &json!({ "brightness": 3 })).await;
    let lines = house.simulated("b", |lines| lines.len() >= 2).await;
    let commands: Vec<_> = lines.iter().map(|line| json!(line.command)).collect();
    let expected = [json!({ "state": "ON" }), json!({ "brightness": 3 })];
    assert_eq!(commands, expected);
    assert!(lines.iter().all(|line| line.carried_out && !line.fenced));
    assert!(lines[1].epoch > lines[0].epoch, "{lines:?}");
    // What is published on its `sense` topic is what it senses.
    house.says("b/sense", "{\"brightness\":200}").await;
    house.told("b", |report| report["brightness"] == 200).await;
    house.stop().await;
}

#[tokio::test]
async fn an_adapter_of_the_program_carries_out_and_one_that_panics_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lamp.json");
    let third = format!(
        "api = \"program\"\nadapter = \"file-lamp\"\naddress = \"{}\"",
        path.display()
    );
    let lamp = HttpDevice::start().await;
    let house = House::start(&lamps(&http(&lamp, ""), &third)).await;
    house.wish("third", &json!({ "state": "ON" })).await;
    let shown = house.file(&path, |shown| shown["state"] == "ON").await;
    assert_eq!(shown["told"], 1);
    // Nobody knows what a panic leaves behind. What sets a state is tried again until it is overridden.
    house.wish("third", &json!({ "state": "PANIC" })).await;
    let troubled = |lights: &ElementStatus| {
        let report = lights.report.as_ref();
        let trouble = report.and_then(|report| report.trouble.as_deref());
        trouble.is_some_and(|trouble| trouble.contains("its adapter"))
    };
    let lights = house.application.element("lights", troubled).await;
    assert_eq!(lights.restarts, 0, "the element goes on");
    house.wish("third", &json!({ "state": "OFF" })).await;
    let shown = house.file(&path, |shown| shown["state"] == "OFF").await;
    assert_eq!(shown["told"], 2);
    house.stop().await;
}

fn http(lamp: &HttpDevice, more: &str) -> String {
    let address = lamp.address();
    format!("api = \"http\"\naddress = \"{address}\"\nreport_period = \"50ms\"\n{more}")
}
