//! How long what follows from an event holds, and what an element makes of expired ones.

use super::*;
use crate::model::OnExpired;
use crate::state_saving::Record;

const SECOND: i64 = 1_000_000;

fn motion(source: &str) -> EventId {
    EventId {
        source: id(source),
        position: place(1),
    }
}

/// An event that holds until `end` and follows from one that holds until `root`.
fn caused(index: u64, end: Option<i64>, root: i64) -> Input {
    let causes = Causes::of(&motion("hall"), WallClock(0), Some(WallClock(root)));
    let Input::Received { link, envelopes } = received(index, index - 1, end.map(WallClock)) else {
        unreachable!("received makes nothing else")
    };
    let envelopes = envelopes
        .into_iter()
        .map(|envelope| Envelope {
            causes: causes.clone(),
            ..envelope
        })
        .collect();
    Input::Received { link, envelopes }
}

/// Lets the cell log and handle what it received at `logged_at`, and returns what leaves.
fn handled(told: &mut Told, logged_at: i64, port: &str) -> Vec<Effect> {
    handled_for(told, logged_at, port, None)
}

fn handled_for(
    told: &mut Told,
    logged_at: i64,
    port: &str,
    valid_for: Option<Duration>,
) -> Vec<Effect> {
    let last = told.cell.log.head;
    let logged_at = WallClock(logged_at);
    told.tell(at(logged_at.0), Input::Appended { last, logged_at });
    let mut handled = emitted(port);
    handled.emitted[0].valid_for = valid_for;
    told.tell(
        at(logged_at.0),
        Input::Handled {
            index: last,
            handled,
        },
    )
    .to_vec()
}

fn sent(effects: &[Effect]) -> Vec<(Option<i64>, Vec<i64>)> {
    let envelopes = effects.iter().filter_map(|effect| {
        if let Effect::Send { envelopes, .. } = effect {
            return Some(envelopes.as_slice());
        }
        None
    });
    let shown = |envelope: &Envelope| {
        let roots = envelope.causes.roots().iter();
        (
            envelope.expires_at.map(|end| end.0),
            roots.map(|root| root.expires_at.0).collect(),
        )
    };
    envelopes.flatten().map(shown).collect()
}

fn commands(effects: &[Effect]) -> Vec<Option<i64>> {
    let command = |effect: &Effect| {
        if let Effect::Actuate { command, .. } = effect {
            return Some(command.expires_at.map(|end| end.0));
        }
        None
    };
    effects.iter().filter_map(command).collect()
}

#[test]
fn an_output_carries_the_events_it_follows_from_and_holds_as_long_as_they_do() {
    let mut told = Told::live();
    told.tell(at(SECOND), caused(1, Some(60 * SECOND), 10 * SECOND));
    let effects = handled(&mut told, SECOND, "next");
    assert_eq!(sent(&effects), [(Some(10 * SECOND), vec![10 * SECOND])]);
}

#[test]
fn an_output_with_a_validity_of_its_own_keeps_it_and_still_tells_its_causes() {
    let mut told = Told::live();
    told.tell(at(SECOND), caused(1, Some(60 * SECOND), 10 * SECOND));
    let minute = Some(Duration::from_secs(60));
    let effects = handled_for(&mut told, SECOND, "next", minute);
    assert_eq!(sent(&effects), [(Some(61 * SECOND), vec![10 * SECOND])]);
}

#[test]
fn a_command_whose_causes_have_expired_does_not_leave_unless_it_holds_by_itself() {
    let late = 20 * SECOND;
    let mut told = Told::live();
    told.tell(at(SECOND), caused(1, Some(60 * SECOND), 10 * SECOND));
    assert_eq!(commands(&handled(&mut told, late, "lamp")), []);
    told.tell(at(late), caused(2, Some(60 * SECOND), 10 * SECOND));
    let minute = Some(Duration::from_secs(60));
    let effects = handled_for(&mut told, late, "lamp", minute);
    assert_eq!(commands(&effects), [Some(80 * SECOND)]);
}

#[test]
fn what_a_device_says_is_the_first_cause_of_what_follows() {
    let mut told = Told::live();
    let Input::Sensed(said) = sensed(1, 5, 1) else {
        unreachable!("sensed makes nothing else")
    };
    let said = Sensed {
        expires_at: Some(WallClock(30 * SECOND)),
        ..said
    };
    told.tell(at(SECOND), Input::Sensed(said));
    let effects = handled(&mut told, SECOND, "next");
    assert_eq!(sent(&effects), [(Some(30 * SECOND), vec![30 * SECOND])]);
}

#[test]
fn a_command_that_waits_for_its_device_is_dropped_when_it_expires() {
    let mut told = Told::live();
    told.tell(at(SECOND), caused(1, Some(60 * SECOND), 10 * SECOND));
    assert_eq!(
        commands(&handled(&mut told, SECOND, "lamp")),
        [Some(10 * SECOND)]
    );
    told.tell(
        at(2 * SECOND),
        Input::Returned {
            link: "lamp".into(),
            sending: 0,
        },
    );
    let again = told.tell(at(10 * SECOND), Input::Connected).to_vec();
    assert_eq!(commands(&again), []);
}

#[test]
fn a_clock_that_is_not_surely_before_the_end_sends_no_command() {
    let mut told = Told::live();
    told.tell(at(SECOND), caused(1, Some(60 * SECOND), 10 * SECOND));
    let last = told.cell.log.head;
    let logged_at = WallClock(SECOND);
    told.tell(at(SECOND), Input::Appended { last, logged_at });
    let unsure = Now {
        skew: Duration::from_secs(9),
        ..at(SECOND)
    };
    let handled = emitted("lamp");
    let effects = told
        .tell(
            unsure,
            Input::Handled {
                index: last,
                handled,
            },
        )
        .to_vec();
    assert_eq!(commands(&effects), []);
}

fn skipping() -> Told {
    let settings = CellSettings {
        on_expired: OnExpired::Skip,
        ..settings()
    };
    Told {
        cell: Cell::new(settings),
        effects: vec![],
    }
}

fn offered(effects: &[Effect]) -> Vec<u64> {
    let offered = |effect: &Effect| {
        if let Effect::Handle(task) = effect {
            return Some(task.index);
        }
        None
    };
    effects.iter().filter_map(offered).collect()
}

#[test]
fn an_element_that_skips_is_not_given_what_had_expired_when_it_was_logged() {
    // Three events in the log: fresh, expired when it was taken, fresh.
    let log = |records: &[Record]| {
        let places = (1..).zip(records);
        places
            .map(|(first, record)| batch(first, record.clone()))
            .collect::<Vec<_>>()
    };
    let records = [
        logged(1, 0, None),
        logged(2, 1, Some(WallClock(1))),
        logged(3, 2, Some(WallClock(9))),
    ];
    let mut told = skipping();
    let first = told.tell(at(5), restored(log(&records))).to_vec();
    assert_eq!(offered(&first), [1]);
    let handled = Handled::default();
    let next = told
        .tell(at(5), Input::Handled { index: 1, handled })
        .to_vec();
    assert_eq!(offered(&next), [3]);
    // The output of the third has the identity it has where nothing is left out.
    let index = 3;
    let handled = emitted("next");
    told.tell(at(5), Input::Handled { index, handled });
    let effects = told.tell(at(5), Input::Connected).to_vec();
    let positions = effects.iter().filter_map(|effect| {
        if let Effect::Send { envelopes, .. } = effect {
            return Some(envelopes[0].position);
        }
        None
    });
    assert_eq!(positions.collect::<Vec<_>>(), [Position::new(1, 3, 0)]);
    assert_eq!(told.cell.folded[&id("motion")], place(3));
}

#[test]
fn an_expired_timer_is_skipped_as_an_expired_event_is() {
    let fired = Record::Timer(crate::state_saving::Timed {
        key: "hold".into(),
        due_at: WallClock(0),
        expires_at: Some(WallClock(1)),
        payload: vec![],
    });
    let mut timers = Timers::default();
    timers.change(crate::state_saving::TimerChange::Set(
        "hold".into(),
        crate::state_saving::Timer {
            due_at: WallClock(0),
            expires_at: Some(WallClock(1)),
            missed: crate::state_saving::Missed::Fire,
            payload: vec![],
        },
    ));
    let meta = Meta {
        lineage: 1,
        timers,
        ..Meta::default()
    };
    let saved = Restored {
        head: 1,
        meta,
        log: vec![batch(1, fired)],
        ..Restored::default()
    };
    let mut skips = skipping();
    let effects = skips.tell(at(5), Input::Restored(saved.clone())).to_vec();
    assert_eq!(offered(&effects), []);
    assert_eq!(skips.cell.timers, Timers::default());
    let mut absorbs = Told::starting();
    let effects = absorbs.tell(at(5), Input::Restored(saved)).to_vec();
    assert_eq!(offered(&effects), [1]);
}
