//! The worked examples of recovery towards the physical world, row by row: what happened before the
//! failure at 100 s and during the repair, which ends at 104 s, and what a device physically did then.

#[path = "worked_examples/device.rs"]
mod device;
#[path = "worked_examples/home.rs"]
mod home;

use lamplighter_policies::protocol::cell::Explanation;
use lamplighter_policies::state_saving::Verdict;

use device::{Device, number, word};
use home::Home;

/// Nothing is heard of it and it can be asked what it shows.
fn lamp() -> Device {
    Device::of("lamp", "state", word("OFF"))
}

fn door() -> Device {
    Device::of("door", "lock", word("LOCK")).that_goes_back_to(word("LOCK"))
}

fn pump() -> Device {
    Device::of("pump", "dose", number(0)).that_counts("doses")
}

#[test]
fn a_lamp_that_lost_its_state_is_told_the_final_one_once_and_does_not_blink() {
    let mut home = Home::with([lamp()]);
    home.at(90).ask("lamp", word("ON"), Some(3_600));
    home.at(95).ask("lamp", word("OFF"), Some(3_600));
    home.at(99).ask("lamp", word("ON"), Some(3_600));
    home.fails_at(100);
    home.device("lamp").shows_by_itself(word("OFF"));
    home.recovers_at(104);
    assert_eq!(home.device("lamp").changes_since(100), [(104, word("ON"))]);
    assert_eq!(home.device("lamp").commands_since(100), 1);
}

#[test]
fn a_lamp_that_shows_it_already_is_told_nothing() {
    let mut home = Home::with([lamp()]);
    home.at(90).ask("lamp", word("ON"), Some(3_600));
    home.at(95).ask("lamp", word("OFF"), Some(3_600));
    home.at(99).ask("lamp", word("ON"), Some(3_600));
    home.fails_at(100);
    home.recovers_at(104);
    assert_eq!(home.device("lamp").commands_since(100), 0);
}

#[test]
fn a_lamp_that_cannot_be_asked_is_told_the_final_state_once_whatever_it_was_told_before() {
    let mut home = Home::with([lamp().that_answers_nobody()]);
    home.device("lamp").out_of_reach = true;
    home.at(90).ask("lamp", word("ON"), Some(3_600));
    home.at(95).ask("lamp", word("OFF"), Some(3_600));
    home.at(99).ask("lamp", word("ON"), Some(3_600));
    home.fails_at(100);
    home.device("lamp").out_of_reach = false;
    home.recovers_at(104);
    assert_eq!(home.device("lamp").changes_since(0), [(104, word("ON"))]);
    assert_eq!(home.device("lamp").commands_since(0), 1);
}

#[test]
fn what_was_asked_of_a_lamp_and_has_expired_leaves_it_as_it_is() {
    let mut home = Home::with([lamp()]);
    home.at(20).ask("lamp", word("OFF"), Some(60));
    home.fails_at(100);
    home.device("lamp").shows_by_itself(word("ON"));
    home.recovers_at(104);
    assert_eq!(home.device("lamp").commands_since(100), 0);
    let [expired] = &home.explanation().flows["lamp"].expired[..] else {
        panic!("one event: {:?}", home.explanation())
    };
    assert_eq!(expired.value, word("OFF"));
}

#[test]
fn a_door_whose_unlocking_ended_during_the_repair_is_locked_once() {
    let mut home = Home::with([door()]);
    home.at(92).ask("door", word("UNLOCK"), Some(10));
    home.fails_at(100);
    home.recovers_at(104);
    home.until(300);
    assert_eq!(
        home.device("door").changes_since(100),
        [(104, word("LOCK"))]
    );
    assert_eq!(home.device("door").commands_since(100), 1);
}

#[test]
fn a_door_that_somebody_locked_meanwhile_is_told_nothing_when_its_unlocking_ended() {
    let mut home = Home::with([door()]);
    home.at(92).ask("door", word("UNLOCK"), Some(10));
    home.fails_at(100);
    home.device("door").shows_by_itself(word("LOCK"));
    home.recovers_at(104);
    home.until(300);
    assert_eq!(home.device("door").commands_since(100), 0);
}

#[test]
fn a_lock_cancels_the_unlocking_before_it_and_its_locking_again() {
    let mut home = Home::with([door()]);
    home.at(96).ask("door", word("UNLOCK"), Some(10));
    home.at(98).ask("door", word("LOCK"), None);
    home.fails_at(100);
    home.recovers_at(104);
    home.until(300);
    assert_eq!(home.device("door").commands_since(100), 0, "it is locked");

    let mut home = Home::with([door()]);
    home.at(96).ask("door", word("UNLOCK"), Some(10));
    home.device("door").out_of_reach = true;
    home.at(98).ask("door", word("LOCK"), None);
    home.fails_at(100);
    home.device("door").out_of_reach = false;
    home.recovers_at(104);
    home.until(300);
    let locked = [(104, word("LOCK"))];
    assert_eq!(
        home.device("door").changes_since(100),
        locked,
        "it was open"
    );
}

#[test]
fn a_door_unlocked_by_hand_during_the_repair_stays_so_until_that_ends() {
    let mut home = Home::with([door().that_is_heard()]);
    home.at(97).ask("door", word("LOCK"), None);
    home.fails_at(100);
    home.turned_by_hand(102, "door", word("UNLOCK"), Some(10));
    home.recovers_at(104);
    assert_eq!(home.device("door").commands_since(100), 0);
    home.until(111);
    assert_eq!(home.device("door").commands_since(100), 0);
    home.until(300);
    let changes = home.device("door").changes_since(100);
    assert_eq!(changes, [(102, word("UNLOCK")), (112, word("LOCK"))]);
    assert_eq!(home.device("door").commands_since(100), 1);
}

#[test]
fn a_door_that_cannot_be_asked_and_was_unlocked_by_hand_is_not_locked_either() {
    let mut home = Home::with([door().that_is_heard().that_answers_nobody()]);
    home.at(97).ask("door", word("LOCK"), None);
    home.fails_at(100);
    home.turned_by_hand(102, "door", word("UNLOCK"), Some(10));
    home.recovers_at(104);
    home.until(111);
    assert_eq!(home.device("door").commands_since(100), 0);
    home.until(300);
    assert_eq!(home.device("door").commands_since(100), 1);
}

/// The heater is on while it is colder than the setpoint; a temperature holds for a second.
fn heated() -> Home {
    Home::with([
        Device::of("dial", "setpoint", number(0)).that_is_heard(),
        Device::of("thermometer", "temperature", number(0)).that_is_heard(),
        Device::of("heater", "state", word("OFF")),
    ])
}

#[test]
fn a_thermostat_heats_by_the_setpoint_that_holds_and_the_newest_temperature() {
    let mut home = heated();
    home.turned_by_hand(50, "dial", number(220), None);
    home.turned_by_hand(99, "thermometer", number(214), Some(1));
    home.fails_at(100);
    home.device("heater").shows_by_itself(word("OFF"));
    home.turned_by_hand(103, "thermometer", number(211), Some(2));
    home.recovers_at(104);
    assert_eq!(
        home.device("heater").changes_since(100),
        [(104, word("ON"))]
    );
    assert_eq!(home.device("heater").commands_since(100), 1);
}

#[test]
fn a_thermostat_without_a_temperature_does_nothing_until_it_has_one() {
    let mut home = heated();
    home.turned_by_hand(50, "dial", number(220), None);
    home.turned_by_hand(99, "thermometer", number(214), Some(1));
    home.fails_at(100);
    home.device("heater").shows_by_itself(word("OFF"));
    home.recovers_at(104);
    home.until(110);
    assert_eq!(home.device("heater").commands_since(100), 0);
    home.turned_by_hand(110, "thermometer", number(212), Some(1));
    assert_eq!(
        home.device("heater").changes_since(100),
        [(110, word("ON"))]
    );
}

/// What became of a dose of 2 mg that was on its way when the element failed.
struct Dosed {
    given: usize,
    of_unknown_fate: usize,
    total_mg: i64,
}

fn dosed(pump: Device, reached: bool, valid_for: u64) -> (Home, Dosed) {
    let mut home = Home::with([pump]);
    home.at(30).ask("pump", number(3), Some(5));
    home.at(99)
        .fails_while_asking("pump", number(2), valid_for, reached);
    home.recovers_at(104);
    home.until(300);
    let pump = home.device("pump");
    let dosed = Dosed {
        given: pump.times(number(2)),
        total_mg: pump.total(),
        of_unknown_fate: home.unknown(),
    };
    (home, dosed)
}

#[test]
fn a_dose_whose_counter_advanced_is_not_repeated_and_counts() {
    let (mut home, dosed) = dosed(pump(), true, 10);
    assert_eq!(
        (dosed.given, dosed.total_mg, dosed.of_unknown_fate),
        (1, 5, 0)
    );
    assert_eq!(home.device("pump").commands_since(100), 0);
    let doubtful: Vec<_> = home.explanation().flows["pump"]
        .doubtful
        .values()
        .cloned()
        .collect();
    assert_eq!(doubtful, ["the device shows that it was carried out"]);
}

#[test]
fn a_dose_whose_counter_did_not_advance_is_given_once_while_it_is_valid_under_its_own_id() {
    let (mut home, dosed) = dosed(pump(), false, 10);
    assert_eq!(
        (dosed.given, dosed.total_mg, dosed.of_unknown_fate),
        (1, 5, 0)
    );
    let ids = home.device("pump").ids();
    let asked = home.asked_for("pump");
    assert_eq!(ids, asked);
}

#[test]
fn a_dose_that_was_not_given_in_time_is_not_given_late() {
    let (_, dosed) = dosed(pump(), false, 4);
    assert_eq!(
        (dosed.given, dosed.total_mg, dosed.of_unknown_fate),
        (0, 3, 0)
    );
}

#[test]
fn a_dose_of_which_the_pump_says_nothing_is_for_a_person_to_judge() {
    for reached in [true, false] {
        let (mut home, dosed) = dosed(pump().that_falls_silent_at(100), reached, 10);
        assert_eq!(
            (dosed.given, dosed.of_unknown_fate),
            (usize::from(reached), 1)
        );
        assert_eq!(home.device("pump").commands_since(100), 0);
        home.fails_at(400);
        home.recovers_at(404);
        assert_eq!(home.unknown(), 1, "through every recovery");
        home.judge("pump", Verdict::CarriedOut);
        assert_eq!(
            (home.unknown(), home.device("pump").commands_since(100)),
            (0, 0)
        );
    }
}

#[test]
fn a_dose_that_a_person_asks_for_again_is_given_once_more() {
    let (mut home, _) = dosed(pump().that_falls_silent_at(100), false, 10);
    home.judge("pump", Verdict::Redo);
    home.until(500);
    assert_eq!(home.device("pump").times(number(2)), 1);
    home.fails_at(600);
    home.recovers_at(604);
    assert_eq!(home.device("pump").times(number(2)), 1);
    assert_eq!(home.unknown(), 0);
}

#[test]
fn a_page_that_was_printed_is_not_printed_again() {
    let printer = Device::of("printer", "print", number(0)).that_counts("pages");
    let mut home = Home::with([printer]);
    home.at(98).ask("printer", number(7), Some(600));
    home.fails_at(100);
    home.recovers_at(104);
    home.until(300);
    assert_eq!(home.device("printer").times(number(7)), 1);
    assert_eq!(home.device("printer").commands_since(100), 0);
}

#[test]
fn a_recovery_is_explained_and_the_next_checkpoint_keeps_the_explanation() {
    let mut home = Home::with([lamp()]);
    home.at(90).ask("lamp", word("OFF"), Some(3_600));
    home.at(99).ask("lamp", word("ON"), Some(3_600));
    home.fails_at(100);
    home.device("lamp").shows_by_itself(word("OFF"));
    home.recovers_at(104);
    let explanation = home.explanation();
    let lamp = &explanation.flows["lamp"];
    assert_eq!(lamp.why, "it shows something else");
    assert_eq!(
        lamp.command,
        Some([("state".to_owned(), word("ON"))].into())
    );
    assert_eq!(lamp.shown, Some([("state".to_owned(), word("OFF"))].into()));
    let [overridden] = &lamp.overridden[..] else {
        panic!("one event overrode another: {lamp:?}")
    };
    assert_eq!(
        (&overridden.value, overridden.by.as_str()),
        (&word("OFF"), "element/1.3.0")
    );
    home.until(200);
    let saved: Option<Explanation> = home.saved_explanation();
    assert_eq!(saved, Some(explanation));
}
