//! The cells of Figure 4 (paper, 4.2.1), each with a real host that is killed in it.
//!
//! The relay passes on what one device says; the collector keeps it, with what another device says to it
//! directly, and commands two devices for each. So its host holds, of one storage, the cell of messages
//! to an element and the cell of messages to an appliance.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

mod house;

use lamplighter_tests::application::is_running;

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
