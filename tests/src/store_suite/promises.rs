//! The promises, one function each.

#![expect(clippy::unwrap_used, reason = "these are the bodies of tests")]

use futures_util::future::join_all;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::store::{
    BATCH_BYTES_MAX, DEAD_LETTERS_MAX, Fence, Nonce, Saved, StableStore, StoreError, StoredBatch,
};

use super::{Harness, batch, claimed, delta, element, fields, timeless};

/// A claim answers with an epoch that nobody had before, above the floor.
pub async fn a_claim_raises_the_epoch_above_the_floor_and_every_earlier_one(
    harness: &mut impl Harness,
) {
    let store = harness.connect().await;
    let lamp = element("claim.epochs");
    let mut epochs = Vec::new();
    for (nonce, floor) in [(1, 0), (2, 0), (3, 40), (4, 7), (u128::MAX, 0)] {
        let (fence, saved) = store.claim(&lamp, Nonce(nonce), floor).await.unwrap();
        assert_eq!((&fence.element, fence.nonce), (&lamp, Nonce(nonce)));
        assert_eq!(timeless(saved), Saved::default());
        epochs.push((floor, fence.epoch));
    }
    assert_eq!(epochs, [(0, 1), (0, 2), (40, 41), (7, 42), (0, 43)]);
}

/// The answer to a claim may be lost: the same claim again gives the same ownership.
pub async fn claiming_again_with_the_same_nonce_changes_nothing(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "claim.again", 1).await;
    store.append(&fence, 0, 2, b"one".to_vec()).await.unwrap();
    let other = harness.connect().await;
    let (again, saved) = other.claim(&fence.element, Nonce(1), 99).await.unwrap();
    assert_eq!(again, fence);
    assert_eq!(timeless(saved), logged(2, vec![batch(1, 2, b"one")]));
    store.append(&fence, 2, 3, b"two".to_vec()).await.unwrap();
}

/// Several batches in flight keep the order of the calls, and times never go back.
pub async fn batches_started_in_order_are_kept_in_order(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "append.order", 1).await;
    let mut expected = Vec::new();
    let mut writes = Vec::new();
    let mut head = 0;
    for length in (1..=5).cycle().take(50) {
        let bytes = vec![7; usize::try_from(head).unwrap()];
        expected.push(batch(head + 1, head + length, &bytes));
        writes.push(store.append(&fence, head, head + length, bytes));
        head += length;
    }
    let taken: Vec<WallClock> = join_all(writes)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let saved = store.load(&fence).await.unwrap();
    let kept: Vec<WallClock> = saved.log.iter().map(|batch| batch.logged_at).collect();
    assert_eq!(kept, taken);
    assert!(taken.is_sorted(), "{taken:?}");
    assert!(saved.read_at >= taken[49]);
    assert_eq!(timeless(saved), logged(head, expected));
}

/// Calling is enough: whoever forgets the answer has written all the same.
pub async fn an_append_is_started_by_the_call_and_not_by_the_wait(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "append.started", 1).await;
    let first = store.append(&fence, 0, 1, b"one".to_vec());
    let second = store.append(&fence, 1, 2, b"two".to_vec());
    drop(store.append(&fence, 2, 3, b"three".to_vec()));
    let fourth = store.append(&fence, 3, 4, b"four".to_vec());
    fourth.await.unwrap();
    second.await.unwrap();
    first.await.unwrap();
    let log = vec![
        batch(1, 1, b"one"),
        batch(2, 2, b"two"),
        batch(3, 3, b"three"),
        batch(4, 4, b"four"),
    ];
    assert_eq!(timeless(store.load(&fence).await.unwrap()), logged(4, log));
}

/// The answer to an append may be lost: the same batch again is recognised, wherever it lies.
pub async fn a_batch_sent_again_answers_when_it_was_first_taken(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "append.again", 1).await;
    let first = store.append(&fence, 0, 2, b"one".to_vec()).await.unwrap();
    assert_eq!(store.append(&fence, 0, 2, b"one".to_vec()).await, Ok(first));
    let second = store.append(&fence, 2, 5, b"two".to_vec()).await.unwrap();
    let other = harness.connect().await;
    assert_eq!(other.append(&fence, 0, 2, b"one".to_vec()).await, Ok(first));
    assert_eq!(
        store.append(&fence, 2, 5, b"two".to_vec()).await,
        Ok(second)
    );
    let log = vec![batch(1, 2, b"one"), batch(3, 5, b"two")];
    assert_eq!(timeless(store.load(&fence).await.unwrap()), logged(5, log));
}

/// What would leave a hole, or lie across what is there, is refused and not written.
pub async fn a_batch_that_does_not_begin_after_the_head_is_a_gap(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "append.gap", 1).await;
    let gap = |head| StoreError::Gap {
        element: fence.element.clone(),
        head,
    };
    assert_eq!(
        store.append(&fence, 1, 2, b"far".to_vec()).await,
        Err(gap(0))
    );
    store.append(&fence, 0, 3, b"one".to_vec()).await.unwrap();
    // Ahead, overlapping the end, inside, and a longer form of what is there.
    for (expected_head, last) in [(4, 5), (2, 4), (1, 2), (0, 4)] {
        let refused = store
            .append(&fence, expected_head, last, b"far".to_vec())
            .await;
        assert_eq!(refused, Err(gap(3)), "{expected_head} ..= {last}");
    }
    // One refusal refuses all that were started behind it.
    let behind = [
        store.append(&fence, 4, 5, b"far".to_vec()),
        store.append(&fence, 5, 6, b"far".to_vec()),
    ];
    assert_eq!(join_all(behind).await, [Err(gap(3)), Err(gap(3))]);
    let saved = timeless(store.load(&fence).await.unwrap());
    assert_eq!(saved, logged(3, vec![batch(1, 3, b"one")]));
}

/// A batch has a greatest size; the largest is taken, one byte more is not.
pub async fn a_batch_over_the_limit_is_refused_and_leaves_nothing(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "append.limit", 1).await;
    let refused = store
        .append(&fence, 0, 1, vec![1; BATCH_BYTES_MAX + 1])
        .await;
    assert!(
        matches!(refused, Err(StoreError::Refused { .. })),
        "{refused:?}"
    );
    let largest = vec![2; BATCH_BYTES_MAX];
    store.append(&fence, 0, 1, largest.clone()).await.unwrap();
    let saved = timeless(store.load(&fence).await.unwrap());
    assert!(
        saved == logged(1, vec![batch(1, 1, &largest)]),
        "the largest batch is not whole"
    );
}

/// After a claim, nothing of the former owner's is done, whatever it asks.
pub async fn a_former_owner_can_neither_write_nor_read(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (old, _) = claimed(&store, "fence.former", 1).await;
    store.append(&old, 0, 1, b"one".to_vec()).await.unwrap();
    let (new, _) = claimed(&store, "fence.former", 2).await;
    // The same epoch with another nonce, and the same nonce with another epoch, own nothing.
    let impostors = [
        old.clone(),
        Fence {
            nonce: Nonce(1),
            ..new.clone()
        },
        Fence {
            epoch: new.epoch + 1,
            ..new.clone()
        },
    ];
    for fence in impostors {
        let fenced = StoreError::Fenced {
            element: new.element.clone(),
            epoch: new.epoch,
        };
        let write = store.append(&fence, 1, 2, b"late".to_vec()).await;
        assert_eq!(write, Err(fenced.clone()));
        // Also what would be recognised as done, and what would be a gap.
        let again = store.append(&fence, 0, 1, b"one".to_vec()).await;
        assert_eq!(again, Err(fenced.clone()));
        let gap = store.append(&fence, 7, 8, b"late".to_vec()).await;
        assert_eq!(gap, Err(fenced.clone()));
        let fold = store
            .checkpoint(&fence, delta(1, &[("a", b"late")], &[]))
            .await;
        assert_eq!(fold, Err(fenced.clone()));
        assert_eq!(store.load(&fence).await, Err(fenced.clone()));
        assert_eq!(store.prove(&fence).await, Err(fenced.clone()));
        assert_eq!(store.bury(&fence, b"late".to_vec()).await, Err(fenced));
    }
    let saved = timeless(store.load(&new).await.unwrap());
    assert_eq!(saved, logged(1, vec![batch(1, 1, b"one")]));
    assert_eq!(store.dead_letters(&new.element).await, Ok(vec![]));
}

/// An owner proves itself and reads the store's clock; that changes nothing.
pub async fn an_owner_proves_itself_and_reads_the_stores_clock(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "prove.owner", 1).await;
    let first = store.prove(&fence).await.unwrap();
    let logged_at = store.append(&fence, 0, 1, b"one".to_vec()).await.unwrap();
    let second = store.prove(&fence).await.unwrap();
    assert!(
        [first, logged_at, second].is_sorted(),
        "{first:?} {logged_at:?} {second:?}"
    );
    let saved = timeless(store.load(&fence).await.unwrap());
    assert_eq!(saved, logged(1, vec![batch(1, 1, b"one")]));
}

/// A fence for an element that the store does not know is refused, with epoch 0.
pub async fn nobody_can_write_to_what_was_never_claimed(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let fence = Fence {
        element: element("fence.unknown"),
        epoch: 1,
        nonce: Nonce(1),
    };
    let fenced = StoreError::Fenced {
        element: fence.element.clone(),
        epoch: 0,
    };
    let write = store.append(&fence, 0, 1, b"one".to_vec()).await;
    assert_eq!(write, Err(fenced.clone()));
    let fold = store.checkpoint(&fence, delta(0, &[], &[])).await;
    assert_eq!(fold, Err(fenced.clone()));
    assert_eq!(store.load(&fence).await, Err(fenced.clone()));
    assert_eq!(store.bury(&fence, vec![]).await, Err(fenced));
    assert_eq!(store.summary(&fence.element).await, Ok(None));
    assert_eq!(store.dead_letters(&fence.element).await, Ok(vec![]));
}

/// A claim in the middle of writes: all before it are in what it answers, none after it is kept.
pub async fn a_claim_during_writes_parts_them_into_kept_and_fenced(harness: &mut impl Harness) {
    let writer = harness.connect().await;
    let claimer = harness.connect().await;
    for round in 0..10 {
        let name = format!("claim.during.{round}");
        let (old, _) = claimed(&writer, &name, 1).await;
        let writes: Vec<_> = (0..40)
            .map(|head| writer.append(&old, head, head + 1, vec![9; 100]))
            .collect();
        let (answers, (new, saved)) = tokio::join!(join_all(writes), claimed(&claimer, &name, 2));
        let kept = answers.iter().take_while(|answer| answer.is_ok()).count() as u64;
        let fenced = StoreError::Fenced {
            element: element(&name),
            epoch: new.epoch,
        };
        for answer in answers.iter().skip_while(|answer| answer.is_ok()) {
            assert_eq!(answer, &Err(fenced.clone()));
        }
        let log = (1..=kept)
            .map(|index| batch(index, index, &[9; 100]))
            .collect();
        assert_eq!(timeless(saved), logged(kept, log));
        let after = claimer.load(&new).await.unwrap();
        assert_eq!(after.head, kept);
        claimer
            .append(&new, kept, kept + 1, b"new".to_vec())
            .await
            .unwrap();
    }
}

/// Fields are folded, and the log keeps exactly the batches with records after the checkpoint.
pub async fn a_checkpoint_folds_and_trims_at_every_index(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let batches = [batch(1, 3, b"a"), batch(4, 4, b"b"), batch(5, 7, b"c")];
    for upto in 0..=7 {
        let (fence, _) = claimed(&store, &format!("checkpoint.at.{upto}"), 1).await;
        for one in &batches {
            let write = store.append(&fence, one.first - 1, one.last, one.bytes.clone());
            write.await.unwrap();
        }
        let first = delta(0, &[("kept", b"1"), ("changed", b"2"), ("gone", b"3")], &[]);
        store.checkpoint(&fence, first).await.unwrap();
        let second = delta(upto, &[("changed", b"4"), ("new", b"")], &["gone", "never"]);
        store.checkpoint(&fence, second).await.unwrap();
        let expected = Saved {
            head: 7,
            checkpoint: upto,
            fields: fields(&[("kept", b"1"), ("changed", b"4"), ("new", b"")]),
            log: batches
                .iter()
                .filter(|one| one.last > upto)
                .cloned()
                .collect(),
            read_at: WallClock(0),
        };
        assert_eq!(
            timeless(store.load(&fence).await.unwrap()),
            expected,
            "up to {upto}"
        );
        store.append(&fence, 7, 8, b"d".to_vec()).await.unwrap();
    }
}

/// The answer to a checkpoint may be lost: the same again is harmless.
pub async fn a_checkpoint_sent_again_changes_nothing(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "checkpoint.again", 1).await;
    store.append(&fence, 0, 4, b"a".to_vec()).await.unwrap();
    let change = delta(2, &[("x", b"1")], &["y"]);
    store.checkpoint(&fence, change.clone()).await.unwrap();
    let once = timeless(store.load(&fence).await.unwrap());
    store.checkpoint(&fence, change).await.unwrap();
    assert_eq!(timeless(store.load(&fence).await.unwrap()), once);
}

/// A checkpoint may neither go back nor claim to cover what was not logged.
pub async fn a_checkpoint_before_the_last_or_after_the_head_is_a_gap(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "checkpoint.gap", 1).await;
    store.append(&fence, 0, 4, b"a".to_vec()).await.unwrap();
    store
        .checkpoint(&fence, delta(3, &[("x", b"1")], &[]))
        .await
        .unwrap();
    let before = timeless(store.load(&fence).await.unwrap());
    let gap = Err(StoreError::Gap {
        element: fence.element.clone(),
        head: 4,
    });
    for upto in [0, 2, 5, 500] {
        let refused = store
            .checkpoint(&fence, delta(upto, &[("x", b"2")], &[]))
            .await;
        assert_eq!(refused, gap, "up to {upto}");
    }
    assert_eq!(timeless(store.load(&fence).await.unwrap()), before);
}

/// More than any single message could carry is saved and read back whole.
pub async fn large_fields_and_batches_come_back_whole(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "large", 1).await;
    let mut expected = Saved::default();
    for part in 0..3_u8 {
        let (left, right) = (vec![part; 3 << 20], vec![part ^ 0xff; (3 << 20) + 1]);
        let (left_name, right_name) = (format!("left {part}"), format!("right {part}"));
        let pairs = [(left_name.as_str(), left.as_slice()), (&right_name, &right)];
        store
            .checkpoint(&fence, delta(0, &pairs, &[]))
            .await
            .unwrap();
        expected.fields.extend(fields(&pairs));
        let (head, bytes) = (u64::from(part), vec![part; 2 << 20]);
        store
            .append(&fence, head, head + 1, bytes.clone())
            .await
            .unwrap();
        expected.log.push(batch(head + 1, head + 1, &bytes));
        expected.head = head + 1;
    }
    assert!(
        timeless(store.load(&fence).await.unwrap()) == expected,
        "loaded differs"
    );
    let (_, saved) = claimed(&store, "large", 2).await;
    assert!(timeless(saved) == expected, "claimed differs");
}

/// Ownership, fields, log and dead letters outlive the store's process.
pub async fn all_is_kept_when_the_store_starts_again(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "restart", 5).await;
    store.append(&fence, 0, 2, b"a".to_vec()).await.unwrap();
    store.append(&fence, 2, 4, b"b".to_vec()).await.unwrap();
    store
        .checkpoint(&fence, delta(3, &[("x", b"1")], &[]))
        .await
        .unwrap();
    let taken = store.append(&fence, 4, 5, b"c".to_vec()).await.unwrap();
    store.bury(&fence, b"letter".to_vec()).await.unwrap();
    let before = store.load(&fence).await.unwrap();
    let summary = store.summary(&fence.element).await.unwrap();
    drop(store);
    harness.restart().await;
    let store = harness.connect().await;
    assert_eq!(store.summary(&fence.element).await.unwrap(), summary);
    let after = store.load(&fence).await.unwrap();
    assert_eq!(
        Saved {
            read_at: before.read_at,
            ..after
        },
        before
    );
    let letters = store.dead_letters(&fence.element).await.unwrap();
    assert_eq!(letters, [b"letter".to_vec()]);
    assert_eq!(store.append(&fence, 4, 5, b"c".to_vec()).await, Ok(taken));
    let (next, _) = claimed(&store, "restart", 6).await;
    assert_eq!(next.epoch, fence.epoch + 1);
}

/// Anybody may look at the outside of an element.
pub async fn a_summary_needs_no_ownership(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let lamp = element("summary");
    assert_eq!(store.summary(&lamp).await.unwrap(), None);
    let (fence, _) = store.claim(&lamp, Nonce(1), 6).await.unwrap();
    let seen = store.summary(&lamp).await.unwrap().unwrap();
    assert_eq!((seen.epoch, seen.head, seen.checkpoint), (7, 0, 0));
    assert_eq!(seen.checkpoint_at, None);
    let taken = store.append(&fence, 0, 3, b"a".to_vec()).await.unwrap();
    store.checkpoint(&fence, delta(2, &[], &[])).await.unwrap();
    let other = harness.connect().await;
    let seen = other.summary(&lamp).await.unwrap().unwrap();
    assert_eq!((seen.epoch, seen.head, seen.checkpoint), (7, 3, 2));
    assert!(seen.checkpoint_at.unwrap() >= taken);
}

/// Dead letters are bounded: the oldest make room, the order stays.
pub async fn the_newest_dead_letters_are_kept(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let (fence, _) = claimed(&store, "letters", 1).await;
    let old = (0..DEAD_LETTERS_MAX).map(|_| store.bury(&fence, b"old".to_vec()));
    for answer in join_all(old).await {
        answer.unwrap();
    }
    let mut expected = vec![b"old".to_vec(); DEAD_LETTERS_MAX - 10];
    for number in 0..10_u8 {
        store.bury(&fence, vec![number]).await.unwrap();
        expected.push(vec![number]);
    }
    assert_eq!(store.dead_letters(&fence.element).await.unwrap(), expected);
}

/// One element's name may begin with another's.
pub async fn elements_with_similar_names_keep_apart(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let names = ["apart", "apart.1", "apart-1", "apart_1", "apart.1.fields"];
    let mut fences = Vec::new();
    for name in names {
        let (fence, _) = claimed(&store, name, 1).await;
        store
            .append(&fence, 0, 1, name.as_bytes().to_vec())
            .await
            .unwrap();
        let change = delta(0, &[("name", name.as_bytes())], &[]);
        store.checkpoint(&fence, change).await.unwrap();
        store.bury(&fence, name.as_bytes().to_vec()).await.unwrap();
        fences.push(fence);
    }
    for (name, fence) in names.into_iter().zip(fences) {
        let expected = Saved {
            fields: fields(&[("name", name.as_bytes())]),
            ..logged(1, vec![batch(1, 1, name.as_bytes())])
        };
        assert_eq!(timeless(store.load(&fence).await.unwrap()), expected);
        let letters = store.dead_letters(&fence.element).await.unwrap();
        assert_eq!(letters, [name.as_bytes().to_vec()]);
    }
}

/// Elements share the store and not their order.
pub async fn many_elements_write_at_once(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let mut fences = Vec::new();
    for number in 0..32 {
        fences.push(claimed(&store, &format!("many.{number}"), 1).await.0);
    }
    let mut writes = Vec::new();
    for head in 0..20 {
        for fence in &fences {
            writes.push(store.append(fence, head, head + 1, fence.element.as_str().into()));
        }
    }
    for answer in join_all(writes).await {
        answer.unwrap();
    }
    for fence in fences {
        let name = fence.element.as_str().as_bytes();
        let log = (1..=20).map(|index| batch(index, index, name)).collect();
        assert_eq!(timeless(store.load(&fence).await.unwrap()), logged(20, log));
    }
}

fn logged(head: u64, log: Vec<StoredBatch>) -> Saved {
    Saved {
        head,
        log,
        ..Saved::default()
    }
}
