//! Calls: `doses` is called by the cell, `asked` is where it is called.

use super::*;
use crate::state_saving::{CALLS_FROM, CallId, CallOutcome, CallWish, REPLY, Reply, Request};

const ASKED_FOR: &[u8] = &[5];

fn settings() -> CellSettings {
    let inbound = |name: &str, source: &str| InboundLink {
        id: id(name),
        source: id(source),
        kind: Source::Element,
    };
    let given = super::settings();
    CellSettings {
        inbound: [
            given.inbound,
            vec![inbound("doses.reply", "pump"), inbound("asked", "nurse")],
        ]
        .concat(),
        calls: vec![CallLink {
            id: id("doses"),
            replies: id("doses.reply"),
            port: "doses".into(),
            prefix: vec![0x81],
            reply_prefix: vec![0x82],
            within: Duration::from_micros(100),
        }],
        served: vec![ServedLink {
            id: id("asked"),
            replies: id("asked.reply"),
        }],
        ..given
    }
}

fn live() -> Told {
    let mut told = starting();
    told.tell(at(0), restored(vec![]));
    told
}

fn starting() -> Told {
    Told {
        cell: Cell::new(settings()),
        effects: vec![],
    }
}

fn call() -> Handled {
    wishing(CallWish::Call {
        port: "doses".into(),
        within: None,
        payload: ASKED_FOR.to_vec(),
        properties: Properties::new(),
    })
}

fn wishing(wish: CallWish) -> Handled {
    Handled {
        calls: vec![wish],
        ..Handled::default()
    }
}

fn handled(index: u64, handled: Handled) -> Input {
    Input::Handled { index, handled }
}

/// The place of the call that the handler of record `index` made.
fn called(index: u64) -> Position {
    Position::new(1, index, CALLS_FROM)
}

fn on(link: &str, position: Position, after: Position, payload: Vec<u8>) -> Input {
    let envelope = Envelope {
        position,
        after,
        occurred_at: WallClock(1),
        expires_at: None,
        causes: Causes::default(),
        payload,
    };
    Input::Received {
        link: id(link),
        envelopes: vec![envelope],
    }
}

fn reply_to(call: Position) -> Vec<u8> {
    let outcome = CallOutcome::Answered(vec![6]);
    Reply { call, outcome }.to_bytes()
}

fn appended(now: Now, last: u64) -> Input {
    Input::Appended {
        last,
        logged_at: now.wall,
    }
}

fn answered(effects: &[Effect]) -> Option<CallOutcome> {
    effects.iter().find_map(|effect| {
        let Effect::Handle(Task {
            input: TaskInput::Answer { outcome, .. },
            ..
        }) = effect
        else {
            return None;
        };
        Some(outcome.clone())
    })
}

/// What was sent on a link, as `(position, payload)`.
fn sent(effects: &[Effect], on: &str) -> Vec<(Position, Vec<u8>)> {
    let envelopes = effects.iter().filter_map(|effect| {
        let Effect::Send { link, envelopes } = effect else {
            return None;
        };
        (*link == id(on)).then_some(envelopes)
    });
    envelopes
        .flatten()
        .map(|envelope| (envelope.position, envelope.payload.clone()))
        .collect()
}

/// Handles the event at `index`, whose handler calls.
fn calling(told: &mut Told, index: u64) -> Vec<(Position, Vec<u8>)> {
    told.offered(at(1), index);
    sent(told.tell(at(1), handled(index, call())), "doses")
}

/// Receives the call of the nurse at `index` and logs it at `last`.
fn asked(told: &mut Told, index: u64, after: Position, last: u64) -> Vec<Effect> {
    let request = Request::Call(vec![7]).to_bytes();
    told.tell(at(1), on("asked", called(index), after, request));
    told.tell(at(1), appended(at(1), last)).to_vec()
}

fn asked_task(index: u64, replay: bool) -> Effect {
    Effect::Handle(Task {
        index,
        logged_at: WallClock(1),
        expired: false,
        left_out: false,
        replay,
        input: TaskInput::Call {
            id: EventId {
                source: id("nurse"),
                position: called(1),
            },
            occurred_at: WallClock(1),
            expires_at: None,
            payload: vec![7],
        },
    })
}

/// The call of the nurse at 1, as the log has it.
fn asked_record() -> Record {
    let request = Request::Call(vec![7]).to_bytes();
    Record::Event(Event {
        binding: id("asked"),
        id: EventId {
            source: id("nurse"),
            position: called(1),
        },
        after: Position::default(),
        occurred_at: WallClock(1),
        expires_at: None,
        causes: Causes::default(),
        payload: request,
    })
}

fn replying() -> Handled {
    Handled {
        reply: Some(CallOutcome::Answered(vec![8])),
        ..Handled::default()
    }
}

#[test]
fn a_call_leaves_without_a_broker_and_names_the_place_in_the_callers_log() {
    let mut told = live();
    let request = Request::Call(vec![0x81, 5]).to_bytes();
    assert_eq!(calling(&mut told, 1), [(called(1), request)]);
}

#[test]
fn the_reply_is_logged_and_acknowledged_before_its_caller_handles_it() {
    let mut told = live();
    calling(&mut told, 1);
    let place = Position::new(1, 4, REPLY);
    let reply = on(
        "doses.reply",
        place,
        Position::default(),
        reply_to(called(1)),
    );
    let effects = told.tell(at(2), reply).to_vec();
    assert!(
        matches!(&effects[..], [Effect::Append { first: 2, .. }]),
        "{effects:?}"
    );
    let answer = Task {
        index: 2,
        logged_at: WallClock(2),
        expired: false,
        left_out: false,
        replay: false,
        input: TaskInput::Answer {
            call: CallId::at(called(1)),
            outcome: CallOutcome::Answered(vec![6]),
            prefix: vec![0x82],
            id: EventId {
                source: id("pump"),
                position: place,
            },
            occurred_at: WallClock(1),
        },
    };
    let acknowledged = Effect::Acknowledge {
        link: id("doses.reply"),
        upto: place,
    };
    assert_eq!(
        told.tell(at(2), appended(at(2), 2)),
        [acknowledged, Effect::Handle(answer)]
    );
}

#[test]
fn a_call_in_flight_at_a_crash_is_sent_again_under_its_id() {
    let mut told = live();
    let before = calling(&mut told, 1);
    let mut told = starting();
    told.tell(at(9), restored(vec![batch(1, logged(1, 0, None))]));
    assert_eq!(sent(told.tell(at(9), handled(1, call())), "doses"), before);
}

#[test]
fn a_replay_gives_the_answer_from_the_log_and_asks_nobody() {
    let mut told = live();
    calling(&mut told, 1);
    let place = Position::new(1, 4, REPLY);
    let reply = on(
        "doses.reply",
        place,
        Position::default(),
        reply_to(called(1)),
    );
    let effects = told.tell(at(1), reply).to_vec();
    let [Effect::Append { records, .. }] = &effects[..] else {
        panic!("{effects:?}");
    };
    let log = vec![batch(1, logged(1, 0, None)), batch(2, records[0].clone())];
    let mut told = starting();
    told.tell(at(9), restored(log));
    let effects = told.tell(at(9), handled(1, call())).to_vec();
    assert_eq!(sent(&effects, "doses"), []);
    assert_eq!(answered(&effects), Some(CallOutcome::Answered(vec![6])));
}

#[test]
fn silence_ends_a_call_through_the_log_and_a_late_reply_changes_nothing() {
    let mut told = live();
    calling(&mut told, 1);
    let call = CallId::at(called(1));
    let ended = Record::CallEnded {
        call,
        outcome: CallOutcome::TimedOut,
    };
    assert!(told.wake(at(100)).is_empty());
    assert_eq!(
        told.wake(at(101)),
        [Effect::Append {
            first: 2,
            records: vec![ended],
        }]
    );
    assert!(told.wake(at(102)).is_empty());
    let effects = told.tell(at(102), appended(at(102), 2)).to_vec();
    assert_eq!(answered(&effects), Some(CallOutcome::TimedOut));
    told.tell(at(102), handled(2, Handled::default()));
    let place = Position::new(1, 4, REPLY);
    let reply = on(
        "doses.reply",
        place,
        Position::default(),
        reply_to(called(1)),
    );
    told.tell(at(103), reply);
    assert_eq!(answered(told.tell(at(103), appended(at(103), 3))), None);
    assert_eq!(told.cell.counters.late_replies, 1);
}

#[test]
fn a_call_beyond_the_limit_or_of_an_expired_event_is_not_sent_and_is_answered_all_the_same() {
    let mut told = live();
    let wish = || call().calls.remove(0);
    let wishes = (0..=crate::state_saving::OPEN_CALLS_MAX).map(|_| wish());
    let many = Handled {
        calls: wishes.collect(),
        ..Handled::default()
    };
    told.offered(at(1), 1);
    let effects = told.tell(at(1), handled(1, many)).to_vec();
    assert_eq!(
        sent(&effects, "doses").len(),
        crate::state_saving::OPEN_CALLS_MAX
    );
    let effects = told.tell(at(1), appended(at(1), 2)).to_vec();
    assert_eq!(answered(&effects), Some(CallOutcome::TooMany));

    let mut told = live();
    told.tell(at(5), received(1, 0, Some(WallClock(2))));
    told.tell(at(5), appended(at(5), 1));
    assert_eq!(sent(told.tell(at(5), handled(1, call())), "doses"), []);
    let effects = told.tell(at(5), appended(at(5), 2)).to_vec();
    assert_eq!(answered(&effects), Some(CallOutcome::TooLate));
}

#[test]
fn a_call_to_a_port_that_nothing_is_bound_to_fails_its_handler() {
    let mut told = live();
    told.offered(at(1), 1);
    let wish = CallWish::Call {
        port: "dooses".into(),
        within: None,
        payload: vec![],
        properties: Properties::new(),
    };
    assert_eq!(
        told.tell(at(1), handled(1, wishing(wish))),
        [Effect::Restore]
    );
}

#[test]
fn a_call_is_logged_before_it_is_carried_out_and_its_reply_stays_until_it_is_acknowledged() {
    let mut told = live();
    let effects = asked(&mut told, 1, Position::default(), 1);
    let acknowledged = Effect::Acknowledge {
        link: id("asked"),
        upto: called(1),
    };
    assert_eq!(effects, [acknowledged, asked_task(1, false)]);
    let reply = Reply {
        call: called(1),
        outcome: CallOutcome::Answered(vec![8]),
    };
    let place = Position::new(1, 1, REPLY);
    let sent_now = sent(told.tell(at(1), handled(1, replying())), "asked.reply");
    assert_eq!(sent_now, [(place, reply.to_bytes())]);
    let links = vec![id("asked.reply")];
    let again = sent(told.tell(at(2), Input::Reached { links }), "asked.reply");
    assert_eq!(again, sent_now);
    let link = id("asked.reply");
    told.tell(at(2), Input::Acknowledged { link, upto: place });
    assert_eq!(told.cell.unacknowledged(), 0);
}

#[test]
fn a_call_that_comes_again_is_not_carried_out_again() {
    let mut told = live();
    asked(&mut told, 1, Position::default(), 1);
    told.tell(at(1), handled(1, replying()));
    let request = Request::Call(vec![7]).to_bytes();
    let again = told.tell(at(2), on("asked", called(1), Position::default(), request));
    let acknowledged = Effect::Acknowledge {
        link: id("asked"),
        upto: called(1),
    };
    assert_eq!(again, [acknowledged]);
}

#[test]
fn a_call_whose_caller_no_longer_waits_is_not_carried_out() {
    let mut told = live();
    let envelope = Envelope {
        position: called(1),
        after: Position::default(),
        occurred_at: WallClock(1),
        expires_at: Some(WallClock(3)),
        causes: Causes::default(),
        payload: Request::Call(vec![7]).to_bytes(),
    };
    let link = id("asked");
    let envelopes = vec![envelope];
    told.tell(at(3), Input::Received { link, envelopes });
    let effects = told.tell(at(3), appended(at(3), 1)).to_vec();
    let reply = Reply {
        call: called(1),
        outcome: CallOutcome::TooLate,
    };
    let place = Position::new(1, 1, REPLY);
    assert_eq!(sent(&effects, "asked.reply"), [(place, reply.to_bytes())]);
}

#[test]
fn a_call_that_keeps_failing_is_answered_as_failed() {
    let mut told = live();
    asked(&mut told, 1, Position::default(), 1);
    let failed = || Input::HandlerFailed {
        index: 1,
        cause: "empty".into(),
    };
    let record = asked_record();
    let log = || vec![batch(1, record.clone())];
    told.tell(at(1), failed());
    assert_eq!(told.tell(at(1), restored(log())), [asked_task(1, true)]);
    told.tell(at(1), failed());
    let skipped = Record::Skipped {
        index: 1,
        cause: "empty".into(),
    };
    told.tell(at(1), appended(at(1), 2));
    told.wake(Now {
        monotonic: Monotonic(u64::MAX / 2),
        ..at(1)
    });
    let log = [log(), vec![batch(2, skipped)]].concat();
    let effects = told.tell(at(1), restored(log)).to_vec();
    let replies = sent(&effects, "asked.reply");
    let [(_, reply)] = &replies[..] else {
        panic!("{effects:?}");
    };
    assert!(matches!(
        Reply::from_bytes(reply).unwrap().outcome,
        CallOutcome::Failed(_)
    ));
}

#[test]
fn a_cancellation_follows_its_call_on_the_same_link() {
    let mut told = live();
    calling(&mut told, 1);
    told.offered(at(1), 2);
    let cancel = CallWish::Cancel(CallId::at(called(1)));
    let request = Request::Cancel(called(1)).to_bytes();
    assert_eq!(
        sent(told.tell(at(1), handled(2, wishing(cancel))), "doses"),
        [(called(2), request)]
    );
}

#[test]
fn a_call_that_waits_is_withdrawn_and_the_log_says_so_before_anything_after_it_is_handled() {
    let mut told = live();
    // The first call is being handled, so the second waits.
    asked(&mut told, 1, Position::default(), 1);
    asked(&mut told, 2, called(1), 2);
    let cancel = Request::Cancel(called(2)).to_bytes();
    let effects = told
        .tell(at(1), on("asked", called(3), called(2), cancel))
        .to_vec();
    let [Effect::Append { first: 3, records }] = &effects[..] else {
        panic!("{effects:?}");
    };
    let withdrawn = Record::Withdrawn {
        binding: id("asked"),
        call: called(2),
    };
    assert_eq!((records.len(), &records[0]), (2, &withdrawn));
    let effects = told.tell(at(1), handled(1, replying())).to_vec();
    assert_eq!(sent(&effects, "asked.reply").len(), 1);
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Handle(_)))
    );
    let effects = told.tell(at(1), appended(at(1), 4)).to_vec();
    let reply = Reply {
        call: called(2),
        outcome: CallOutcome::Cancelled,
    };
    let place = Position::new(1, 2, REPLY);
    assert_eq!(sent(&effects, "asked.reply"), [(place, reply.to_bytes())]);
}

#[test]
fn a_cancellation_that_comes_during_a_replay_withdraws_nothing_that_may_have_been_carried_out() {
    let mut told = live();
    asked(&mut told, 1, Position::default(), 1);
    let record = asked_record();
    let mut told = starting();
    told.tell(at(9), restored(vec![batch(1, record)]));
    let cancel = Request::Cancel(called(1)).to_bytes();
    told.tell(at(9), on("asked", called(2), called(1), cancel));
    let effects = told.tell(at(9), handled(1, replying())).to_vec();
    let reply = Reply {
        call: called(1),
        outcome: CallOutcome::Answered(vec![8]),
    };
    let place = Position::new(1, 1, REPLY);
    assert_eq!(sent(&effects, "asked.reply"), [(place, reply.to_bytes())]);
}
