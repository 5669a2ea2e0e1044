use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::model::ActuationClass;
use crate::physical_world::EventId;
use crate::protocol::messages::Envelope;
use crate::state_saving::{Batch, Command, Event};

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}

fn at(wall: i64) -> Now {
    let monotonic = Monotonic(u64::try_from(wall).unwrap() * 1_000);
    Now {
        monotonic,
        wall: WallClock(wall),
        skew: Duration::ZERO,
    }
}

fn settings() -> CellSettings {
    let link = |name: &str, target| OutboundLink {
        id: name.into(),
        port: name.into(),
        prefix: vec![0x81],
        target,
        valid_for: None,
    };
    CellSettings {
        inbound: vec![
            InboundLink {
                id: id("motion"),
                source: id("sense"),
                kind: Source::Element,
            },
            InboundLink {
                id: id("button"),
                source: id("device"),
                kind: Source::Device,
            },
        ],
        outbound: vec![
            link("next", Target::Element),
            link("lamp", Target::Appliance(ActuationClass::Set)),
            link("pump", Target::Appliance(ActuationClass::Irreversible)),
        ],
        ..CellSettings::new(id("cell"))
    }
}

/// A cell with what it asked for last.
struct Told {
    cell: Cell,
    effects: Vec<Effect>,
}

impl Told {
    /// A cell that was restored from a checkpoint that says nothing, and is connected.
    fn live() -> Self {
        let mut told = Self::starting();
        let meta = Meta {
            lineage: 1,
            ..Meta::default()
        };
        told.tell(
            at(0),
            Input::Restored(Restored {
                meta,
                ..Restored::default()
            }),
        );
        told.tell(at(0), Input::Connected);
        told
    }

    fn starting() -> Self {
        Self {
            cell: Cell::new(settings()),
            effects: vec![],
        }
    }

    fn tell(&mut self, now: Now, input: Input) -> &[Effect] {
        self.effects.clear();
        self.cell.handle(now, input, &mut self.effects);
        &self.effects
    }

    fn wake(&mut self, now: Now) -> &[Effect] {
        self.effects.clear();
        self.cell.wake(now, &mut self.effects);
        &self.effects
    }

    /// Receives, logs and offers the event at `index` of the source.
    fn offered(&mut self, now: Now, index: u64) {
        let first = self.cell.log.head + 1;
        self.tell(now, received(index, index - 1, None));
        self.tell(
            now,
            Input::Appended {
                last: first,
                logged_at: now.wall,
            },
        );
    }
}

fn place(index: u64) -> Position {
    if index == 0 {
        Position::default()
    } else {
        Position::new(1, index, 0)
    }
}

fn received(index: u64, after: u64, expires_at: Option<WallClock>) -> Input {
    let envelope = Envelope {
        position: place(index),
        after: place(after),
        occurred_at: WallClock(0),
        expires_at,
        payload: vec![7],
    };
    Input::Received {
        link: id("motion"),
        envelopes: vec![envelope],
    }
}

fn logged(index: u64, after: u64, expires_at: Option<WallClock>) -> Record {
    Record::Event(Event {
        binding: id("motion"),
        id: EventId {
            source: id("sense"),
            position: place(index),
        },
        after: place(after),
        occurred_at: WallClock(0),
        expires_at,
        payload: vec![7],
    })
}

fn task(index: u64, source_index: u64, logged_at: i64, expires_at: Option<WallClock>) -> Task {
    Task {
        index,
        logged_at: WallClock(logged_at),
        expired: expires_at.is_some(),
        replay: false,
        input: TaskInput::Event {
            id: EventId {
                source: id("sense"),
                position: place(source_index),
            },
            occurred_at: WallClock(0),
            expires_at,
            payload: vec![7],
        },
    }
}

fn batch(first: u64, record: Record) -> Batch {
    Batch {
        first,
        logged_at: WallClock(1),
        records: vec![record],
    }
}

/// What the store gives back when nothing was checkpointed but the beginning.
fn restored(log: Vec<Batch>) -> Input {
    let meta = Meta {
        lineage: 1,
        ..Meta::default()
    };
    let head = log.last().map_or(0, Batch::last);
    Input::Restored(Restored {
        head,
        meta,
        log,
        ..Restored::default()
    })
}

fn emitted(port: &str) -> Handled {
    let properties = [("state".into(), serde_bytes::ByteBuf::from(vec![1]))].into();
    let output = Emitted {
        port: port.into(),
        valid_for: None,
        payload: vec![9],
        properties,
    };
    Handled {
        emitted: vec![output],
        timers: vec![],
    }
}

fn sensed(connection: u64, payload: u8, receipt: u64) -> Input {
    Input::Sensed(Sensed {
        link: id("button"),
        occurred_at: WallClock(0),
        expires_at: None,
        payload: vec![payload],
        receipt: Some(receipt),
        connection,
    })
}

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
    let properties = [("state".into(), serde_bytes::ByteBuf::from(vec![1]))].into();
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
            command: command.clone()
        }]
    );
    let position = command.position;
    assert_eq!(
        told.tell(
            at(2),
            Input::Settled {
                link: "lamp".into(),
                position
            }
        ),
        [Effect::Append {
            first: 2,
            records: vec![Record::Done(vec![("lamp".into(), position)])]
        }]
    );
}

#[test]
fn an_irreversible_command_is_begun_in_the_log_before_it_is_sent() {
    let mut told = Told::live();
    told.offered(at(1), 1);
    let position = Position::new(1, 1, 0);
    let begun = Record::Begun(vec![("pump".into(), position)]);
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
    let properties = [("state".into(), serde_bytes::ByteBuf::from(vec![1]))].into();
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
            command
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
    let properties = [("state".into(), serde_bytes::ByteBuf::from(vec![1]))].into();
    let command = Command {
        position: place(1),
        expires_at: None,
        properties,
    };
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
                command: command.clone()
            },
            Effect::Ready {
                replayed: 1,
                took: Duration::ZERO
            },
        ]
    );
    let shown = Input::Compared {
        link: "lamp".into(),
        shown: vec!["state".into()],
    };
    let done = Record::Done(vec![("lamp".into(), place(1))]);
    assert_eq!(
        told.tell(at(6), shown),
        [Effect::Append {
            first: 2,
            records: vec![done]
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
