use super::*;

#[test]
fn an_event_is_logged_then_acknowledged_and_handled_and_only_then_its_output_leaves() {
    let mut told = Told::live();
    assert_eq!(
        told.tell(at(1), received(1, 0, None)),
        [Effect::Append {
            first: 1,
            records: vec![logged(1, 0, None)]
        }]
    );
    assert_eq!(
        told.tell(
            at(2),
            Input::Appended {
                last: 1,
                logged_at: WallClock(2)
            }
        ),
        [
            Effect::Acknowledge {
                link: id("motion"),
                upto: place(1)
            },
            Effect::Handle(task(1, 1, 2, None)),
        ]
    );
    let envelope = Envelope {
        position: Position::new(1, 1, 0),
        after: Position::default(),
        occurred_at: WallClock(2),
        expires_at: None,
        causes: Causes::default(),
        payload: vec![0x81, 9],
    };
    assert_eq!(
        told.tell(
            at(3),
            Input::Handled {
                index: 1,
                handled: emitted("next")
            }
        ),
        [Effect::Send {
            link: id("next"),
            envelopes: vec![envelope]
        }]
    );
}

#[test]
fn a_duplicate_is_acknowledged_again_and_not_logged() {
    let mut told = Told::live();
    told.offered(at(1), 1);
    assert_eq!(
        told.tell(at(2), received(1, 0, None)),
        [Effect::Acknowledge {
            link: id("motion"),
            upto: place(1)
        }]
    );
}

#[test]
fn what_came_early_is_asked_for_and_not_acknowledged() {
    let mut told = Told::live();
    assert_eq!(
        told.tell(at(1), received(5, 4, None)),
        [Effect::Resume {
            link: id("motion"),
            mark: Position::default()
        }]
    );
}

#[test]
fn what_an_expired_event_emits_does_not_leave() {
    let mut told = Told::live();
    told.tell(at(5), received(1, 0, Some(WallClock(4))));
    let effects = told.tell(
        at(5),
        Input::Appended {
            last: 1,
            logged_at: WallClock(5),
        },
    );
    assert_eq!(
        effects[1],
        Effect::Handle(task(1, 1, 5, Some(WallClock(4))))
    );
    assert_eq!(
        told.tell(
            at(5),
            Input::Handled {
                index: 1,
                handled: emitted("next")
            }
        ),
        []
    );
}

#[test]
fn a_write_without_an_answer_is_sent_again_as_it_was() {
    let mut told = Told::live();
    told.tell(at(0), received(1, 0, None));
    let cause = Cause::Unavailable("no answer".into());
    assert_eq!(told.tell(at(0), Input::AppendFailed { last: 1, cause }), []);
    assert_eq!(told.cell.next_deadline(), Some(at(50_000).monotonic));
    assert_eq!(
        told.wake(at(50_000)),
        [Effect::Append {
            first: 1,
            records: vec![logged(1, 0, None)]
        }]
    );
}

#[test]
fn an_answer_that_overtakes_the_one_before_it_is_not_lost() {
    let mut told = Told::live();
    told.tell(at(1), received(1, 0, None));
    told.tell(at(1), received(2, 1, None));
    assert_eq!(
        told.tell(
            at(2),
            Input::Appended {
                last: 2,
                logged_at: WallClock(2)
            }
        ),
        []
    );
    assert_eq!(
        told.tell(
            at(2),
            Input::Appended {
                last: 1,
                logged_at: WallClock(1)
            }
        ),
        [
            Effect::Acknowledge {
                link: id("motion"),
                upto: place(1)
            },
            Effect::Acknowledge {
                link: id("motion"),
                upto: place(2)
            },
            Effect::Handle(task(1, 1, 1, None)),
        ]
    );
}
