//! The cells of Figure 4 (paper, 4.2.1), each with a real host that is killed in it.
//!
//! The relay passes on what one device says; the collector keeps it, with what another device says to it
//! directly, and commands two devices for each. So its host holds, of one storage, the cell of messages
//! to an element and the cell of messages to an appliance. In another application a nurse calls a pump,
//! which is the cell of calls to an element.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

mod clinic;
mod house;

use lamplighter_tests::application::is_running;

use self::clinic::Clinic;
use self::house::{House, Storage};

#[tokio::test]
async fn cell_2_persistent_messages_to_an_element_are_delivered_from_the_local_log_and_recovered() {
    let house = House::start(Storage::Persistent).await;
    house.say(1..=20).await;
    assert!(
        house.has_local_log("collector"),
        "it is saved optimistically"
    );
    house.kill("collector").await;
    house.say(21..=40).await;
    house.kill("relay").await;
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
        !house.has_local_log("collector"),
        "it is saved pessimistically"
    );
    house.kill("collector").await;
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

/// The host of the callee is killed in the middle of a call, then both hosts, then that of the caller
/// before it has taken an answer that is logged.
async fn calls_survive_kills(storage: Storage) {
    let clinic = Clinic::start(storage).await;
    clinic.pains(1..=5).await;
    clinic.all_is_given_and_answered_once(5).await;
    let is_optimistic = matches!(storage, Storage::Persistent);
    assert_eq!(clinic.has_local_log("pump"), is_optimistic);
    let gate = clinic.close("pump");
    clinic.pains(6..=10).await;
    let held = clinic.held(&gate).await;
    clinic.pains(11..=15).await;
    clinic.calls_wait(5).await;
    clinic.kill("pump").await;
    drop((held, gate));
    clinic.all_is_given_and_answered_once(15).await;
    let gate = clinic.close("pump");
    clinic.pains(16..=20).await;
    let held = clinic.held(&gate).await;
    clinic.pains(21..=25).await;
    clinic.calls_wait(5).await;
    clinic.kill("nurse").await;
    clinic.kill("pump").await;
    drop((held, gate));
    clinic.all_is_given_and_answered_once(25).await;
    let gate = clinic.close("nurse");
    clinic.pains(26..=35).await;
    let held = clinic.held(&gate).await;
    clinic.kill("nurse").await;
    drop((held, gate));
    clinic.all_is_given_and_answered_once(35).await;
    clinic.stop().await;
}

/// What must not be repeated is not, and every command that may be told apart arrives.
async fn commands_survive_a_kill(storage: Storage) {
    let house = House::start(storage).await;
    house.say(1..=20).await;
    house.kill("collector").await;
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
