//! Loading a log and folding it through the cell that hosts run, without a host around it.

use std::time::{Duration, Instant};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::physical_world::{Causes, EventId, Position};
use lamplighter_policies::protocol::cell::{
    Cell, CellSettings, Effect, Handled, InboundLink, Input, Meta, Restored, Source, Task,
    TaskInput,
};
use lamplighter_policies::state_saving::{Batch, Event, Record};
use lamplighter_runtime::clock::{self, Clock};
use lamplighter_runtime::message_pack;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::codec::{decode_batch, encode_batch};
use lamplighter_runtime::store::{Fence, Nonce, StableStore};

use crate::Outcome;
use crate::application::{Echo, Input as Told};
use crate::report::{Reach, Round, Row, Subject};
use crate::saving::ROUNDS;

const LONG: u64 = 50_000;
const BATCH: u64 = 16;

/// Events folded a second by the cell, from decoded batches to the state.
pub(crate) fn rate(rows: &mut Vec<Row>) -> Outcome<()> {
    let element = EntityId::new("folded")?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let log = (0..LONG / BATCH)
            .map(|n| Batch {
                first: n * BATCH + 1,
                logged_at: clock::wall(),
                records: records(n * BATCH + 1, BATCH),
            })
            .collect();
        let begun = Instant::now();
        let state = fold(&element, LONG, log)?;
        let took = begun.elapsed().as_secs_f64();
        if state.count != LONG {
            return Err(format!("{} of {LONG} events were folded", state.count).into());
        }
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        rounds.push(Round {
            value: LONG as f64 / took,
            limit: None,
        });
    }
    let subject = Subject {
        name: "events folded at replay, by the cell alone".to_owned(),
        unit: "events/s",
        limit_is: None,
        reach: Some(Reach::AtLeast(500_000.0)),
        conditions: format!(
            "the cell that hosts run, {LONG} events of 128 B, each decoded and added up; {ROUNDS} rounds"
        ),
    };
    rows.push(Row::of(subject, &rounds));
    Ok(())
}

/// An element of this program in the store of an application, with a log to load.
pub(crate) struct Shadow {
    store: AnyStore,
    fence: Fence,
    head: u64,
}

impl Shadow {
    /// Logs `count` events in batches of 16.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn log(store: AnyStore, count: u64) -> Outcome<Self> {
        let element = EntityId::new("shadow")?;
        let (fence, _) = store.claim(&element, Nonce(rand::random()), 0).await?;
        for n in 0..count / BATCH {
            let first = n * BATCH + 1;
            let bytes = encode_batch(&element, first, &records(first, BATCH));
            store
                .append(&fence, first - 1, first + BATCH - 1, bytes)
                .await?;
        }
        let head = count / BATCH * BATCH;
        Ok(Self { store, fence, head })
    }

    /// How long it takes to load the log and fold it.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn load_and_fold(&self) -> Outcome<Duration> {
        let element = &self.fence.element;
        let begun = Instant::now();
        let saved = self.store.load(&self.fence).await?;
        let log = saved.log.iter().map(|batch| decode_batch(element, batch));
        let state = fold(element, saved.head, log.collect::<Result<_, _>>()?)?;
        let took = begun.elapsed();
        if state.count != self.head {
            return Err(format!("{} of {} events were folded", state.count, self.head).into());
        }
        Ok(took)
    }
}

/// Folds a log through a cell, as a host does, with a handler that adds up.
fn fold(element: &EntityId, head: u64, log: Vec<Batch>) -> Outcome<Echo> {
    let mut settings = CellSettings::new(element.clone());
    settings.inbound.push(InboundLink {
        id: EntityId::new("in")?,
        source: EntityId::new("in")?,
        kind: Source::Device,
    });
    let mut cell = Cell::new(settings);
    let mut state = Echo::default();
    let mut effects = Vec::new();
    let clock = Clock::default();
    let restored = Restored {
        checkpoint: 0,
        head,
        meta: Meta::default(),
        log,
        stable: head,
    };
    cell.handle(clock.now(), Input::Restored(restored), &mut effects);
    while let Some(effect) = effects.pop() {
        if let Effect::Handle(task) = effect {
            let index = task.index;
            handle(&mut state, task)?;
            let handled = Handled::default();
            cell.handle(clock.now(), Input::Handled { index, handled }, &mut effects);
        }
    }
    Ok(state)
}

fn handle(state: &mut Echo, task: Task) -> Outcome<()> {
    let (TaskInput::Event { payload, .. } | TaskInput::Timer { payload, .. }) = task.input else {
        panic!("nobody calls here")
    };
    let Told::Tick { n, .. } = message_pack::decode(&payload)?;
    state.fold(n);
    Ok(())
}

fn records(first: u64, count: u64) -> Vec<Record> {
    let id = |name| EntityId::new(name).expect("names in this program are ids");
    let record = |n| {
        let mut payload = Vec::new();
        let text = "x".repeat(106);
        message_pack::encode_into(&mut payload, &Told::Tick { n, text }).expect("an event encodes");
        Record::Event(Event {
            binding: id("in"),
            id: EventId {
                source: id("in"),
                position: Position::new(0, n, 0),
            },
            after: Position::default(),
            occurred_at: clock::wall(),
            expires_at: None,
            causes: Causes::default(),
            payload,
        })
    };
    (first..first + count).map(record).collect()
}
