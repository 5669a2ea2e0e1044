use super::*;

#[test]
fn a_device_is_answered_when_its_message_is_in_the_log() {
    let mut told = Told::live();
    told.tell(at(1), sensed(1, 5, 40));
    let effects = told.tell(
        at(2),
        Input::Appended {
            last: 1,
            logged_at: WallClock(2),
        },
    );
    assert_eq!(effects[0], Effect::Release { receipt: 40 });
}

#[test]
fn what_the_broker_sends_again_is_answered_with_the_first_and_logged_once() {
    let mut told = Told::live();
    told.tell(at(1), sensed(1, 5, 40));
    assert_eq!(told.tell(at(2), sensed(2, 5, 41)), []);
    let effects = told.tell(
        at(3),
        Input::Appended {
            last: 1,
            logged_at: WallClock(3),
        },
    );
    assert_eq!(
        effects[..2],
        [
            Effect::Release { receipt: 40 },
            Effect::Release { receipt: 41 }
        ]
    );
}

#[test]
fn what_was_carried_out_is_logged_so_that_no_replay_repeats_it() {
    let mut told = Told::live();
    told.offered(at(1), 1);
    let properties = [("state".into(), crate::model::Value::Integer(1))].into();
    let command = Command {
        position: Position::new(1, 1, 0),
        expires_at: None,
        properties,
    };
    assert_eq!(
        told.tell(
            at(1),
            Input::Handled {
                index: 1,
                handled: emitted("lamp")
            }
        ),
        [Effect::Actuate {
            link: "lamp".into(),
            command: command.clone(),
            sending: 1,
        }]
    );
    let position = command.position;
    assert_eq!(
        told.tell(
            at(2),
            Input::Settled {
                link: "lamp".into(),
                position,
                sending: 0,
            }
        ),
        [Effect::Append {
            first: 2,
            records: vec![done("lamp", Lane::Merged, 1)]
        }]
    );
}

#[test]
fn an_irreversible_command_is_begun_in_the_log_before_it_is_sent() {
    let mut told = Told::live();
    told.offered(at(1), 1);
    let position = Position::new(1, 1, 0);
    let begun = begun("pump", 1);
    assert_eq!(
        told.tell(
            at(1),
            Input::Handled {
                index: 1,
                handled: emitted("pump")
            }
        ),
        [Effect::Append {
            first: 2,
            records: vec![begun]
        }]
    );
    let properties = [("state".into(), crate::model::Value::Integer(1))].into();
    let command = Command {
        position,
        expires_at: None,
        properties,
    };
    assert_eq!(
        told.tell(
            at(2),
            Input::Appended {
                last: 2,
                logged_at: WallClock(2)
            }
        ),
        [Effect::Actuate {
            link: "pump".into(),
            command,
            sending: 1,
        }]
    );
}

#[test]
fn after_a_recovery_a_device_is_asked_before_it_is_told() {
    let mut told = Told::starting();
    told.tell(at(5), restored(vec![batch(1, logged(1, 0, None))]));
    told.tell(
        at(5),
        Input::Handled {
            index: 1,
            handled: emitted("lamp"),
        },
    );
    assert_eq!(
        told.tell(at(5), Input::Connected),
        [
            Effect::Acknowledge {
                link: id("motion"),
                upto: place(1)
            },
            Effect::Resume {
                link: id("motion"),
                mark: place(1)
            },
            Effect::Compare {
                link: "lamp".into(),
                properties: vec!["state".into()],
                question: 1,
            },
            Effect::Ready {
                replayed: 1,
                took: Duration::ZERO
            },
            Effect::ShowReconfiguration {
                version: 0,
                reconfiguration: crate::protocol::appliances::Reconfiguration::default(),
            },
        ]
    );
    let shown = Input::Compared {
        link: "lamp".into(),
        shown: Some([("state".into(), crate::model::Value::Integer(1))].into()),
        question: 0,
    };
    let done = done("lamp", Lane::Merged, 1);
    assert_eq!(
        told.tell(at(6), shown),
        [Effect::Append {
            first: 2,
            records: vec![done]
        }]
    );
}

#[test]
fn what_an_immediate_event_asks_of_the_world_is_done_at_once_or_never() {
    let immediate = Some(WallClock(0));
    let mut told = Told::live();
    told.tell(at(1), received(1, 0, immediate));
    told.tell(
        at(1),
        Input::Appended {
            last: 1,
            logged_at: WallClock(1),
        },
    );
    let handled = || Input::Handled {
        index: 1,
        handled: emitted("lamp"),
    };
    let effects = told.tell(at(1), handled());
    assert!(
        matches!(effects, [Effect::Actuate { .. }]),
        "live: {effects:?}"
    );

    let mut recovered = Told::starting();
    recovered.tell(at(5), restored(vec![batch(1, logged(1, 0, immediate))]));
    assert_eq!(recovered.tell(at(5), handled()), []);
    let effects = recovered.tell(at(5), Input::Connected);
    assert!(
        !effects.iter().any(|e| matches!(e, Effect::Compare { .. })),
        "recovered: {effects:?}"
    );
}

#[test]
fn a_command_of_unknown_fate_is_reported_and_shown_as_trouble() {
    let mut told = Told::starting();
    let begun = begun("pump", 1);
    told.tell(
        at(5),
        restored(vec![batch(1, logged(1, 0, None)), batch(2, begun)]),
    );
    told.tell(
        at(5),
        Input::Handled {
            index: 1,
            handled: emitted("pump"),
        },
    );
    let effects = told.tell(at(5), Input::Connected).to_vec();
    let unknown = |effect: &&Effect| matches!(effect, Effect::ReportUnknown { .. });
    assert_eq!(effects.iter().filter(unknown).count(), 1, "{effects:?}");
    let [Effect::Report { report, .. }] = told.tell(at(5), Input::ReportAsked { request: 1 })
    else {
        panic!("one report")
    };
    assert_eq!(
        report.trouble.as_deref(),
        Some("1 commands that must not be repeated are of unknown fate: say `ack` or `redo`")
    );
}
