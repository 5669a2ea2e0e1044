use lamplighter_policies::state_saving::{Lost, Record};
use tempfile::TempDir;

use super::*;
use crate::store::embedded::{Embedded, Options};

/// A stable store, and the storage of one server.
struct Bench {
    directory: TempDir,
    stable: Embedded,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let stable = directory.path().join("stable");
        let stable = Embedded::open(&stable, Options::default()).unwrap();
        Self { directory, stable }
    }

    /// Another process on the same server.
    async fn start(&self) -> (LocalFirst<Embedded>, Fence, Saved) {
        let place = LocalPlace {
            server: EntityId::new("pi").unwrap(),
            directory: self.directory.path().join("local"),
            durability: Durability::Required,
            clock: Clock::default(),
        };
        let store = LocalFirst::new(self.stable.clone(), place, Timing::Optimistic);
        let nonce = Nonce(rand::random());
        let (fence, saved) = store.claim(&counter(), nonce, 0).await.unwrap();
        (store, fence, saved)
    }
}

fn counter() -> EntityId {
    EntityId::new("counter").unwrap()
}

/// A batch of one record that says where it is.
fn batch(index: u64) -> Vec<u8> {
    codec::encode_batch(&counter(), index, &[record(index)])
}

fn record(index: u64) -> Record {
    Record::Skipped {
        index,
        cause: "it failed".to_owned(),
    }
}

fn records(saved: &Saved) -> Vec<Record> {
    let decoded = |batch| codec::decode_batch(&counter(), batch).unwrap().records;
    saved.log.iter().flat_map(decoded).collect()
}

async fn append(store: &LocalFirst<Embedded>, fence: &Fence, index: u64) {
    let appended = store.append(fence, index - 1, index, batch(index)).await;
    assert!(appended.is_ok(), "{appended:?}");
}

#[tokio::test]
async fn what_is_logged_after_a_recorded_loss_outlives_the_next_crash() {
    let bench = Bench::new();
    let (store, fence, _) = bench.start().await;
    append(&store, &fence, 1).await;
    store.flush(&fence).await.unwrap();
    // The server's disk forgets what the stable store has.
    bench.stable.append(&fence, 1, 2, batch(2)).await.unwrap();
    store.release().await;

    let (store, fence, saved) = bench.start().await;
    let told = records(&saved);
    let [first, second, Record::Lost(lost)] = &told[..] else {
        panic!("no loss is told: {told:?}");
    };
    assert_eq!([first, second], [&record(1), &record(2)]);
    let Lost { lineage, from, .. } = *lost;
    assert_eq!((lineage, from), (2, 3));
    append(&store, &fence, 4).await;
    store.release().await;

    let (store, _, saved) = bench.start().await;
    let expected = [told, vec![record(4)]].concat();
    assert_eq!(records(&saved), expected);
    store.release().await;
}

#[tokio::test]
async fn what_was_read_before_a_flush_is_not_joined_to_what_is_local_after_it() {
    let bench = Bench::new();
    let (store, fence, _) = bench.start().await;
    append(&store, &fence, 1).await;
    let before = bench.stable.load(&fence).await.unwrap();
    store.flush(&fence).await.unwrap();
    append(&store, &fence, 2).await;

    let joined = store.whole(&counter(), before);
    assert!(
        matches!(joined, Err(StoreError::Unavailable { .. })),
        "{joined:?}"
    );
    let again = store.load(&fence).await.unwrap();
    assert_eq!(records(&again), [record(1), record(2)]);
    store.release().await;
}
