//! Calls of appliances: each ends once, with the reply or with what is truly known.

use super::world::{SECOND, actuated, doses, house};
use super::*;
use crate::model::Value;
use crate::state_saving::{CALLS_FROM, CallId, CallOutcome, CallWish};

fn calling_house() -> CellSettings {
    let link = |name: &str| DeviceCallLink {
        port: name.into(),
        link: name.into(),
        reply_prefix: vec![0x81],
        within: Duration::from_secs(5),
    };
    CellSettings {
        device_calls: vec![link("door"), link("pump")],
        ..house()
    }
}

fn at_home() -> Told {
    let mut told = Told {
        cell: Cell::new(calling_house()),
        effects: vec![],
    };
    told.tell(at(0), restored(vec![]));
    told.tell(at(0), Input::Connected);
    told
}

fn calls(port: &str, name: &str, value: Value) -> Handled {
    Handled {
        calls: vec![CallWish::Call {
            port: port.into(),
            within: None,
            payload: vec![],
            properties: [(name.into(), value)].into(),
        }],
        ..Handled::default()
    }
}

fn locks(word: &str) -> Handled {
    calls("door", "lock", Value::Text(word.into()))
}

fn lock(word: &str) -> Properties {
    [("lock".into(), Value::Text(word.into()))].into()
}

/// The place of the call that the handler of record `index` made.
fn called(index: u64) -> Position {
    Position::new(1, index, CALLS_FROM)
}

fn device(word: DeviceWord) -> Input {
    Input::Device(word)
}

fn answered(told: &Told, link: &str, position: Position, shown: Properties) -> Input {
    device(DeviceWord::Answered {
        link: link.into(),
        position,
        sending: sending(told, link),
        shown,
    })
}

/// The command in flight did not reach its device.
fn unreached(told: &Told, link: &str) -> Input {
    device(DeviceWord::Unreached {
        link: link.into(),
        sending: sending(told, link),
        cause: "it is off".into(),
    })
}

/// Which sending is in flight.
fn sending(told: &Told, link: &str) -> u64 {
    told.cell.commands[link].sending()
}

fn reported(link: &str, shown: Properties) -> Input {
    let link = link.into();
    device(DeviceWord::Reported { link, shown })
}

/// What handlers are answered by these effects.
#[derive(Debug, PartialEq)]
enum Reply {
    Shown(CallId, Properties),
    So(CallId, CallOutcome),
}

fn replies(effects: &[Effect]) -> Vec<Reply> {
    let reply = |effect: &Effect| {
        let Effect::Handle(task) = effect else {
            return None;
        };
        match &task.input {
            TaskInput::Shown { call, shown, .. } => Some(Reply::Shown(*call, shown.clone())),
            TaskInput::Answer { call, outcome, .. } => Some(Reply::So(*call, outcome.clone())),
            TaskInput::Event { .. }
            | TaskInput::Timer { .. }
            | TaskInput::Call { .. }
            | TaskInput::Reconfigured { .. } => None,
        }
    };
    effects.iter().filter_map(reply).collect()
}

fn shown(index: u64, shown: Properties) -> Reply {
    Reply::Shown(CallId::at(called(index)), shown)
}

fn so(index: u64, outcome: CallOutcome) -> Reply {
    Reply::So(CallId::at(called(index)), outcome)
}

/// What the handler is offered once all that is on its way is in the log.
fn offered(told: &mut Told, now: Now) -> Vec<Reply> {
    replies(&told.logged(now))
}

#[test]
fn a_call_is_a_command_and_its_reply_is_logged_before_the_caller_has_it() {
    let mut told = at_home();
    let effects = told.event(at(0), 1, locks("LOCK"));
    assert_eq!(actuated(&effects), [("door".into(), lock("LOCK"))]);
    let word = answered(&told, "door", called(1), lock("LOCK"));
    let effects = told.tell(at(1), word);
    let call = CallId::at(called(1));
    let logged: Vec<Record> = effects
        .iter()
        .filter_map(|effect| {
            let Effect::Append { records, .. } = effect else {
                return None;
            };
            Some(records.clone())
        })
        .flatten()
        .collect();
    let done = Record::Done(vec![Settled {
        link: "door".into(),
        lane: Lane::Merged,
        position: called(1),
        handed_over: 0,
    }]);
    let answer = Record::Answered {
        call,
        shown: lock("LOCK"),
    };
    assert_eq!(logged, [done, answer]);
    assert_eq!(offered(&mut told, at(2)), [shown(1, lock("LOCK"))]);
    // The time-out of a call that was answered says nothing.
    let index = told.cell.log.head;
    let handled = Handled::default();
    told.tell(at(3), Input::Handled { index, handled });
    let effects = told.wake(at(60 * SECOND));
    assert!(
        !effects.iter().any(|it| matches!(it, Effect::Append { .. })),
        "{effects:?}"
    );
}

#[test]
fn over_a_broker_the_devices_own_report_of_what_was_asked_is_the_reply_and_no_other() {
    let mut told = at_home();
    told.event(at(0), 1, locks("LOCK"));
    let settled = Input::Settled {
        link: "door".into(),
        position: called(1),
        sending: sending(&told, "door"),
    };
    told.tell(at(1), settled);
    told.logged(at(1));
    // The first report after a command is often the old state.
    told.tell(at(2), reported("door", lock("UNLOCK")));
    assert_eq!(offered(&mut told, at(2)), []);
    told.tell(at(3), reported("door", lock("LOCK")));
    assert_eq!(offered(&mut told, at(3)), [shown(1, lock("LOCK"))]);
}

#[test]
fn a_report_before_the_command_left_answers_nothing() {
    let mut told = at_home();
    told.event(at(0), 1, locks("LOCK"));
    let word = unreached(&told, "door");
    told.tell(at(1), word);
    told.tell(at(2), reported("door", lock("LOCK")));
    assert_eq!(offered(&mut told, at(2)), []);
    let effects = told.wake(at(SECOND)).to_vec();
    assert_eq!(actuated(&effects), [("door".into(), lock("LOCK"))]);
}

#[test]
fn a_call_that_something_newer_took_the_place_of_ends_as_that() {
    let mut told = at_home();
    told.event(at(0), 1, locks("LOCK"));
    let word = unreached(&told, "door");
    told.tell(at(1), word);
    told.event(at(2), 2, locks("UNLOCK"));
    assert_eq!(offered(&mut told, at(3)), [so(1, CallOutcome::Overridden)]);
}

#[test]
fn calls_that_are_merged_into_one_command_are_answered_by_one_reply() {
    let mut settings = calling_house();
    let lamp = DeviceModel {
        answers: true,
        ..DeviceModel::unknown(ActuationClass::Set)
    };
    settings.devices.insert(id("door"), lamp);
    let mut told = Told {
        cell: Cell::new(settings),
        effects: vec![],
    };
    told.tell(at(0), restored(vec![]));
    told.tell(at(0), Input::Connected);
    told.event(at(0), 1, locks("LOCK"));
    let word = unreached(&told, "door");
    told.tell(at(1), word);
    told.event(at(2), 2, calls("door", "light", Value::Integer(1)));
    let effects = told.wake(at(SECOND)).to_vec();
    assert_eq!(actuated(&effects).len(), 1);
    let both: Properties = [
        ("lock".into(), Value::Text("LOCK".into())),
        ("light".into(), Value::Integer(1)),
    ]
    .into();
    assert_eq!(actuated(&effects)[0].1, both);
    let word = answered(&told, "door", called(2), both.clone());
    told.tell(at(SECOND), word);
    assert_eq!(offered(&mut told, at(SECOND)), [shown(1, both.clone())]);
    let index = told.cell.log.handled + 1;
    let handled = Handled::default();
    let effects = told
        .tell(at(SECOND), Input::Handled { index, handled })
        .to_vec();
    assert_eq!(replies(&effects), [shown(2, both)]);
}

#[test]
fn what_a_device_refuses_is_told_its_caller() {
    let mut told = at_home();
    told.event(at(0), 1, locks("LOCK"));
    let refused = DeviceWord::Refused {
        link: "door".into(),
        position: called(1),
        sending: sending(&told, "door"),
        reason: "jammed".into(),
    };
    told.tell(at(1), device(refused));
    let expected = so(1, CallOutcome::Refused("jammed".into()));
    assert_eq!(offered(&mut told, at(1)), [expected]);
}

#[test]
fn a_call_that_nobody_answers_in_time_ends_once_and_its_command_leaves_no_more() {
    let mut told = at_home();
    told.event(at(0), 1, locks("LOCK"));
    let word = unreached(&told, "door");
    told.tell(at(4 * SECOND), word);
    let effects = told.wake(at(6 * SECOND)).to_vec();
    assert_eq!(actuated(&effects), []);
    assert_eq!(
        offered(&mut told, at(6 * SECOND)),
        [so(1, CallOutcome::TimedOut)]
    );
    told.tell(at(7 * SECOND), reported("door", lock("LOCK")));
    assert_eq!(offered(&mut told, at(7 * SECOND)), []);
}

/// A call for a dose that was begun when the counter said 7, and then the process ended.
fn dose_in_flight() -> Told {
    let mut told = at_home();
    told.event(at(0), 1, calls("pump", "dose", Value::Integer(2)));
    let compared = Input::Compared {
        link: "pump".into(),
        question: 1,
        shown: Some(doses(7)),
    };
    told.tell(at(0), compared);
    let effects = told.logged(at(0));
    assert_eq!(actuated(&effects).len(), 1);
    told
}

#[test]
fn a_dose_that_was_called_for_at_a_crash_is_answered_by_the_counter_repeated_or_unknown() {
    let dose: Properties = [("dose".into(), Value::Integer(2))].into();
    let again = vec![("pump".to_owned(), dose)];
    let unknown = vec![so(1, CallOutcome::Unknown)];
    let cases = [
        (Some(doses(8)), vec![], vec![shown(1, doses(8))]),
        (Some(doses(7)), again, vec![]),
        (None, vec![], unknown),
    ];
    for (answer, sent, expected) in cases {
        let case = format!("{answer:?}");
        let mut told = restarted(&dose_in_flight(), at(2 * SECOND));
        let compared = Input::Compared {
            link: "pump".into(),
            question: 0,
            shown: answer,
        };
        let effects = told.tell(at(2 * SECOND), compared).to_vec();
        assert_eq!(actuated(&effects), sent, "{case}");
        assert_eq!(offered(&mut told, at(2 * SECOND)), expected, "{case}");
    }
}

#[test]
fn a_set_command_that_was_called_for_at_a_crash_is_told_again_and_answered_once() {
    let mut told = at_home();
    told.event(at(0), 1, locks("LOCK"));
    let mut told = restarted(&told, at(SECOND));
    let compared = Input::Compared {
        link: "door".into(),
        question: 0,
        shown: Some(lock("UNLOCK")),
    };
    let effects = told.tell(at(SECOND), compared).to_vec();
    assert_eq!(actuated(&effects), [("door".into(), lock("LOCK"))]);
    let word = answered(&told, "door", called(1), lock("LOCK"));
    told.tell(at(SECOND), word);
    assert_eq!(offered(&mut told, at(SECOND)), [shown(1, lock("LOCK"))]);
}

#[test]
fn a_reply_that_is_in_the_log_is_the_answer_of_every_replay() {
    let mut told = Told {
        cell: Cell::new(calling_house()),
        effects: vec![],
    };
    let answer = Record::Answered {
        call: CallId::at(called(1)),
        shown: lock("LOCK"),
    };
    let log = vec![batch(1, logged(1, 0, None)), batch(2, answer)];
    told.tell(at(0), restored(log));
    let handled = Input::Handled {
        index: 1,
        handled: locks("LOCK"),
    };
    let effects = told.tell(at(0), handled).to_vec();
    assert_eq!(replies(&effects), [shown(1, lock("LOCK"))]);
    assert_eq!(actuated(&effects), []);
}

/// The next process, after a checkpoint of all that this one handled.
fn restarted(old: &Told, now: Now) -> Told {
    let mut told = Told {
        cell: Cell::new(calling_house()),
        effects: vec![],
    };
    let commands = old.cell.commands.iter();
    let meta = Meta {
        lineage: 1,
        world: old.cell.world().clone(),
        commands: commands
            .map(|(link, commands)| (link.clone(), commands.saved()))
            .collect(),
        calls: old.cell.calling.open.clone(),
        ..Meta::default()
    };
    let checkpoint = old.cell.log.handled;
    told.tell(
        now,
        Input::Restored(Restored {
            checkpoint,
            head: checkpoint,
            meta,
            log: vec![],
            stable: checkpoint,
        }),
    );
    told.tell(now, Input::Connected);
    told
}
