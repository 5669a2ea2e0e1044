//! What is promised to those who read without owning.

#![expect(clippy::unwrap_used, reason = "these are the bodies of tests")]

use futures_util::future::{join, join_all};
use lamplighter_runtime::store::{Saved, StableStore};

use super::{Harness, batch, claimed, delta, element, fields, timeless};

/// Anybody may read what the owner would read, in one page or in many.
pub async fn a_peek_gives_anybody_what_the_owner_loads(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let other = harness.connect().await;
    let lamp = element("peek");
    assert_eq!(other.peek(&lamp).await, Ok(None));
    let (fence, _) = claimed(&store, "peek", 1).await;
    let seen = other.peek(&lamp).await.unwrap().map(timeless);
    assert_eq!(seen, Some(Saved::default()));
    // Several of these do not fit in one page.
    let large = vec![7; 700 << 10];
    for head in (0..10).step_by(2) {
        store
            .append(&fence, head, head + 2, large.clone())
            .await
            .unwrap();
    }
    let change = delta(3, &[("level", b"7"), ("wide", &large)], &[]);
    store.checkpoint(&fence, change).await.unwrap();
    let seen = other.peek(&lamp).await.unwrap().unwrap();
    let loaded = store.load(&fence).await.unwrap();
    assert!(seen.read_at <= loaded.read_at);
    let instant = |saved: &Saved| Saved {
        read_at: seen.read_at,
        ..saved.clone()
    };
    assert_eq!(seen, instant(&loaded));
    let expected = Saved {
        head: 10,
        checkpoint: 3,
        fields: fields(&[("level", b"7"), ("wide", &large)]),
        log: [3, 5, 7, 9]
            .map(|first| batch(first, first + 1, &large))
            .into(),
        ..Saved::default()
    };
    assert_eq!(timeless(seen), expected);
    harness.restart().await;
    let after = harness.connect().await.peek(&lamp).await.unwrap();
    assert_eq!(after.map(timeless), Some(expected));
}

/// Whoever peeks neither fences the owner nor changes anything that others see.
pub async fn a_peek_disturbs_nobody(harness: &mut impl Harness) {
    let store = harness.connect().await;
    let other = harness.connect().await;
    let (fence, _) = claimed(&store, "peek.quiet", 1).await;
    let never = element("peek.never");
    let mut head = 0;
    for _ in 0..10 {
        let writes: Vec<_> = (head..head + 8)
            .map(|head| store.append(&fence, head, head + 1, b"on".to_vec()))
            .collect();
        let (seen, taken) = join(other.peek(&fence.element), join_all(writes)).await;
        head += 8;
        assert!(taken.iter().all(Result::is_ok), "{taken:?}");
        // It shows one instant among the writes: the log up to its head, and no more.
        let seen = seen.unwrap().unwrap();
        let log = (1..=seen.head).map(|index| batch(index, index, b"on"));
        let expected = Saved {
            head: seen.head,
            log: log.collect(),
            ..Saved::default()
        };
        assert_eq!(timeless(seen), expected);
    }
    let before = store.summary(&fence.element).await.unwrap();
    assert_eq!(other.peek(&fence.element).await.unwrap().unwrap().head, 80);
    assert_eq!(store.summary(&fence.element).await.unwrap(), before);
    assert_eq!(other.peek(&never).await, Ok(None));
    assert_eq!(store.summary(&never).await, Ok(None));
    store.append(&fence, 80, 81, b"off".to_vec()).await.unwrap();
}
