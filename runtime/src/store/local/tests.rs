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

impl Bench {
    /// The segments of the local log, oldest first.
    fn segments(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path().join("local")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_segment = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("segment-")
        };
        let mut segments: Vec<_> = paths.filter(is_segment).collect();
        segments.sort();
        segments
    }

    /// How many logs that could not be read were kept for people.
    fn set_aside(&self) -> usize {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_str().unwrap().starts_with("local.damaged-"))
            .count()
    }

    /// Logs `count` batches of so many bytes that the stable store never hears of, and ends.
    async fn ahead(&self, count: u64, bytes: usize) {
        let (store, fence, _) = self.start().await;
        for index in 1..=count {
            let batch = long(index, bytes);
            let batch = codec::encode_batch(&counter(), index, &[batch]);
            store.append(&fence, index - 1, index, batch).await.unwrap();
        }
        store.release().await;
    }
}

fn long(index: u64, bytes: usize) -> Record {
    Record::Skipped {
        index,
        cause: "x".repeat(bytes),
    }
}

/// Where in a file these bytes are.
fn position(bytes: &[u8], sought: &[u8]) -> usize {
    let mut windows = bytes.windows(sought.len());
    windows.position(|window| window == sought).unwrap()
}

#[tokio::test]
async fn a_write_that_was_torn_is_as_if_it_had_never_begun() {
    let bench = Bench::new();
    bench.ahead(3, 100).await;
    let [segment] = &bench.segments()[..] else {
        panic!("one segment: {:?}", bench.segments());
    };
    // Only the first half of the last record reached the disk.
    let mut bytes = std::fs::read(segment).unwrap();
    let payload = [b'x'; 100];
    let first = position(&bytes, &payload) + 100;
    let second = first + position(&bytes[first..], &payload) + 100;
    let third = second + position(&bytes[second..], &payload);
    bytes[third + 50..].fill(0);
    std::fs::write(segment, bytes).unwrap();
    let (store, fence, saved) = bench.start().await;
    let kept = [long(1, 100), long(2, 100)];
    assert_eq!(records(&saved), kept);
    assert_eq!(bench.set_aside(), 0);
    append(&store, &fence, 3).await;
    store.release().await;
    let (store, _, saved) = bench.start().await;
    assert_eq!(records(&saved), [&kept[..], &[record(3)]].concat());
    store.release().await;
}

#[tokio::test]
async fn a_byte_that_changed_in_the_middle_is_a_loss_from_there_on_and_said_so() {
    let bench = Bench::new();
    bench.ahead(3, 100).await;
    let segment = bench.segments().remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let first = position(&bytes, &[b'x'; 100]);
    let second = first + 100 + position(&bytes[first + 100..], &[b'x'; 100]);
    bytes[second + 7] ^= 1;
    std::fs::write(segment, bytes).unwrap();
    let (store, fence, saved) = bench.start().await;
    let told = records(&saved);
    let [first, Record::Lost(lost)] = &told[..] else {
        panic!("no loss is told: {told:?}");
    };
    assert_eq!((first, lost.lineage, lost.from), (&long(1, 100), 2, 2));
    assert!(
        lost.reason.starts_with("the local log of server pi: "),
        "{}",
        lost.reason
    );
    assert_eq!(bench.set_aside(), 1);
    append(&store, &fence, 3).await;
    store.release().await;
    let (store, _, saved) = bench.start().await;
    assert_eq!(records(&saved), [told, vec![record(3)]].concat());
    store.release().await;
}

#[tokio::test]
async fn a_segment_that_is_missing_is_a_loss_from_there_on_and_said_so() {
    let bench = Bench::new();
    let (count, bytes) = (40, 20_000);
    bench.ahead(count, bytes).await;
    let segments = bench.segments();
    assert!(segments.len() > 2, "{segments:?}");
    std::fs::remove_file(&segments[1]).unwrap();
    let (store, _, saved) = bench.start().await;
    let told = records(&saved);
    let Some((Record::Lost(lost), before)) = told.split_last() else {
        panic!("no loss is told: {} records", told.len());
    };
    let kept: Vec<_> = (1..lost.from).map(|index| long(index, bytes)).collect();
    assert!(lost.from > 1 && lost.from < count, "from {}", lost.from);
    assert!(before == kept, "{} records before the loss", before.len());
    assert_eq!(bench.set_aside(), 1);
    store.release().await;
}
