//! Optimistic saving, rule by rule.

use super::*;
use crate::model::Lag;
use crate::state_saving::{Lost, Orphaned};

const LAG: Lag = Lag {
    time: Duration::from_millis(200),
    records: 2,
};

fn optimistic() -> Told {
    let settings = CellSettings {
        lag: Some(LAG),
        ..settings()
    };
    let mut told = Told {
        cell: Cell::new(settings),
        effects: vec![],
    };
    told.tell(at(0), restored(vec![]));
    told.tell(at(0), Input::Connected);
    told.tell(at(0), Input::Checkpointed { upto: 0 });
    told
}

fn appended(last: u64, at: i64) -> Input {
    Input::Appended {
        last,
        logged_at: WallClock(at),
    }
}

fn acknowledge(upto: u64) -> Effect {
    Effect::Acknowledge {
        link: id("motion"),
        upto: place(upto),
    }
}

fn handled(index: u64, port: &str) -> Input {
    Input::Handled {
        index,
        handled: emitted(port),
    }
}

#[test]
fn an_event_is_handled_when_it_is_durable_here_and_acknowledged_when_it_is_stable() {
    let mut told = optimistic();
    told.tell(at(1), received(1, 0, None));
    assert_eq!(
        told.tell(at(2), appended(1, 2)),
        [Effect::Flush, Effect::Handle(task(1, 1, 2, None))]
    );
    told.tell(at(3), handled(1, "next"));
    // The sender asks again: it has to keep the event.
    assert_eq!(told.tell(at(4), received(1, 0, None)), []);
    assert_eq!(
        told.tell(at(5), Input::Flushed { upto: 1 }),
        [acknowledge(1)]
    );
}

#[test]
fn a_device_is_answered_when_what_it_said_is_durable_here() {
    let mut told = optimistic();
    told.tell(at(1), sensed(1, 7, 5));
    let effects = told.tell(at(2), appended(1, 2));
    assert_eq!(
        effects[..2],
        [Effect::Release { receipt: 5 }, Effect::Flush]
    );
}

#[test]
fn one_flush_is_under_way_at_a_time_and_the_next_takes_all_that_came_meanwhile() {
    let mut told = optimistic();
    told.offered(at(1), 1);
    told.tell(at(2), handled(1, "next"));
    told.tell(at(3), received(2, 1, None));
    assert_eq!(
        told.tell(at(4), appended(2, 4)),
        [Effect::Handle(task(2, 2, 4, None))]
    );
    assert_eq!(
        told.tell(at(5), Input::Flushed { upto: 1 }),
        [acknowledge(1), Effect::Flush]
    );
}

#[test]
fn beyond_the_lag_in_records_the_element_waits_for_the_stable_store() {
    let mut told = optimistic();
    for index in 1..=2 {
        told.offered(at(1), index);
        told.tell(at(1), handled(index, "next"));
    }
    told.tell(at(2), received(3, 2, None));
    assert_eq!(told.tell(at(3), appended(3, 3)), []);
    let report = told.cell.report(at(0));
    assert_eq!((report.behind, report.queued), (2, 1));
    assert_eq!(
        report.trouble.as_deref(),
        Some(
            "the stable store is 3 records behind the local log, and may be 2 or 200ms: what \
             arrives waits for it"
        )
    );
    assert_eq!(
        told.tell(at(4), Input::Flushed { upto: 1 }),
        [
            acknowledge(1),
            Effect::Flush,
            Effect::Handle(task(3, 3, 3, None)),
        ]
    );
    let report = told.cell.report(at(0));
    assert_eq!((report.behind, report.trouble), (2, None));
}

#[test]
fn beyond_the_lag_in_time_the_element_waits_for_the_stable_store() {
    let mut told = optimistic();
    told.offered(at(1), 1);
    told.tell(at(1), handled(1, "next"));
    told.tell(at(200_000), received(2, 1, None));
    assert_eq!(told.tell(at(200_001), appended(2, 200_001)), []);
    let effects = told.tell(at(200_002), Input::Flushed { upto: 1 });
    assert_eq!(
        effects[2..],
        [Effect::Handle(task(2, 2, 200_001, None))],
        "{effects:?}"
    );
}

#[test]
fn a_store_out_of_reach_is_asked_again_after_a_while_and_one_that_is_another_s_ends_the_element() {
    let mut told = optimistic();
    told.offered(at(0), 1);
    told.tell(at(0), handled(1, "next"));
    let cause = Cause::Unavailable("no answer".into());
    told.tell(at(0), Input::FlushFailed { cause });
    assert_eq!(told.wake(at(49_999)), []);
    assert_eq!(told.wake(at(50_000)), [Effect::Flush]);
    let cause = Cause::Fenced("epoch 9".into());
    assert_eq!(
        told.tell(at(50_001), Input::FlushFailed { cause }),
        [Effect::GiveUp {
            cause: "epoch 9".into(),
            restart_may_help: false
        }]
    );
}

#[test]
fn a_command_that_must_not_be_repeated_leaves_when_its_beginning_is_stable() {
    let mut told = optimistic();
    told.offered(at(1), 1);
    told.tell(at(1), handled(1, "pump"));
    // Its beginning is durable here, and it waits.
    assert_eq!(told.tell(at(2), appended(2, 2)), []);
    told.tell(at(3), Input::Flushed { upto: 1 });
    let dose = Command {
        position: Position::new(1, 1, 0),
        expires_at: None,
        properties: emitted("pump").emitted[0].properties.clone(),
    };
    let effects = told.tell(at(4), Input::Flushed { upto: 2 });
    assert_eq!(
        effects,
        [Effect::Actuate {
            link: "pump".into(),
            command: dose,
            sending: 3,
        }]
    );
}

#[test]
fn a_command_from_before_a_loss_waits_for_its_beginning_as_well() {
    let settings = CellSettings {
        lag: Some(LAG),
        ..settings()
    };
    let mut told = Told {
        cell: Cell::new(settings),
        effects: vec![],
    };
    let mut saved = Restored {
        head: 2,
        log: vec![batch(1, logged(1, 0, None)), batch(2, Record::Lost(lost()))],
        stable: 2,
        ..Restored::default()
    };
    saved.meta.lineage = 1;
    told.tell(at(1), Input::Restored(saved));
    told.tell(at(2), handled(1, "pump"));
    told.tell(at(3), Input::Connected);
    assert_eq!(told.tell(at(4), appended(3, 4)), [Effect::Flush]);
    let effects = told.tell(at(5), Input::Flushed { upto: 3 });
    assert!(
        matches!(effects, [Effect::Actuate { link, .. }] if link == "pump"),
        "{effects:?}"
    );
}

#[test]
fn a_command_that_the_next_one_overrides_does_not_wait() {
    let mut told = optimistic();
    told.offered(at(1), 1);
    let effects = told.tell(at(1), handled(1, "lamp"));
    assert!(
        matches!(effects, [Effect::Actuate { link, .. }] if link == "lamp"),
        "{effects:?}"
    );
}

#[test]
fn what_an_incarnation_in_the_same_process_finds_only_here_is_not_acknowledged() {
    let settings = CellSettings {
        lag: Some(LAG),
        ..settings()
    };
    let mut told = Told {
        cell: Cell::new(settings),
        effects: vec![],
    };
    let mut saved = Restored {
        head: 2,
        log: vec![batch(1, logged(1, 0, None)), batch(2, logged(2, 1, None))],
        stable: 1,
        ..Restored::default()
    };
    saved.meta.lineage = 1;
    let effects = told.tell(at(1), Input::Restored(saved));
    assert_eq!(effects[0], Effect::Flush);
    told.tell(at(2), handled(1, "next"));
    told.tell(at(2), handled(2, "next"));
    let effects = told.tell(at(3), Input::Connected);
    assert_eq!(effects[0], acknowledge(1));
    let effects = told.tell(at(4), Input::Flushed { upto: 2 });
    assert_eq!(effects, [acknowledge(2)]);
}

fn lost() -> Lost {
    Lost {
        lineage: 2,
        log: 9,
        from: 2,
        reason: "it is gone".into(),
    }
}

#[test]
fn after_a_loss_what_leaves_is_of_a_new_lineage_and_what_was_said_before_stays_as_it_is() {
    let mut told = Told::starting();
    let log = vec![
        batch(1, logged(1, 0, None)),
        batch(2, Record::Lost(lost())),
        batch(3, logged(2, 1, None)),
    ];
    told.tell(at(1), restored(log));
    let effects = told.tell(at(2), handled(1, "next"));
    assert_eq!(effects[0], Effect::ReportLost(lost()));
    told.tell(at(2), handled(3, "next"));
    let sent = told.tell(at(3), Input::Connected);
    let is_sent = |effect: &&Effect| matches!(effect, Effect::Send { .. });
    let Some(Effect::Send { envelopes, .. }) = sent.iter().find(is_sent) else {
        panic!("{sent:?}")
    };
    let places: Vec<_> = envelopes
        .iter()
        .map(|envelope| (envelope.after, envelope.position))
        .collect();
    let (old, new) = (Position::new(1, 1, 0), Position::new(2, 3, 0));
    assert_eq!(places, [(Position::default(), old), (old, new)]);
    assert_eq!(told.cell.report(at(0)).losses, [lost()]);
}

#[test]
fn what_a_device_says_after_a_loss_has_another_id() {
    let mut told = Told::starting();
    told.tell(at(1), restored(vec![batch(1, Record::Lost(lost()))]));
    let effects = told.tell(at(2), sensed(1, 7, 5));
    let [Effect::Append { records, .. }] = effects else {
        panic!("{effects:?}")
    };
    let Record::Event(event) = &records[0] else {
        panic!("{records:?}")
    };
    assert_eq!(event.id.position, Position::new(2, 1, 0));
}

#[test]
fn what_was_received_of_a_source_that_lost_it_is_named_once() {
    let mut told = Told::live();
    for index in 1..=3 {
        told.offered(at(1), index);
        told.tell(at(1), handled(index, "next"));
    }
    // The source knows of its first event alone.
    let envelope = Envelope {
        position: Position::new(2, 5, 0),
        after: place(1),
        occurred_at: WallClock(0),
        expires_at: None,
        causes: Causes::default(),
        payload: vec![7],
    };
    told.tell(
        at(2),
        Input::Received {
            link: id("motion"),
            envelopes: vec![envelope],
        },
    );
    let orphaned = Orphaned {
        binding: id("motion"),
        source: id("sense"),
        after: place(1),
        upto: place(3),
    };
    let effects = told.tell(at(3), appended(4, 3));
    assert!(
        effects.contains(&Effect::ReportOrphaned(orphaned.clone())),
        "{effects:?}"
    );
    told.tell(at(3), handled(4, "next"));
    assert_eq!(told.cell.report(at(0)).orphaned, [orphaned]);
    told.tell(at(4), received(5, 4, None));
    assert_eq!(told.cell.report(at(0)).orphaned.len(), 1);
}
