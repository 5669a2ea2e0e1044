//! The cells of Figure 4 (paper, 4.2.1), each with a real host that is killed in it.
//!
//! The relay passes on what one device says; the collector keeps it, with what another device says to it
//! directly, and commands two devices for each. So its host holds, of one storage, the cell of messages
//! to an element and the cell of messages to an appliance. In another application a nurse calls a pump,
//! which is the cell of calls to an element.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

mod caller;
mod clinic;
mod house;

use lamplighter_tests::application::is_running;

use lamplighter_tests::http_device::Mood;
use serde_json::json;

use self::caller::Caller;
use self::clinic::Clinic;
use self::house::{House, Storage};

#[tokio::test]
async fn cell_2_persistent_messages_to_an_element_are_delivered_from_the_local_log_and_recovered() {
    let house = House::start(Storage::Persistent).await;
    house.say(1..=20).await;
    assert!(
        house.application.has_local_log("pc", "collector"),
        "it is saved optimistically"
    );
    house.application.kill_host_of("collector").await;
    house.say(21..=40).await;
    house.application.kill_host_of("relay").await;
    house.say(41..=60).await;
    let told = house.told(60).await;
    let all: Vec<u32> = (1..=60).collect();
    assert_eq!((told.forwarded, told.direct), (all.clone(), all));
    let collector = house.application.element("collector", is_running).await;
    assert_eq!(collector.report.map(|report| report.losses), Some(vec![]));
    house.stop().await;
}

#[tokio::test]
async fn cell_4_persistent_messages_to_an_appliance_leave_when_they_are_stable_and_once() {
    commands_survive_a_kill(Storage::Persistent).await;
}

#[tokio::test]
async fn cell_6_volatile_messages_to_an_element_are_stable_before_they_are_delivered() {
    let house = House::start(Storage::Volatile).await;
    house.say(1..=20).await;
    assert!(
        !house.application.has_local_log("pc", "collector"),
        "it is saved pessimistically"
    );
    house.application.kill_host_of("collector").await;
    house.say(21..=40).await;
    let told = house.told(40).await;
    let all: Vec<u32> = (1..=40).collect();
    assert_eq!((told.forwarded, told.direct), (all.clone(), all));
    house.stop().await;
}

#[tokio::test]
async fn cell_8_volatile_messages_to_an_appliance_are_logged_at_emission_and_sent_once() {
    commands_survive_a_kill(Storage::Volatile).await;
}

#[tokio::test]
async fn cell_1_persistent_calls_are_delivered_from_the_local_log_and_carried_out_and_answered_once()
 {
    calls_survive_kills(Storage::Persistent).await;
}

#[tokio::test]
async fn cell_5_volatile_calls_are_stable_before_they_are_carried_out_and_answered_once() {
    calls_survive_kills(Storage::Volatile).await;
}

#[tokio::test]
async fn cell_3_persistent_calls_of_appliances_are_logged_at_both_ends_and_answered_once() {
    calls_of_appliances_survive_kills(Storage::Persistent).await;
}

#[tokio::test]
async fn cell_7_volatile_calls_of_appliances_are_logged_at_both_ends_and_answered_once() {
    calls_of_appliances_survive_kills(Storage::Volatile).await;
}

/// The host of the caller is killed while a lamp does not take a command, after a pump has given a dose
/// and before it says so, and before the caller has taken a reply that is logged.
async fn calls_of_appliances_survive_kills(storage: Storage) {
    let caller = Caller::start(storage).await;
    caller.ask(1, "lamp", json!({ "state": "ON" })).await;
    caller.ask(2, "door", json!({ "state": "OFF" })).await;
    let first = "state \"ON\" count 1";
    let door = "state \"OFF\" count null";
    caller.ask(3, "lamp", json!({ "dimmed": 1 })).await;
    let dimmed = "state \"ON\" count 2";
    caller.lamp.told_until(|told| told.len() >= 2).await;
    let is_optimistic = matches!(storage, Storage::Persistent);
    assert_eq!(caller.has_local_log(), is_optimistic);

    // What sets a state is told again, under the id that it has, and answered once.
    caller.lamp.becomes(Mood::Busy);
    caller.ask(4, "lamp", json!({ "state": "OFF" })).await;
    caller.lamp.told_until(|told| told.len() >= 3).await;
    caller.kill().await;
    caller.lamp.becomes(Mood::Obeys);
    let is_off = |told: &lamplighter_tests::http_device::Told| {
        told.carried_out && told.command["state"] == "OFF"
    };
    let told = caller.lamp.told_until(|told| told.iter().any(is_off)).await;
    let ids: Vec<&str> = told[2..].iter().map(|told| told.id.as_str()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{told:?}");
    let off = "state \"OFF\" count 3";

    // A dose that was given is not given again: the pump's own count answers for it.
    caller.is_back(1).await;
    caller.pump.becomes(Mood::Mute);
    caller.ask(5, "pump", json!({ "dose": 2 })).await;
    caller.pump.told_until(|told| told.len() == 1).await;
    caller.kill().await;
    caller.pump.becomes(Mood::Obeys);
    let given = "state null count 1";

    // A reply that is in the log is the answer, whatever the lamp shows by now.
    caller.is_back(2).await;
    let mut expected = vec![(1, first), (2, door), (3, dimmed), (4, off), (5, given)];
    caller.answered_in_any_order(&mut expected).await;
    let gate = caller.close();
    caller.ask(6, "lamp", json!({ "state": "ON" })).await;
    let held = caller.held(&gate).await;
    caller.kill().await;
    caller.lamp.by_hand("count", json!(70));
    caller.open();
    drop((held, gate));
    let on = "state \"ON\" count 4";
    expected.push((6, on));
    caller.answered_in_any_order(&mut expected).await;
    assert_eq!(caller.pump.carried_out(), [json!({ "dose": 2 })]);
    caller.stop().await;
}

/// The host of the callee is killed in the middle of a call, then both hosts, then that of the caller
/// before it has taken an answer that is logged.
async fn calls_survive_kills(storage: Storage) {
    let clinic = Clinic::start(storage).await;
    clinic.pains(1..=5).await;
    clinic.all_is_given_and_answered_once(5).await;
    let is_optimistic = matches!(storage, Storage::Persistent);
    assert_eq!(
        clinic.application.has_local_log("pc", "pump"),
        is_optimistic
    );
    let gate = clinic.close("pump");
    clinic.pains(6..=10).await;
    let held = clinic.held(&gate).await;
    clinic.pains(11..=15).await;
    clinic.calls_wait(5).await;
    clinic.application.kill_host_of("pump").await;
    drop((held, gate));
    clinic.all_is_given_and_answered_once(15).await;
    let gate = clinic.close("pump");
    clinic.pains(16..=20).await;
    let held = clinic.held(&gate).await;
    clinic.pains(21..=25).await;
    clinic.calls_wait(5).await;
    clinic.application.kill_host_of("nurse").await;
    clinic.application.kill_host_of("pump").await;
    drop((held, gate));
    clinic.all_is_given_and_answered_once(25).await;
    let gate = clinic.close("nurse");
    clinic.pains(26..=35).await;
    let held = clinic.held(&gate).await;
    clinic.application.kill_host_of("nurse").await;
    drop((held, gate));
    clinic.all_is_given_and_answered_once(35).await;
    clinic.stop().await;
}

/// What must not be repeated is not, and every command that may be told apart arrives.
async fn commands_survive_a_kill(storage: Storage) {
    let house = House::start(storage).await;
    house.say(1..=20).await;
    house.application.kill_host_of("collector").await;
    house.say(21..=40).await;
    house.told(40).await;
    house.all_commands_are_settled().await;
    let commands = house.commands();
    let mut once = commands.lock.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), commands.lock.len(), "{:?}", commands.lock);
    // Each kill may leave one in doubt, which is not repeated.
    assert!(once.len() >= 39, "{once:?}");
    assert_eq!(commands.keyed.len(), 40, "every keyed command arrives");
    house.stop().await;
}
