//! Damaged stored data, seen from outside: the element does not run on it, says what is damaged, and
//! nothing else stops.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

use lamplighter_policies::protocol::control::{ElementState, ElementStatus};
use lamplighter_runtime::managed::{ManagedRedis, ManagedRedisSettings};
use lamplighter_tests::application::{Application, is_running, kill};

const PROGRAM: &str = env!("CARGO_BIN_EXE_presses");

#[tokio::test]
async fn an_element_with_damaged_state_is_quarantined_and_the_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let redis = ManagedRedis::start(&ManagedRedisSettings::new(directory.path()))
        .await
        .unwrap();
    let application = Application::start(PROGRAM, &topology(&redis.url())).await;
    let saved = |status: &ElementStatus| {
        let report = status.report.as_ref();
        report.is_some_and(|report| report.checkpoint_at.is_some())
    };
    let one = application.element("one", saved).await;

    flip_a_bit(&redis.url(), "one").await;
    kill(one.pid.unwrap()).await;

    let failed = |status: &ElementStatus| matches!(status.state, ElementState::Failed { .. });
    let one = application.element("one", failed).await;
    let ElementState::Failed { reason } = one.state else {
        unreachable!("it was waited for")
    };
    assert_eq!(
        reason,
        "quarantined: stored data of one is damaged at field \".presses\": its checksum does not \
         fit; restore the store from a copy"
    );
    application.element("two", is_running).await;
    application.stop().await;
    redis.stop().await.unwrap();
}

/// Changes one bit of the stored field `presses`.
async fn flip_a_bit(url: &str, element: &str) {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("lamplighter:{{counting/{element}}}:state");
    let fields: Vec<(String, Vec<u8>)> = redis::cmd("HGETALL")
        .arg(&key)
        .query_async(&mut connection)
        .await
        .unwrap();
    let is_presses = |(name, _): &&(String, Vec<u8>)| name.ends_with(".presses");
    let (name, mut bytes) = fields.iter().find(is_presses).unwrap().clone();
    *bytes.last_mut().unwrap() ^= 1;
    let _: () = redis::cmd("HSET")
        .arg(&key)
        .arg(name)
        .arg(bytes)
        .query_async(&mut connection)
        .await
        .unwrap();
}

fn topology(redis: &str) -> String {
    format!(
        r#"
        [application]
        name = "counting"
        [servers.here]
        storage = "volatile"
        [elements.one]
        kind = "Counter"
        server = "here"
        inputs = {{ "test/one" = "Pressed" }}
        [elements.two]
        kind = "Counter"
        server = "here"
        inputs = {{ "test/two" = "Pressed" }}
        [store]
        kind = "redis"
        url = "{redis}"
        "#
    )
}
