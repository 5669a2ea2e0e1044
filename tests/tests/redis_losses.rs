//! What is lost between an element and its Redis server changes nothing in the log.

#![allow(
    clippy::unwrap_used,
    reason = "a test may; helpers of a test are not seen as one"
)]

use std::time::Duration;

use futures_util::future::join_all;
use lamplighter_policies::ids::EntityId;
use lamplighter_runtime::store::redis::RedisStore;
use lamplighter_runtime::store::{Delta, Fence, Nonce, StableStore, StoreError};
use lamplighter_tests::proxy::Proxy;
use lamplighter_tests::redis_server::{RedisServer, append_surely, store_settings_at};
use rustix::process::{Pid, Signal, kill_process};
use serde_bytes::ByteBuf;

#[tokio::test]
async fn a_fifth_of_the_replies_may_be_lost_without_a_trace_in_the_log() {
    const APPENDS: u64 = 3_000;
    let server = RedisServer::start_with(&[("appendfsync", "everysec")]).await;
    let proxy = Proxy::start(server.port(), 7).await.unwrap();
    let store = RedisStore::connect(store_settings_at(proxy.port()))
        .await
        .unwrap();
    let (fence, _) = claim(&store, "lamp", 1).await;

    proxy.lose_replies(20);
    let (mut head, mut acknowledged) = (0, Vec::new());
    while head < APPENDS {
        // A window of four, of which all that have no answer are sent again, in order.
        let window: Vec<u64> = (head..(head + 4).min(APPENDS)).collect();
        let sent = window
            .iter()
            .map(|&head| store.append(&fence, head, head + 1, body(head + 1)));
        for answer in join_all(sent.collect::<Vec<_>>()).await {
            match answer {
                Ok(_) => {
                    head += 1;
                    acknowledged.push((head, body(head)));
                }
                Err(StoreError::Unavailable { .. } | StoreError::Gap { .. }) => break,
                Err(other) => panic!("{other}"),
            }
        }
    }
    proxy.lose_replies(0);

    let kept = retried(|| store.load(&fence)).await;
    let kept: Vec<(u64, Vec<u8>)> = kept
        .log
        .into_iter()
        .map(|one| (one.last, one.bytes))
        .collect();
    assert_eq!(kept, acknowledged);
    assert!(proxy.lost() > 100, "{} replies were lost", proxy.lost());
}

#[tokio::test]
async fn writers_that_were_replaced_never_write_again() {
    let server = RedisServer::start_with(&[("appendfsync", "everysec")]).await;
    let (mut head, mut acknowledged, mut refused) = (0, Vec::new(), 0);
    let mut former: Vec<(RedisStore, Fence, u64)> = Vec::new();
    for round in 0..60_u8 {
        let store = server.store().await;
        let (fence, saved) = claim(&store, "lamp", u128::from(round) + 1).await;
        assert_eq!(saved.head, head);
        for _ in 0..5 {
            // Those who were replaced go on where they were, and where the owner is.
            let late = former.iter().flat_map(|(store, fence, end)| {
                [*end, head].map(|at| store.append(fence, at, at + 1, b"late".to_vec()))
            });
            let late: Vec<_> = late.collect();
            let bytes = [round];
            let own = append_surely(&store, &fence, head, head + 1, &bytes);
            let (late, own) = tokio::join!(join_all(late), own);
            own.unwrap();
            head += 1;
            acknowledged.push((head, vec![round]));
            for answer in late {
                assert!(
                    matches!(answer, Err(StoreError::Fenced { .. })),
                    "{answer:?}"
                );
                refused += 1;
            }
        }
        former.push((store, fence, head));
        if former.len() > 3 {
            former.remove(0);
        }
    }
    let store = server.store().await;
    let (_, saved) = claim(&store, "lamp", 1_000).await;
    let kept: Vec<(u64, Vec<u8>)> = saved
        .log
        .into_iter()
        .map(|one| (one.last, one.bytes))
        .collect();
    assert_eq!(kept, acknowledged);
    assert!(refused > 1_000, "{refused} late writes");
}

#[tokio::test]
async fn a_server_that_was_killed_comes_back_with_all_it_confirmed() {
    let mut server = RedisServer::start().await;
    let store = server.store().await;
    for round in 0..3_u64 {
        let name = format!("lamp.{round}");
        let (fence, _) = claim(&store, &name, 1).await;
        // Written by a task of its own until the server is gone.
        let (writer, owner) = (store.clone(), fence.clone());
        let writing = tokio::spawn(async move {
            let mut head = 0;
            while writer
                .append(&owner, head, head + 1, body(head + 1))
                .await
                .is_ok()
            {
                head += 1;
            }
            head
        });
        while retried(|| store.summary(&fence.element))
            .await
            .unwrap()
            .head
            < 50
        {
            tokio::task::yield_now().await;
        }
        server.kill().await;
        let confirmed = writing.await.unwrap();
        server.start_again().await;

        // The same handle finds the server again by itself.
        append_surely(
            &store,
            &fence,
            confirmed,
            confirmed + 1,
            &body(confirmed + 1),
        )
        .await
        .unwrap();
        let saved = retried(|| store.load(&fence)).await;
        assert_eq!(saved.head, confirmed + 1);
        for (nth, batch) in saved.log.iter().enumerate() {
            assert_eq!(batch.bytes, body(nth as u64 + 1));
        }
    }
}

#[tokio::test]
async fn a_server_that_stands_still_is_asked_again_and_counts_once() {
    let server = RedisServer::start().await;
    let store = server.impatient_store().await;
    let (fence, _) = claim(&store, "lamp", 1).await;
    store.append(&fence, 0, 1, body(1)).await.unwrap();
    let process = server.redis.as_ref().unwrap().process_id().unwrap();
    let process = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();

    kill_process(process, Signal::STOP).unwrap();
    // The bytes wait in the server's socket and are carried out later.
    for _ in 0..4 {
        let answer = store.append(&fence, 1, 2, body(2)).await;
        assert!(
            matches!(answer, Err(StoreError::Unavailable { .. })),
            "{answer:?}"
        );
    }
    kill_process(process, Signal::CONT).unwrap();

    append_surely(&store, &fence, 1, 2, &body(2)).await.unwrap();
    let saved = retried(|| store.load(&fence)).await;
    let kept: Vec<Vec<u8>> = saved.log.into_iter().map(|one| one.bytes).collect();
    assert_eq!(kept, [body(1), body(2)]);
}

#[tokio::test]
async fn a_link_that_swallows_everything_is_given_up() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port(), 1).await.unwrap();
    let mut settings = store_settings_at(proxy.port());
    settings.patience = Duration::from_millis(500);
    let store = RedisStore::connect(settings).await.unwrap();
    let (fence, _) = claim(&store, "lamp", 1).await;
    let before = proxy.accepted();

    proxy.cut(true);
    let first = store.append(&fence, 0, 1, body(1)).await;
    assert!(
        matches!(first, Err(StoreError::Unavailable { .. })),
        "{first:?}"
    );
    proxy.cut(false);

    // The old connection stays silent for ever, so only a new one can bring this through.
    append_surely(&store, &fence, 0, 1, &body(1)).await.unwrap();
    assert!(proxy.accepted() > before);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_given_to_it_again() {
    let server = RedisServer::start().await;
    let store = server.store().await;
    let (fence, _) = claim(&store, "lamp", 1).await;
    for head in 0..5 {
        server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
        store
            .append(&fence, head, head + 1, body(head + 1))
            .await
            .unwrap();
    }
    server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
    let delta = Delta {
        upto: 5,
        ..Delta::default()
    };
    store.checkpoint(&fence, delta).await.unwrap();
    server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
    assert_eq!(store.load(&fence).await.unwrap().checkpoint, 5);
}

#[tokio::test]
async fn a_large_checkpoint_comes_whole_or_not_at_all() {
    let server = RedisServer::start_with(&[("appendfsync", "everysec")]).await;
    let proxy = Proxy::start(server.port(), 3).await.unwrap();
    let store = RedisStore::connect(store_settings_at(proxy.port()))
        .await
        .unwrap();
    let (fence, _) = claim(&store, "lamp", 1).await;
    for version in 1..=12_u8 {
        // Ten fields of 200 kB: at least four parts.
        let field = |nth: u8| {
            (
                format!("field {nth}"),
                ByteBuf::from(vec![version; 200 << 10]),
            )
        };
        let delta = Delta {
            upto: 0,
            set: (0..10).map(field).collect(),
            delete: Vec::new(),
        };
        proxy.lose_replies(if version % 3 == 0 { 50 } else { 0 });
        let outcome = store.checkpoint(&fence, delta.clone()).await;
        proxy.lose_replies(0);
        let saved = retried(|| store.load(&fence)).await;
        let versions: Vec<u8> = saved.fields.values().map(|field| field[0]).collect();
        assert!(
            versions.windows(2).all(|pair| pair[0] == pair[1]),
            "a mixture: {versions:?} after {outcome:?}"
        );
        if outcome.is_err() {
            retried(|| store.checkpoint(&fence, delta.clone())).await;
        }
        let saved = retried(|| store.load(&fence)).await;
        assert_eq!(saved.fields.len(), 10);
        assert!(
            saved
                .fields
                .values()
                .all(|field| **field == vec![version; 200 << 10])
        );
    }
    assert!(proxy.lost() > 0);
}

async fn claim(
    store: &RedisStore,
    name: &str,
    nonce: u128,
) -> (Fence, lamplighter_runtime::store::Saved) {
    let element = EntityId::new(name).unwrap();
    retried(|| store.claim(&element, Nonce(nonce), 0)).await
}

/// Asks until the store answers.
async fn retried<T, F: Future<Output = Result<T, StoreError>>>(ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Err(StoreError::Unavailable { .. }) => tokio::task::yield_now().await,
            outcome => return outcome.unwrap(),
        }
    }
}

fn body(index: u64) -> Vec<u8> {
    format!("batch {index}").into_bytes()
}
