//! A life of the store with everything in it, what was asked and answered in it, and whether what
//! is found later agrees.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::store::embedded::Embedded;
use lamplighter_runtime::store::{Delta, Fence, Nonce, Saved, StableStore, StoredBatch};
use lamplighter_tests::simulated_disk::SimulatedDisk;
use serde_bytes::ByteBuf;

use super::{id, open, payload};

/// What was asked of an element, and what was answered.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    epoch: u64,
    /// Every batch that was ever sent; its time if it was acknowledged.
    batches: Vec<(StoredBatch, bool)>,
    /// Every checkpoint that was ever sent, with the fields it leaves; whether it was acknowledged.
    checkpoints: Vec<(u64, BTreeMap<String, ByteBuf>, bool)>,
    letters: Vec<(Vec<u8>, bool)>,
}

pub(crate) type Told = BTreeMap<EntityId, Asked>;

/// A life with everything in it: groups, checkpoints inside and between batches, segments that are
/// begun, emptied, used again and copied from, a new owner, dead letters, a close and a reopening.
/// Ends as soon as something is not done.
pub(crate) async fn live(disk: &SimulatedDisk, told: &mut Told) -> Option<()> {
    let store = open(disk).ok()?;
    let fast = claim(&store, told, "fast", 1).await?;
    let slow = claim(&store, told, "slow", 1).await?;
    append(&store, told, &slow, 2, 100, 3).await?;
    for round in 0..3 {
        append(&store, told, &fast, 3, 150, 4).await?;
        checkpoint(&store, told, &fast, 2, round).await?;
        append(&store, told, &slow, 1, 40, 1).await?;
        bury(&store, told, &fast, round).await?;
    }
    checkpoint(&store, told, &slow, 1, 9).await?;
    store.close().await;
    let store = open(disk).ok()?;
    let fast = claim(&store, told, "fast", 2).await?;
    for round in 0..6 {
        append(&store, told, &fast, 1, 1_200, 2).await?;
        checkpoint(&store, told, &fast, 0, round).await?;
    }
    append(&store, told, &fast, 2, 5_000, 1).await?;
    append(&store, told, &slow, 2, 60, 2).await?;
    checkpoint(&store, told, &slow, 0, 7).await?;
    store.close().await;
    Some(())
}

async fn claim(store: &Embedded, told: &mut Told, name: &str, nonce: u128) -> Option<Fence> {
    let claimed = store.claim(&id(name), Nonce(nonce), 0).await.ok();
    let (fence, _) = claimed?;
    told.entry(id(name)).or_default().epoch = fence.epoch;
    Some(fence)
}

/// Appends `count` batches of `records` records at once.
async fn append(
    store: &Embedded,
    told: &mut Told,
    fence: &Fence,
    count: u64,
    bytes: usize,
    records: u64,
) -> Option<()> {
    let asked = told.get_mut(&fence.element)?;
    let begin = asked.batches.len();
    let mut head = asked.batches.last().map_or(0, |(batch, _)| batch.last);
    let mut writes = Vec::new();
    for _ in 0..count {
        let last = head + records;
        let body = payload(&fence.element, head + 1, bytes);
        writes.push(store.append(fence, head, last, body.clone()));
        let logged_at = WallClock(0);
        asked.batches.push((
            StoredBatch {
                first: head + 1,
                last,
                logged_at,
                bytes: body,
            },
            false,
        ));
        head = last;
    }
    let mut all = Some(());
    for (answer, batch) in join_all(writes)
        .await
        .into_iter()
        .zip(&mut asked.batches[begin..])
    {
        match answer {
            Ok(at) => (batch.0.logged_at, batch.1) = (at, true),
            Err(_) => all = None,
        }
    }
    all
}

/// Checkpoints `back` before the head, with fields that tell which checkpoint it was.
async fn checkpoint(
    store: &Embedded,
    told: &mut Told,
    fence: &Fence,
    back: u64,
    round: u8,
) -> Option<()> {
    let asked = told.get_mut(&fence.element)?;
    let upto = asked.batches.last().map_or(0, |(batch, _)| batch.last) - back;
    let mut fields = asked
        .checkpoints
        .last()
        .map_or_else(BTreeMap::new, |last| last.1.clone());
    let set = vec![
        ("upto".to_owned(), ByteBuf::from(upto.to_string())),
        (format!("round {round}"), ByteBuf::from(vec![round; 700])),
    ];
    let delete = vec![format!("round {}", round.wrapping_sub(1))];
    fields.extend(set.clone());
    fields.remove(&delete[0]);
    asked.checkpoints.push((upto, fields, false));
    store
        .checkpoint(fence, Delta { upto, set, delete })
        .await
        .ok()?;
    asked.checkpoints.last_mut()?.2 = true;
    Some(())
}

async fn bury(store: &Embedded, told: &mut Told, fence: &Fence, letter: u8) -> Option<()> {
    let asked = told.get_mut(&fence.element)?;
    asked.letters.push((vec![letter], false));
    store.bury(fence, vec![letter]).await.ok()?;
    asked.letters.last_mut()?.1 = true;
    Some(())
}

/// Opens what was found and compares it with what was asked and answered; then goes on.
pub(crate) async fn check(disk: &SimulatedDisk, told: &Told, place: &str) {
    let store = open(disk).unwrap_or_else(|error| panic!("{place}: {error}"));
    let mut heads = Vec::new();
    for (element, asked) in told {
        let letters = store.dead_letters(element).await.unwrap();
        let sent: Vec<_> = asked
            .letters
            .iter()
            .map(|(letter, _)| letter.clone())
            .collect();
        let sure = asked.letters.iter().filter(|(_, done)| *done).count();
        assert!(
            letters == sent || letters == sent[..sure],
            "{place}: {letters:?}"
        );
        let claimed = store.claim(element, Nonce(99), 0).await;
        let (fence, saved) = claimed.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(fence.epoch > asked.epoch, "{place}: {fence:?}");
        compare(&saved, asked, &format!("{place}: {element}"));
        store
            .append(&fence, saved.head, saved.head + 1, vec![3; 10])
            .await
            .unwrap();
        heads.push((fence, saved.head + 1));
    }
    store.close().await;
    let store = open(disk).unwrap_or_else(|error| panic!("{place}, once more: {error}"));
    for (fence, head) in heads {
        assert_eq!(store.load(&fence).await.unwrap().head, head, "{place}");
    }
    store.close().await;
}

/// Whatever was acknowledged is there; whatever else is there was asked for, and is whole.
fn compare(saved: &Saved, asked: &Asked, place: &str) {
    let sure = asked.checkpoints.iter().rposition(|(_, _, done)| *done);
    let possible = &asked.checkpoints[sure.unwrap_or(0)..];
    let nothing = sure.is_none() && saved.checkpoint == 0 && saved.fields.is_empty();
    let known = possible
        .iter()
        .any(|(upto, fields, _)| (*upto, fields) == (saved.checkpoint, &saved.fields));
    assert!(
        nothing || known,
        "{place}: a checkpoint at {} that nobody made",
        saved.checkpoint
    );
    let acknowledged = asked.batches.iter().filter(|(_, done)| *done);
    let head_min = acknowledged.map(|(batch, _)| batch.last).max().unwrap_or(0);
    assert!(
        saved.head >= head_min,
        "{place}: {} < {head_min}",
        saved.head
    );
    let kept = |batch: &StoredBatch| batch.last > saved.checkpoint && batch.last <= saved.head;
    let expected: Vec<_> = asked
        .batches
        .iter()
        .filter(|(batch, _)| kept(batch))
        .zip(&saved.log)
        .map(|((batch, done), found)| StoredBatch {
            // Nobody was told the time of what was not acknowledged.
            logged_at: if *done {
                batch.logged_at
            } else {
                found.logged_at
            },
            ..batch.clone()
        })
        .collect();
    assert_eq!(saved.log, expected, "{place}");
    let end = saved
        .log
        .last()
        .map_or(saved.checkpoint, |batch| batch.last);
    assert_eq!(saved.head, end.max(saved.checkpoint), "{place}");
}
