use super::*;
use crate::state_saving::CallWish;

#[test]
fn an_incarnation_that_was_replaced_gives_up_at_once() {
    let mut told = Told::live();
    told.tell(at(0), received(1, 0, None));
    let cause = Cause::Fenced("owned by epoch 2".into());
    assert_eq!(
        told.tell(at(0), Input::AppendFailed { last: 1, cause }),
        [Effect::GiveUp {
            cause: "owned by epoch 2".into(),
            restart_may_help: false
        }]
    );
    assert_eq!(told.tell(at(1), received(2, 1, None)), []);
}

#[test]
fn a_store_that_forgot_acknowledged_records_is_not_trusted_with_more() {
    let mut told = Told::live();
    told.offered(at(1), 1);
    told.tell(
        at(1),
        Input::Handled {
            index: 1,
            handled: Handled::default(),
        },
    );
    told.tell(at(1), received(2, 1, None));
    let cause = "the store lost the acknowledged records 1..=1: it was rolled back; look at its \
                 persistence settings with `lamplighter store check`";
    let gap = Input::AppendFailed {
        last: 2,
        cause: Cause::Gap { head: 0 },
    };
    assert_eq!(
        told.tell(at(1), gap),
        [Effect::GiveUp {
            cause: cause.into(),
            restart_may_help: false
        }]
    );
}

#[test]
fn an_input_that_keeps_failing_is_left_out_once_the_log_says_so() {
    let mut told = Told::live();
    told.offered(at(1), 1);
    let failed = || Input::HandlerFailed {
        index: 1,
        cause: "no such room".into(),
    };
    assert_eq!(told.tell(at(1), failed()), [Effect::Restore]);
    let first = batch(1, logged(1, 0, None));
    let replay = Task {
        replay: true,
        ..task(1, 1, 1, None)
    };
    assert_eq!(
        told.tell(at(1), restored(vec![first.clone()])),
        [Effect::Handle(replay)]
    );

    let what = "event sense/1.1.0 on motion";
    let cause = "event sense/1.1.0 on motion failed: no such room";
    let skipped = Record::Skipped {
        index: 1,
        cause: cause.into(),
    };
    assert_eq!(
        told.tell(at(1), failed()),
        [
            Effect::Bury {
                index: 1,
                what: what.into(),
                cause: cause.into()
            },
            Effect::Append {
                first: 2,
                records: vec![skipped.clone()]
            },
        ]
    );
    told.tell(
        at(1),
        Input::Appended {
            last: 2,
            logged_at: WallClock(1),
        },
    );
    assert_eq!(told.wake(at(200_000)), [Effect::Restore]);
    assert_eq!(
        told.tell(at(200_000), restored(vec![first, batch(2, skipped)])),
        [Effect::Mended {
            cause: cause.into()
        }]
    );
}

#[test]
fn the_first_start_saves_the_initial_state_whole() {
    let mut told = Told::starting();
    let effects = told.tell(at(0), Input::Restored(Restored::default()));
    assert_eq!(
        effects,
        [Effect::Checkpoint {
            upto: 0,
            meta: Meta {
                lineage: 1,
                outboxes: [(id("next"), Default::default())].into(),
                commands: [
                    ("lamp".into(), Default::default()),
                    ("pump".into(), Default::default())
                ]
                .into(),
                ..Meta::default()
            }
        }]
    );
}

#[test]
fn a_stop_waits_for_what_is_logged_and_takes_a_last_checkpoint() {
    let mut told = Told::live();
    told.offered(at(1), 1);
    assert_eq!(told.tell(at(1), Input::StopRequested), []);
    let effects = told.tell(
        at(1),
        Input::Handled {
            index: 1,
            handled: Handled::default(),
        },
    );
    assert!(
        matches!(effects, [Effect::Checkpoint { upto: 1, .. }]),
        "{effects:?}"
    );
    assert_eq!(
        told.tell(at(1), Input::Checkpointed { upto: 1 }),
        [Effect::Stop]
    );
}

#[test]
fn a_checkpoint_is_due_after_so_many_inputs_or_so_long() {
    let mut settings = settings();
    settings.checkpoint.every = 2;
    let mut told = Told {
        cell: Cell::new(settings),
        effects: vec![],
    };
    told.tell(at(0), restored(vec![]));
    told.tell(at(0), Input::Connected);
    let handled = |index| Input::Handled {
        index,
        handled: Handled::default(),
    };
    told.offered(at(1), 1);
    assert_eq!(told.tell(at(1), handled(1)), []);
    told.offered(at(2), 2);
    let effects = told.tell(at(2), handled(2));
    assert!(
        matches!(effects, [Effect::Checkpoint { upto: 2, .. }]),
        "{effects:?}"
    );
    told.tell(at(2), Input::Checkpointed { upto: 2 });

    told.offered(at(3), 3);
    assert_eq!(told.tell(at(3), handled(3)), []);
    let due = at(3).monotonic + Duration::from_secs(5);
    assert_eq!(told.cell.next_deadline(), Some(due));
    let effects = told.wake(at(5_000_003));
    assert!(
        matches!(effects, [Effect::Checkpoint { upto: 3, .. }]),
        "{effects:?}"
    );
}

#[test]
fn a_port_that_leads_to_an_appliance_cannot_be_called() {
    let mut told = Told::live();
    told.offered(at(1), 1);
    let calls = || {
        let call = CallWish::Call {
            port: "lamp".into(),
            within: None,
            payload: vec![],
            properties: Properties::new(),
        };
        let handled = Handled {
            calls: vec![call],
            ..Handled::default()
        };
        Input::Handled { index: 1, handled }
    };
    assert_eq!(told.tell(at(1), calls()), [Effect::Restore]);
    told.tell(at(1), restored(vec![batch(1, logged(1, 0, None))]));
    let cause = "event sense/1.1.0 on motion failed: it called the port \"lamp\", and the topology \
                 binds no call to it; it is an output, on which it can emit";
    let what = "event sense/1.1.0 on motion";
    let skipped = Record::Skipped {
        index: 1,
        cause: cause.into(),
    };
    assert_eq!(
        told.tell(at(1), calls()),
        [
            Effect::Bury {
                index: 1,
                what: what.into(),
                cause: cause.into()
            },
            Effect::Append {
                first: 2,
                records: vec![skipped]
            },
        ]
    );
}
