use std::collections::BTreeMap;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Value as Plain;
use lamplighter_policies::physical_world::Kind as Happened;
use lamplighter_policies::physical_world::{Causes, EventId, Position};
use lamplighter_policies::protocol::cell::Meta;
use lamplighter_policies::state_saving::{
    Event as Logged, Record, Timed, Timer, TimerChange, Timers,
};
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::store::{StoredBatch, codec};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::json;

use super::*;
use crate::author::{Context, Element, Event, Failure, Outcome, Output};
use crate::instance::{Instance, accepts};
use crate::spec::{BrokerAccess, StoreAccess};

const SUM: Output<u64> = Output::new("sum");

#[derive(Serialize, Deserialize)]
enum Input {
    Add(u64),
    Fail,
    Ring,
}

#[derive(Serialize, Deserialize)]
struct Counter {
    sum: u64,
    rings: u64,
}

impl Element for Counter {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Add(more) => self.sum += more,
            Input::Fail => return Err(Failure::new("it always fails")),
            Input::Ring => self.rings += 1,
        }
        ctx.emit(SUM, self.sum);
        Ok(())
    }
}

#[test]
fn the_log_is_folded_into_the_checkpoint() {
    let saved = saved(
        &state(40),
        &Meta::default(),
        3,
        vec![vec![add(4, 1)], vec![add(5, 1)]],
    );
    assert_eq!(state_of(&saved), (json!({ "sum": 42, "rings": 0 }), vec![]));
}

#[test]
fn what_was_never_saved_is_the_first_state_of_the_topology() {
    let saved = Saved::default();
    assert_eq!(state_of(&saved), (json!({ "sum": 7, "rings": 0 }), vec![]));
}

#[test]
fn records_that_were_given_up_are_left_out() {
    let skipped = Record::Skipped {
        index: 1,
        cause: "it panicked".into(),
    };
    let log = vec![vec![add(1, 100), add(2, 1), skipped]];
    let saved = saved(&SavedFields::new(), &Meta::default(), 0, log);
    assert_eq!(state_of(&saved), (json!({ "sum": 8, "rings": 0 }), vec![]));
}

#[test]
fn an_input_that_fails_is_left_out_as_its_host_will() {
    let fail = event(2, &Input::Fail);
    let log = vec![vec![add(1, 1), fail], vec![add(3, 1)]];
    let saved = saved(&SavedFields::new(), &Meta::default(), 0, log);
    let (state, left_out) = state_of(&saved);
    assert_eq!(state, json!({ "sum": 9, "rings": 0 }));
    let causes: Vec<_> = left_out
        .iter()
        .map(|(index, cause)| (*index, cause.contains("it always fails")))
        .collect();
    assert_eq!(causes, [(2, true)]);
}

#[test]
fn a_timer_that_was_replaced_does_not_stand() {
    let mut timers = Timers::default();
    let timer = |due_at| Timer {
        due_at: WallClock(due_at),
        expires_at: None,
        missed: lamplighter_policies::state_saving::Missed::Fire,
        payload: encoded(&Input::Ring),
    };
    timers.change(TimerChange::Set("bell".into(), timer(20)));
    let meta = Meta {
        lineage: 1,
        timers,
        ..Meta::default()
    };
    let fired = |due_at| {
        Record::Timer(Timed {
            key: "bell".into(),
            due_at: WallClock(due_at),
            expires_at: None,
            payload: encoded(&Input::Ring),
        })
    };
    let log = vec![vec![fired(10), fired(20), fired(20)]];
    let saved = saved(&state(0), &meta, 3, log);
    assert_eq!(state_of(&saved), (json!({ "sum": 0, "rings": 1 }), vec![]));
}

#[test]
fn what_a_device_said_is_known_of_the_world_wherever_the_log_is_folded() {
    let log = vec![vec![add(1, 21)], vec![add(2, 22)]];
    let saved = saved(&state(0), &Meta::default(), 0, log);
    let world = folded(&kind(), &spec(), &saved).unwrap().world;
    let known: Vec<_> = world
        .entries()
        .filter(|(_, entry)| entry.kind == Happened::Sensed)
        .map(|(_, entry)| (entry.event.position, entry.value.clone()))
        .collect();
    // The newest overrides the one before.
    assert_eq!(known, [(Position::new(1, 2, 0), Plain::Integer(22))]);
}

#[test]
fn damage_is_told_and_not_folded() {
    let mut saved = saved(&state(1), &Meta::default(), 0, vec![vec![add(1, 1)]]);
    saved.log[0].bytes[9] ^= 1;
    let refused = folded(&kind(), &spec(), &saved).unwrap_err();
    assert!(refused.contains("damaged"), "{refused}");
}

fn state_of(saved: &Saved) -> (serde_json::Value, Vec<(u64, String)>) {
    let FoldedState {
        state, left_out, ..
    } = folded(&kind(), &spec(), saved).unwrap();
    (state, left_out)
}

fn kind() -> Kind {
    Kind {
        make: |id, initial, ports| Box::new(Instance::<Counter>::new(id, initial, ports)),
        is_callable: false,
        accepts: accepts::<Counter>,
    }
}

fn spec() -> ElementSpec {
    let text = r#"
        [application]
        name = "home"
        [servers.pc]
        storage = "volatile"
        [elements.counter]
        kind = "Counter"
        server = "pc"
        state = { sum = 7, rings = 0 }
        inputs = { "home/add" = "Add" }
        outputs = { sum = { topic = "home/sum" } }
    "#;
    let topology = lamplighter_config::parse("home.toml", text)
        .unwrap()
        .topology;
    let broker = BrokerAccess {
        url: String::new(),
        user: None,
        password: None,
    };
    let store = StoreAccess::Served {
        address: String::new(),
        token: String::new(),
    };
    ElementSpec::of(&topology, &counter(), &broker, &store, false).unwrap()
}

fn counter() -> EntityId {
    EntityId::new("counter").unwrap()
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    Encoded::of(value).unwrap().into_bytes()
}

fn state(sum: u64) -> SavedFields {
    [("sum", sum), ("rings", 0)]
        .map(|(name, value)| (name.to_owned(), encoded(&value)))
        .into()
}

fn add(index: u64, more: u64) -> Record {
    event(index, &Input::Add(more))
}

fn event(index: u64, input: &Input) -> Record {
    let link = spec().bindings.keys().next().unwrap().clone();
    Record::Event(Logged {
        binding: link.clone(),
        id: EventId {
            source: link,
            position: Position::new(1, index, 0),
        },
        after: Position::new(1, index - 1, 0),
        occurred_at: WallClock(0),
        expires_at: None,
        causes: Causes::default(),
        payload: encoded(input),
    })
}

/// As the store would keep it: the fields of a checkpoint and batches after it.
fn saved(state: &SavedFields, meta: &Meta, checkpoint: u64, batches: Vec<Vec<Record>>) -> Saved {
    let all = match state.is_empty() {
        true => SavedFields::new(),
        false => saved::fields(state.clone(), meta),
    };
    let seal = |(name, bytes): (String, Vec<u8>)| {
        let sealed = codec::encode_field(&counter(), &name, &bytes);
        (name, ByteBuf::from(sealed))
    };
    let mut head = checkpoint;
    let mut log = Vec::new();
    for records in batches {
        let first = head + 1;
        head += records.len() as u64;
        log.push(StoredBatch {
            first,
            last: head,
            logged_at: WallClock(1_000),
            bytes: codec::encode_batch(&counter(), first, &records),
        });
    }
    Saved {
        head,
        checkpoint,
        fields: all.into_iter().map(seal).collect::<BTreeMap<_, _>>(),
        log,
        read_at: WallClock(1_000),
    }
}
