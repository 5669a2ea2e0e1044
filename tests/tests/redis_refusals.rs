//! What a real Redis server answers when it cannot or must not, and what becomes of it.

#![allow(
    clippy::unwrap_used,
    reason = "a test may; helpers of a test are not seen as one"
)]

use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_runtime::store::redis::{Durability, RedisStore, Severity};
use lamplighter_runtime::store::{Delta, Fence, Nonce, StableStore, StoreError};
use lamplighter_tests::redis_server::{RedisServer, append_surely};
use serde_bytes::ByteBuf;

#[tokio::test]
async fn a_full_memory_holds_events_back_and_lets_checkpoints_free_it() {
    let (server, store, fence) = owned(&[]).await;
    let mut head = 0;
    server
        .command(&["CONFIG", "SET", "maxmemory", "6mb"])
        .await
        .unwrap();
    let refused = loop {
        match store
            .append(&fence, head, head + 1, vec![7; 200 << 10])
            .await
        {
            Ok(_) => head += 1,
            Err(refused) => break refused,
        }
        assert!(head < 100, "20 MB fit into 6 MB");
    };
    assert_unavailable(&refused, "OOM");
    assert_eq!(store.load(&fence).await.unwrap().head, head);

    // The checkpoint has something to add, and goes on all the same.
    let field = ("state".to_owned(), ByteBuf::from(vec![1; 100]));
    let delta = Delta {
        upto: head,
        set: vec![field],
        delete: Vec::new(),
    };
    store.checkpoint(&fence, delta).await.unwrap();
    // So does a claim: an element can recover while the memory is full.
    server
        .command(&["CONFIG", "SET", "maxmemory", "1mb"])
        .await
        .unwrap();
    let (fence, saved) = store.claim(&fence.element, Nonce(2), 0).await.unwrap();
    assert_eq!((saved.head, saved.log.len()), (head, 0));
    assert_unavailable(
        &store
            .append(&fence, head, head + 1, vec![7])
            .await
            .unwrap_err(),
        "OOM",
    );
    server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .await
        .unwrap();
    store.append(&fence, head, head + 1, vec![7]).await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_save_holds_events_back_until_it_can() {
    let (server, store, fence) = owned(&[("dbfilename", "obstacle.rdb")]).await;
    // A directory where the file should be makes every save fail.
    let obstacle = server.directory.path().join("obstacle.rdb");
    std::fs::create_dir_all(obstacle.join("in the way")).unwrap();
    server
        .command(&["CONFIG", "SET", "save", "3600 1"])
        .await
        .unwrap();
    server.command(&["BGSAVE"]).await.unwrap();
    while !info(&server).await.contains("rdb_last_bgsave_status:err") {
        // Nothing tells when a save has failed.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let refused = store.append(&fence, 0, 1, vec![7]).await.unwrap_err();
    assert_unavailable(&refused, "MISCONF");
    std::fs::remove_dir_all(&obstacle).unwrap();
    server.command(&["SAVE"]).await.unwrap();
    store.append(&fence, 0, 1, vec![7]).await.unwrap();
}

#[tokio::test]
async fn a_server_that_became_a_replica_gets_nothing_until_it_is_a_master_again() {
    let (server, _, fence) = owned(&[]).await;
    let store = server.impatient_store().await;
    server
        .command(&["REPLICAOF", "127.0.0.1", "1"])
        .await
        .unwrap();
    let first = store.append(&fence, 0, 1, vec![7]).await.unwrap_err();
    assert_unavailable(&first, "READONLY");
    // The server is checked again before anything is sent.
    let held = loop {
        let held = store.append(&fence, 0, 1, vec![7]).await.unwrap_err();
        if !held.to_string().contains("READONLY") {
            break held;
        }
    };
    assert_unavailable(&held, "give the address of the master");
    server.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    append_surely(&store, &fence, 0, 1, &[7]).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_busy_or_loads_is_asked_again() {
    let more = [
        ("enable-debug-command", "local"),
        ("busy-reply-threshold", "20"),
    ];
    let (server, store, fence) = owned(&more).await;
    // A script without an end, on a connection of its own.
    let endless = server.command(&["EVAL", "while true do redis.call('PING') end", "0"]);
    let busy = async {
        let refused = loop {
            match store.append(&fence, 0, 1, vec![7]).await {
                // The script has not begun, or not run for long enough.
                Ok(_) => tokio::task::yield_now().await,
                Err(StoreError::Unavailable { reason, .. }) if reason.contains("timed out") => {}
                Err(refused) => break refused,
            }
        };
        assert_unavailable(&refused, "BUSY");
        server.command(&["SCRIPT", "KILL"]).await.unwrap();
    };
    let (killed, ()) = tokio::join!(endless, busy);
    assert!(killed.is_err());
    append_surely(&store, &fence, 0, 1, &[7]).await.unwrap();

    server.command(&["DEBUG", "POPULATE", "300"]).await.unwrap();
    let slowly = [
        ("key-load-delay", "2000"),
        ("loading-process-events-interval-bytes", "1024"),
    ];
    for (name, value) in slowly {
        server
            .command(&["CONFIG", "SET", name, value])
            .await
            .unwrap();
    }
    let loads = server.command(&["DEBUG", "RELOAD"]);
    let loading = async {
        loop {
            match store.append(&fence, 1, 2, vec![8]).await {
                Err(refused) => return refused,
                // It was faster than the reload.
                Ok(_) => tokio::task::yield_now().await,
            }
        }
    };
    let (loaded, refused) = tokio::join!(loads, loading);
    loaded.unwrap();
    assert_unavailable(&refused, "LOADING");
    append_surely(&store, &fence, 1, 2, &[8]).await.unwrap();
    assert_eq!(store.load(&fence).await.unwrap().head, 2);
}

#[tokio::test]
async fn a_server_without_room_for_a_connection_is_asked_again() {
    let (server, store, _) = owned(&[]).await;
    server
        .command(&["CONFIG", "SET", "maxclients", "1"])
        .await
        .unwrap();
    let mut settings = server.store_settings();
    settings.patience = Duration::from_millis(500);
    let refused = RedisStore::connect(settings).await.unwrap_err();
    // Its last words may be cut off by its closing of the connection.
    assert_unavailable(&refused, "");
    drop(store);
    server.store().await;
}

#[tokio::test]
async fn wrong_credentials_and_missing_rights_stop_with_the_cure() {
    let (server, store, fence) = owned(&[]).await;
    let user = [
        "ACL", "SETUSER", "weak", "on", ">pass", "+@all", "-evalsha", "~*",
    ];
    server.command(&user).await.unwrap();
    let mut settings = server.store_settings();
    settings.url = format!("redis://weak:pass@127.0.0.1:{}/", server.port());
    let weak = RedisStore::connect(settings.clone()).await.unwrap();
    let refused = weak.append(&fence, 0, 1, vec![7]).await.unwrap_err();
    assert_refused(&refused, "let the store's user run scripts");

    settings.url = format!("redis://weak:wrong@127.0.0.1:{}/", server.port());
    let refused = RedisStore::connect(settings).await.unwrap_err();
    assert_refused(&refused, "give the right user and password");

    server
        .command(&["CONFIG", "SET", "requirepass", "secret"])
        .await
        .unwrap();
    let refused = RedisStore::connect(server.store_settings())
        .await
        .unwrap_err();
    assert_refused(&refused, "give it in the store's url");
    // Who is in stays in.
    store.append(&fence, 0, 1, vec![7]).await.unwrap();
}

#[tokio::test]
async fn keys_that_another_program_has_changed_stop_the_element() {
    let (server, store, fence) = owned(&[]).await;
    store.append(&fence, 0, 1, vec![7]).await.unwrap();
    server
        .command(&["SET", "lamplighter:{suite/lamp}:log", "x"])
        .await
        .unwrap();
    let refused = store.append(&fence, 1, 2, vec![7]).await.unwrap_err();
    assert_refused(&refused, "another program");
    let refused = store
        .checkpoint(&fence, Delta::default())
        .await
        .unwrap_err();
    assert_refused(&refused, "another program");
    assert_refused(&store.load(&fence).await.unwrap_err(), "another program");
    let refused = store.claim(&fence.element, Nonce(2), 0).await.unwrap_err();
    assert_refused(&refused, "another program");
    // Nothing was written before the fault was seen.
    let summary = store.summary(&fence.element).await.unwrap().unwrap();
    assert_eq!(
        (summary.epoch, summary.head, summary.checkpoint_at),
        (1, 1, None)
    );
}

#[tokio::test]
async fn a_log_with_a_missing_batch_is_damaged_at_its_index() {
    let (server, store, fence) = owned(&[]).await;
    for head in 0..5 {
        store.append(&fence, head, head + 1, vec![7]).await.unwrap();
    }
    server
        .command(&["XDEL", "lamplighter:{suite/lamp}:log", "3-0"])
        .await
        .unwrap();
    let damaged = |place: &str| StoreError::Damaged {
        element: fence.element.clone(),
        place: place.to_owned(),
        reason: "it is missing".to_owned(),
    };
    assert_eq!(store.load(&fence).await, Err(damaged("log 3")));
    server
        .command(&["XDEL", "lamplighter:{suite/lamp}:log", "1-0"])
        .await
        .unwrap();
    assert_eq!(store.load(&fence).await, Err(damaged("log 1")));
}

#[tokio::test]
async fn a_log_of_many_pages_is_read_whole() {
    let (_server, store, fence) = owned(&[("appendfsync", "everysec")]).await;
    for head in 0..40 {
        store
            .append(&fence, head, head + 1, vec![7; 100 << 10])
            .await
            .unwrap();
    }
    let saved = store.load(&fence).await.unwrap();
    let places: Vec<u64> = saved.log.iter().map(|batch| batch.last).collect();
    assert_eq!(places, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_that_would_forget_is_refused_with_the_cure() {
    let cases: [(&[(&str, &str)], &str); 5] = [
        (
            &[("maxmemory-policy", "allkeys-lru")],
            "set `maxmemory-policy noeviction`",
        ),
        (&[("appendonly", "no")], "set `appendonly yes`"),
        (
            &[("appendfsync", "no")],
            "set `appendfsync everysec` or `always`",
        ),
        (
            &[("no-appendfsync-on-rewrite", "yes")],
            "set `no-appendfsync-on-rewrite no`",
        ),
        (
            &[("replicaof", "127.0.0.1 1")],
            "give the address of the master",
        ),
    ];
    for (more, cure) in cases {
        let server = RedisServer::start_with(more).await;
        let refused = RedisStore::connect(server.store_settings())
            .await
            .unwrap_err();
        assert_refused(&refused, cure);
        server.redis.unwrap().kill().await.unwrap();
    }
}

#[tokio::test]
async fn a_check_lists_all_that_is_wrong_without_changing_anything() {
    let more = [("maxmemory-policy", "allkeys-lru"), ("appendonly", "no")];
    let server = RedisServer::start_with(&more).await;
    let findings = RedisStore::check(&server.store_settings()).await.unwrap();
    let cures: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Refuse)
        .map(|finding| finding.cure.as_str())
        .collect();
    assert_eq!(
        cures,
        [
            "set `maxmemory-policy noeviction`",
            "set `appendonly yes`, or say `durability = \"process\"` if state may be lost"
        ]
    );
    let keys = server.command(&["DBSIZE"]).await.unwrap();
    assert_eq!(keys, redis::Value::Int(0));
}

#[tokio::test]
async fn state_that_may_be_lost_needs_no_file_but_says_so() {
    let server = RedisServer::start_with(&[("appendonly", "no")]).await;
    let mut settings = server.store_settings();
    settings.durability = Durability::Process;
    let findings = RedisStore::connect(settings).await.unwrap().findings();
    assert!(
        findings
            .iter()
            .any(|finding| finding.severity == Severity::Warn
                && finding.what.contains("all state is lost when it restarts")),
        "{findings:?}"
    );
}

#[tokio::test]
async fn a_store_that_was_emptied_is_refused_at_the_start_and_while_it_runs() {
    let (server, store, fence) = owned(&[]).await;
    let identity = store.identity().await.unwrap();
    assert_eq!(server.store().await.identity().await.unwrap(), identity);
    let mut settings = server.store_settings();
    settings.identity = Some(identity);
    RedisStore::connect(settings.clone()).await.unwrap();

    server.command(&["FLUSHALL"]).await.unwrap();
    let refused = RedisStore::connect(settings.clone()).await.unwrap_err();
    assert_refused(&refused, "restore the server's data");
    // The running one learns of it with its next write, and at its next connection.
    let refused = store.append(&fence, 0, 1, vec![7]).await.unwrap_err();
    let fenced = StoreError::Fenced {
        element: fence.element.clone(),
        epoch: 0,
    };
    assert_eq!(refused, fenced);
    server
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .await
        .unwrap();
    let refused = loop {
        match store.summary(&fence.element).await {
            Ok(_) | Err(StoreError::Unavailable { .. }) => tokio::task::yield_now().await,
            Err(refused) => break refused,
        }
    };
    assert_refused(&refused, "restore the server's data");
}

/// A server, a store on it, and the ownership of an element.
async fn owned(more: &[(&str, &str)]) -> (RedisServer, RedisStore, Fence) {
    let server = RedisServer::start_with(more).await;
    let store = server.store().await;
    let lamp = EntityId::new("lamp").unwrap();
    let (fence, _) = store.claim(&lamp, Nonce(1), 0).await.unwrap();
    (server, store, fence)
}

async fn info(server: &RedisServer) -> String {
    redis::from_redis_value(server.command(&["INFO"]).await.unwrap()).unwrap()
}

fn assert_unavailable(error: &StoreError, word: &str) {
    let StoreError::Unavailable { reason, .. } = error else {
        panic!("not passing: {error}");
    };
    assert!(reason.contains(word), "{error}");
}

fn assert_refused(error: &StoreError, cure: &str) {
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(cure), "{error}");
}
