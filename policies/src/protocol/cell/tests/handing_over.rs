//! What is on its way to an appliance, or was asked of it and still holds, when another takes its place.

use super::substituting::{actuated, properties};
use super::world::{asks, doses, house};
use super::*;
use crate::model::Value;
use crate::protocol::appliances::{Reconfiguration, Served};

fn by_other(place: &str, epoch: u64) -> Reconfiguration {
    Reconfiguration {
        epoch,
        served: [(id(place), Served::By(id("other")))].into(),
        ..Reconfiguration::default()
    }
}

/// A cell whose lamp is an appliance of this class.
fn with(class: ActuationClass) -> Told {
    let mut settings = settings();
    let device = DeviceModel::unknown(class);
    settings.devices.insert(id("lamp"), device);
    let mut told = Told {
        cell: Cell::new(settings),
        effects: vec![],
    };
    told.tell(at(0), restored(vec![]));
    told.tell(at(0), Input::Connected);
    told
}

/// It is commanded this at 1, takes it, and at `now` another takes its place: what that one is told.
fn told_other(class: ActuationClass, value: i64, ends: Option<i64>, now: i64) -> Vec<Properties> {
    let mut told = with(class);
    let valid_for = ends.map(|end| end - 1);
    let mut effects = told.event(
        at(1),
        1,
        asks("lamp", "state", Value::Integer(value), valid_for),
    );
    if class == ActuationClass::Irreversible {
        effects = told.logged(at(1));
    }
    assert_eq!(actuated(&effects), [properties(value)]);
    told.tell(at(1), settled("lamp", 1, 0));
    told.logged(at(1));
    told.tell(at(now), Input::Reconfigured(by_other("lamp", 4)));
    let effects = told.logged(at(now));
    actuated(&effects)
}

fn settled(link: &str, index: u64, sending: u64) -> Input {
    Input::Settled {
        link: link.into(),
        position: place(index),
        sending,
    }
}

#[test]
fn an_active_alarm_goes_on_at_the_substitute_and_one_that_ended_or_was_silenced_does_not() {
    use ActuationClass::Alarm;
    assert_eq!(told_other(Alarm, 1, None, 50), [properties(1)]);
    assert_eq!(told_other(Alarm, 1, Some(100), 50), [properties(1)]);
    assert_eq!(told_other(Alarm, 1, Some(100), 101), []);
    // Its safe state.
    assert_eq!(told_other(Alarm, 0, None, 50), []);
}

#[test]
fn what_a_device_knew_by_its_key_is_asked_of_the_substitute_as_long_as_its_author_said() {
    use ActuationClass::Keyed;
    assert_eq!(told_other(Keyed, 1, Some(100), 50), [properties(1)]);
    assert_eq!(told_other(Keyed, 1, Some(100), 101), []);
    assert_eq!(told_other(Keyed, 1, None, 50), []);
}

#[test]
fn what_must_not_be_repeated_and_was_carried_out_is_asked_of_no_substitute() {
    let told = told_other(ActuationClass::Irreversible, 1, Some(100), 50);
    assert_eq!(told, []);
}

#[test]
fn a_recovery_finds_in_the_log_what_the_substitute_was_asked_and_did_not_take() {
    let mut told = with(ActuationClass::Alarm);
    let alarm = || asks("lamp", "state", Value::Integer(1), None);
    let index = 1;
    told.tell(
        at(0),
        Input::Reconfigured(Reconfiguration {
            epoch: 1,
            ..Reconfiguration::default()
        }),
    );
    let log = vec![
        batch(1, logged(1, 0, None)),
        batch(2, done("lamp", Lane::Queued, 1)),
        batch(3, Record::Reconfigured(by_other("lamp", 4))),
    ];
    let mut again = with(ActuationClass::Alarm);
    again.cell = Cell::new(told.cell.settings.clone());
    again.tell(at(9), restored(log));
    let handled = alarm();
    again.tell(at(9), Input::Handled { index, handled });
    let handled = Handled::default();
    again.tell(at(9), Input::Handled { index: 3, handled });
    let effects = again.tell(at(9), Input::Connected);
    assert_eq!(actuated(effects), [properties(1)]);
}

#[test]
fn a_late_word_of_the_appliance_that_failed_settles_nothing_of_its_substitute() {
    let mut told = with(ActuationClass::Set);
    told.event(at(1), 1, asks("lamp", "state", Value::Integer(7), None));
    told.tell(at(2), Input::Reconfigured(by_other("lamp", 4)));
    let effects = told.logged(at(2));
    assert_eq!(actuated(&effects), [properties(7)]);
    assert_eq!(told.tell(at(3), settled("lamp", 1, 1)), []);
    let record = Record::Done(vec![Settled {
        link: "lamp".into(),
        lane: Lane::Merged,
        position: place(1),
        handed_over: 4,
    }]);
    let appended = Effect::Append {
        first: 3,
        records: vec![record],
    };
    let handled = Handled::default();
    told.tell(at(3), Input::Handled { index: 2, handled });
    assert_eq!(told.tell(at(4), settled("lamp", 1, 2)), [appended]);
}

#[test]
fn a_dose_begun_behind_a_reconfiguration_begins_anew_with_what_the_substitute_counts() {
    let mut settings = house();
    settings.places.insert(id("pump"), place_of("pump"));
    let mut told = Told {
        cell: Cell::new(settings),
        effects: vec![],
    };
    told.tell(at(0), restored(vec![]));
    told.tell(at(0), Input::Connected);
    told.event(at(1), 1, asks("pump", "dose", Value::Integer(2), None));
    told.tell(at(2), Input::Reconfigured(by_other("pump", 4)));
    // The pump that failed still says what it counted, and the beginning comes behind the decision.
    let answer = |question, count| Input::Compared {
        link: "pump".into(),
        question,
        shown: Some(doses(count)),
    };
    told.tell(at(2), answer(1, 7));
    told.tell(
        at(3),
        Input::Appended {
            last: 2,
            logged_at: WallClock(3),
        },
    );
    let handled = Handled::default();
    told.tell(at(3), Input::Handled { index: 2, handled });
    let effects = told.logged(at(3));
    let asked = |question| Effect::Compare {
        link: "pump".into(),
        question,
        properties: vec!["doses".into()],
    };
    assert_eq!(effects, [asked(2)]);
    assert_eq!(told.tell(at(4), answer(1, 7)), []);
    let begun = Record::Begun(vec![Begun {
        link: "pump".into(),
        position: place(1),
        attempt: 0,
        counter: Some(Value::Integer(3)),
        handed_over: 4,
    }]);
    let records = vec![begun];
    let appended = Effect::Append { first: 4, records };
    assert_eq!(told.tell(at(5), answer(2, 3)), [appended]);
    let effects = told.logged(at(5));
    let dose = [("dose".into(), Value::Integer(2))].into();
    assert_eq!(actuated(&effects), [dose]);
}

#[test]
fn what_only_its_device_knows_by_a_key_and_counts_by_itself_waits_for_a_persons_word() {
    let mut settings = house();
    let pump = settings.devices.get_mut(&id("pump")).unwrap();
    pump.evidence = None;
    let dose = pump.properties.get_mut("dose").unwrap();
    dose.class = ActuationClass::Keyed;
    dose.accumulates = true;
    settings.places.insert(id("pump"), place_of("pump"));
    let mut told = Told {
        cell: Cell::new(settings),
        effects: vec![],
    };
    told.tell(at(0), restored(vec![]));
    told.tell(at(0), Input::Connected);
    told.event(at(1), 1, asks("pump", "dose", Value::Integer(2), Some(100)));
    told.tell(at(2), Input::Reconfigured(by_other("pump", 4)));
    let effects = told.logged(at(2));
    assert_eq!(actuated(&effects), []);
    assert_eq!(told.cell.unknown_count(), 1);
}
