//! A load on a stable store: elements that log batches of events as a host does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::physical_world::{Causes, EventId, Position};
use lamplighter_policies::state_saving::{Event, Record};
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::store::codec::encode_batch;
use lamplighter_runtime::store::{Delta, Fence, Nonce, StableStore, StoreError};
use tokio::task::{JoinSet, LocalSet};

/// The payload of one event, in bytes; with its identity and times a record is some 100 bytes more.
pub(crate) const PAYLOAD_BYTES: usize = 128;

/// How an element sends what it logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Events in one batch.
    pub(crate) batch: u64,
    /// Batches that may wait for their answer at a time.
    pub(crate) in_flight: usize,
}

/// An element that logs: its fence and how far its log goes.
#[derive(Clone)]
pub(crate) struct Writer {
    fence: Fence,
    head: u64,
}

impl Writer {
    /// Claims the element of this name.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn claim(store: &impl StableStore, name: &str) -> Result<Self, StoreError> {
        let element = EntityId::new(name).expect("names in this program are ids");
        let (fence, saved) = store.claim(&element, Nonce(rand::random()), 0).await?;
        let head = saved.head;
        Ok(Self { fence, head })
    }

    /// Proof of ownership.
    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The index of the last event whose logging was started.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Starts to log the next `count` events.
    pub(crate) fn append(
        &mut self,
        store: &impl StableStore,
        count: u64,
    ) -> impl Future<Output = Result<WallClock, StoreError>> + 'static {
        let records: Vec<_> = (1..=count).map(|n| event(self.head + n)).collect();
        let bytes = encode_batch(&self.fence.element, self.head + 1, &records);
        let expected = self.head;
        self.head += count;
        store.append(&self.fence, expected, self.head, bytes)
    }

    /// Trims the log, so that neither memory nor time of the next round depends on this one.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn trim(&self, store: &impl StableStore) -> Result<(), StoreError> {
        let upto = self.head;
        let delta = Delta {
            upto,
            ..Delta::default()
        };
        store.checkpoint(&self.fence, delta).await
    }
}

/// Events a second that the store makes durable while `writers` log as fast as it lets them.
///
/// # Errors
/// The first of any writer.
pub(crate) async fn events_per_second<S: StableStore + 'static>(
    store: &S,
    writers: &mut Vec<Writer>,
    shape: Shape,
    span: Duration,
) -> Result<f64, StoreError> {
    let begun = Instant::now();
    let end = begun + span;
    let tasks = LocalSet::new();
    let mut running = JoinSet::new();
    for writer in writers.drain(..) {
        running.spawn_local_on(keep_logging(store.clone(), writer, shape, end), &tasks);
    }
    let finished = tasks.run_until(running.join_all()).await;
    let spent = begun.elapsed().as_secs_f64();
    let mut logged = 0;
    for one in finished {
        let (writer, count) = one?;
        logged += count;
        writers.push(writer);
    }
    for writer in writers.iter() {
        writer.trim(store).await?;
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(logged as f64 / spent)
}

async fn keep_logging<S: StableStore>(
    store: S,
    mut writer: Writer,
    shape: Shape,
    end: Instant,
) -> Result<(Writer, u64), StoreError> {
    let mut waiting = VecDeque::with_capacity(shape.in_flight);
    let mut logged = 0;
    loop {
        while waiting.len() < shape.in_flight && Instant::now() < end {
            waiting.push_back(writer.append(&store, shape.batch));
        }
        match waiting.pop_front() {
            Some(oldest) => oldest.await?,
            None => return Ok((writer, logged)),
        };
        logged += shape.batch;
    }
}

/// An event as a binding brings it, different for each index.
fn event(index: u64) -> Record {
    let mut payload = vec![0; PAYLOAD_BYTES];
    for (place, byte) in payload.iter_mut().enumerate() {
        *byte = (index.wrapping_mul(31) >> (place % 8)) as u8 ^ place as u8;
    }
    let id = |name| EntityId::new(name).expect("names in this program are ids");
    Record::Event(Event {
        binding: id("motion"),
        id: EventId {
            source: id("hue-sense"),
            position: Position::new(1, index, 0),
        },
        after: Position::new(1, index - 1, 0),
        occurred_at: WallClock(1_700_000_000_000_000),
        expires_at: None,
        causes: Causes::default(),
        payload,
    })
}
