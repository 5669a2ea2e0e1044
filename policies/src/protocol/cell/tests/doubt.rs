//! Commands that must not be repeated, when nobody knows whether they were carried out.

use super::world::{SECOND, actuated, asks, doses, home, recovered_from};
use super::*;
use crate::model::Value;
use crate::state_saving::{Judged, Verdict};

/// A dose that was begun when the counter said 7, and then the process ended.
fn dose_in_flight(valid_for: i64) -> Told {
    let mut told = home();
    let effects = told.event(
        at(0),
        1,
        asks("pump", "dose", Value::Integer(2), Some(valid_for)),
    );
    let asked = Effect::Compare {
        link: "pump".into(),
        properties: vec!["doses".into()],
        question: 1,
    };
    assert_eq!(effects, [asked]);
    told.tell(
        at(0),
        Input::Compared {
            link: "pump".into(),
            shown: Some(doses(7)),
            question: 0,
        },
    );
    let effects = told.logged(at(0));
    let dose = [("dose".into(), Value::Integer(2))].into();
    assert_eq!(actuated(&effects), [("pump".into(), dose)]);
    told
}

#[test]
fn a_dose_in_flight_is_settled_by_the_counter_repeated_if_it_was_not_given_and_else_unknown() {
    let dose: Properties = [("dose".into(), Value::Integer(2))].into();
    let cases = [
        (Some(doses(8)), 5 * SECOND, vec![], 0),
        (
            Some(doses(7)),
            5 * SECOND,
            vec![("pump".to_owned(), dose)],
            0,
        ),
        (Some(doses(7)), SECOND, vec![], 0),
        (Some(doses(0)), 5 * SECOND, vec![], 1),
        (None, 5 * SECOND, vec![], 1),
    ];
    for (shown, valid_for, expected, unknown) in cases {
        let old = dose_in_flight(valid_for);
        let (mut told, effects) = recovered_from(&old, at(4 * SECOND), vec![]);
        assert_eq!(actuated(&effects), []);
        let answer = Input::Compared {
            link: "pump".into(),
            shown: shown.clone(),
            question: 0,
        };
        let effects = told.tell(at(4 * SECOND), answer).to_vec();
        let case = format!("{shown:?} within {valid_for}");
        assert_eq!(actuated(&effects), expected, "{case}");
        assert_eq!(told.cell.unknown_commands().len(), unknown, "{case}");
        assert_eq!(
            told.cell.explanation().unwrap().flows["pump"]
                .doubtful
                .len(),
            1
        );
    }
}

#[test]
fn a_command_of_unknown_fate_waits_for_a_persons_word_through_every_recovery() {
    let old = dose_in_flight(5 * SECOND);
    let (mut told, _) = recovered_from(&old, at(4 * SECOND), vec![]);
    let no_answer = || Input::Compared {
        link: "pump".into(),
        shown: None,
        question: 0,
    };
    told.tell(at(4 * SECOND), no_answer());
    told.logged(at(4 * SECOND));
    let (mut again, effects) = recovered_from(&told, at(9 * SECOND), vec![]);
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Compare { .. }))
    );
    let [Effect::Report { report, .. }] =
        again.tell(at(9 * SECOND), Input::ReportAsked { request: 1 })
    else {
        panic!("one report")
    };
    let [unknown] = &report.unknown[..] else {
        panic!("one command: {report:?}")
    };
    assert_eq!(
        (
            unknown.id.as_str(),
            unknown.text.as_str(),
            unknown.appliance.clone()
        ),
        ("cell/1.1.0", "dose = 2", Some(id("pump")))
    );
}

#[test]
fn only_a_persons_word_sends_a_command_of_unknown_fate_again_under_its_own_id() {
    let old = dose_in_flight(5 * SECOND);
    let (mut again, _) = recovered_from(&old, at(4 * SECOND), vec![]);
    let shown = |shown| Input::Compared {
        link: "pump".into(),
        shown,
        question: 0,
    };
    again.tell(at(4 * SECOND), shown(None));
    again.logged(at(4 * SECOND));
    let judged = |verdict| Input::Judged {
        link: "pump".into(),
        position: place(1),
        verdict,
    };
    let record = Record::Judged(Judged {
        link: "pump".into(),
        position: place(1),
        verdict: Verdict::Redo,
    });
    let first = again.cell.log.head + 1;
    let effects = again.tell(at(9 * SECOND), judged(Verdict::Redo)).to_vec();
    assert_eq!(
        effects,
        [Effect::Append {
            first,
            records: vec![record]
        }]
    );
    let effects = again.logged(at(9 * SECOND));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Compare { .. })),
        "{effects:?}"
    );
    again.tell(at(9 * SECOND), shown(Some(doses(8))));
    let effects = again.logged(at(9 * SECOND));
    let [Effect::Actuate { command, .. }] = &effects[..] else {
        panic!("sent again: {effects:?}")
    };
    assert_eq!(command.position, place(1), "under its own id");
    assert_eq!(
        again.tell(at(9 * SECOND), judged(Verdict::Redo)),
        [],
        "it waits no more"
    );
}

#[test]
fn a_person_who_says_that_it_was_carried_out_ends_it() {
    let old = dose_in_flight(5 * SECOND);
    let (mut told, _) = recovered_from(&old, at(4 * SECOND), vec![]);
    let link = || "pump".to_owned();
    told.tell(
        at(4 * SECOND),
        Input::Compared {
            link: link(),
            shown: None,
            question: 0,
        },
    );
    told.logged(at(4 * SECOND));
    let (position, verdict) = (place(1), Verdict::CarriedOut);
    told.tell(
        at(5 * SECOND),
        Input::Judged {
            link: link(),
            position,
            verdict,
        },
    );
    let effects = told.logged(at(5 * SECOND));
    assert_eq!(actuated(&effects), []);
    assert_eq!(told.cell.unknown_commands(), []);
}

#[test]
fn a_lost_connection_leaves_a_dose_in_doubt_and_the_counter_settles_it_without_a_crash() {
    let mut told = dose_in_flight(5 * SECOND);
    let doubted = Input::Doubted {
        link: "pump".into(),
        position: place(1),
        sending: 0,
    };
    let asked = Effect::Compare {
        link: "pump".into(),
        properties: vec!["doses".into()],
        question: 2,
    };
    assert_eq!(told.tell(at(SECOND), doubted), [asked]);
    let shown = Some(doses(8));
    let effects = told
        .tell(
            at(SECOND),
            Input::Compared {
                link: "pump".into(),
                shown,
                question: 0,
            },
        )
        .to_vec();
    let first = 3;
    let records = vec![done("pump", Lane::Queued, 1)];
    assert_eq!(effects, [Effect::Append { first, records }]);
}

#[test]
fn a_device_that_is_asked_what_it_shows_before_it_said_what_it_counts_is_asked_that_again() {
    let mut told = home();
    let dose = asks("pump", "dose", Value::Integer(2), None);
    let counts = |question| Effect::Compare {
        link: "pump".into(),
        properties: vec!["doses".into()],
        question,
    };
    let effects = told.event(at(0), 1, dose);
    assert_eq!(effects, [counts(1)]);
    let mut effects = vec![];
    told.cell.show_target(at(1), "pump", &mut effects);
    told.cell.ask(
        "pump",
        super::super::showing::Purpose::Target,
        vec![],
        &mut effects,
    );
    let answer = |shown| Input::Compared {
        link: "pump".into(),
        shown,
        question: 0,
    };
    let effects = told.tell(at(2), answer(Some(doses(7)))).to_vec();
    assert_eq!(effects, [counts(3)]);
    told.tell(at(3), answer(Some(doses(7))));
    let effects = told.logged(at(3));
    let dose = [("dose".into(), Value::Integer(2))].into();
    assert_eq!(actuated(&effects), [("pump".into(), dose)]);
}
