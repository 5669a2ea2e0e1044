//! Order, sessions, restarts, expiry, size.

use std::time::Duration;

use lamplighter_runtime::transport::mqtt::{ConnectionState, Publish, PublishError};

use crate::harness::{Broker, Kind, PATIENCE, numbers, publish_all};

crate::on_each_broker!(
    messages_arrive_in_order,
    a_session_keeps_what_comes_while_its_client_is_away,
    publications_survive_a_broker_that_restarts,
    publications_survive_a_broker_that_is_killed_under_load,
    a_big_payload_arrives_whole,
    a_command_is_never_retained,
    user_properties_and_expiry_travel_with_the_message,
    what_has_expired_is_not_delivered,
    a_publication_without_connection_says_so,
);

async fn messages_arrive_in_order(kind: Kind) {
    let broker = Broker::start(kind).await;
    let mut receiver = broker.receiver("receiver", "order/#").await;
    let sender = broker.sender("sender").await;

    for number in numbers(0..500) {
        let publication = sender
            .publish("order/0", number, Publish::at_most_once())
            .unwrap();
        publication.await.unwrap();
    }
    let at_most_once = receiver.next_payloads(500).await;
    publish_all(&sender, "order/1", &numbers(0..500)).await;
    let at_least_once = receiver.next_payloads(500).await;

    assert_eq!(at_most_once, numbers(0..500));
    assert_eq!(at_least_once, numbers(0..500));
}

async fn a_session_keeps_what_comes_while_its_client_is_away(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    let receiver = broker.receiver("receiver", "away").await;
    receiver.mqtt.disconnect(Duration::from_secs(1)).await;

    publish_all(&sender, "away", &numbers(0..200)).await;
    let mut receiver = broker.receiver("receiver", "away").await;

    let state = receiver.mqtt.state().borrow().clone();
    assert_eq!(
        state,
        ConnectionState::Connected {
            session_present: true,
            count: 1
        }
    );
    assert_eq!(receiver.next_payloads(200).await, numbers(0..200));
}

async fn publications_survive_a_broker_that_restarts(kind: Kind) {
    let mut broker = Broker::start(kind).await;
    let mut receiver = broker.receiver("receiver", "restart").await;
    let sender = broker.sender("sender").await;
    broker.stop().await;

    let publications: Vec<_> = numbers(0..50)
        .into_iter()
        .map(|number| {
            sender
                .publish("restart", number, Publish::at_least_once())
                .unwrap()
        })
        .collect();
    broker.start_again().await;
    for publication in publications {
        tokio::time::timeout(PATIENCE, publication)
            .await
            .unwrap()
            .unwrap();
    }
    receiver.connected_after(1).await;
    publish_all(&sender, "restart", &["last".to_owned()]).await;
    let mut received = receiver.until("last").await;

    received.pop();
    match kind {
        Kind::Mosquitto => assert_eq!(received, numbers(0..50)),
        // Its sessions were in memory: what came before the receiver subscribed again is gone, although
        // it was acknowledged. What arrived is in order.
        Kind::Embedded => {
            let first = 50 - u32::try_from(received.len()).unwrap();
            assert_eq!(received, numbers(first..50));
        }
    }
}

async fn publications_survive_a_broker_that_is_killed_under_load(kind: Kind) {
    let mut broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;

    for _ in 0..5 {
        let publications: Vec<_> = numbers(0..200)
            .into_iter()
            .map(|number| {
                sender
                    .publish("load", number, Publish::at_least_once())
                    .unwrap()
            })
            .collect();
        broker.kill().await;
        broker.start_again().await;
        for publication in publications {
            tokio::time::timeout(PATIENCE, publication)
                .await
                .unwrap()
                .unwrap();
        }
    }
}

async fn a_big_payload_arrives_whole(kind: Kind) {
    let broker = Broker::start(kind).await;
    let mut receiver = broker.receiver("receiver", "big").await;
    let sender = broker.sender("sender").await;
    let payload: Vec<u8> = (0..256 << 10)
        .map(|index: u32| index.to_le_bytes()[1])
        .collect();

    sender
        .publish("big", payload.clone(), Publish::at_least_once())
        .unwrap()
        .await
        .unwrap();
    let too_big = sender.publish("big", vec![0; (1 << 20) + 1], Publish::at_least_once());

    assert_eq!(receiver.next().await.payload, payload);
    let reason = "its payload has 1048577 bytes, 1048576 are allowed".to_owned();
    let refused = PublishError::Refused {
        topic: "big".to_owned(),
        reason,
    };
    assert_eq!(too_big.unwrap_err(), refused);
}

async fn a_command_is_never_retained(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    publish_all(&sender, "lamp/set", &["ON".to_owned()]).await;

    let mut lamp = broker.receiver("lamp", "lamp/set").await;
    publish_all(&sender, "lamp/set", &["OFF".to_owned()]).await;

    let first = lamp.next().await;
    assert_eq!((&first.payload[..], first.retained), (&b"OFF"[..], false));
}

async fn user_properties_and_expiry_travel_with_the_message(kind: Kind) {
    let broker = Broker::start(kind).await;
    let mut receiver = broker.receiver("receiver", "properties").await;
    let sender = broker.sender("sender").await;
    let properties = vec![(
        "lamplighter-id".to_owned(),
        "orchestrator/0.17.1".to_owned(),
    )];
    let mut publish = Publish::at_least_once();
    publish.user_properties = properties.clone();
    publish.expiry = Some(Duration::from_secs(3_600));

    sender
        .publish("properties", "x", publish)
        .unwrap()
        .await
        .unwrap();
    let message = receiver.next().await;

    assert_eq!(message.user_properties, properties);
    let expiry = message.expiry.unwrap();
    assert!(Duration::from_secs(3_590) < expiry && expiry <= Duration::from_secs(3_600));
}

async fn what_has_expired_is_not_delivered(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    let receiver = broker.receiver("receiver", "brief").await;
    receiver.mqtt.disconnect(Duration::from_secs(1)).await;
    let mut brief = Publish::at_least_once();
    brief.expiry = Some(Duration::from_secs(1));

    sender
        .publish("brief", "expired", brief)
        .unwrap()
        .await
        .unwrap();
    publish_all(&sender, "brief", &["lasting".to_owned()]).await;
    // The passing of time is what is tested: brokers count whole seconds.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let mut receiver = broker.receiver("receiver", "brief").await;

    assert_eq!(receiver.until("lasting").await, ["lasting"]);
}

async fn a_publication_without_connection_says_so(kind: Kind) {
    let mut broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    broker.stop().await;
    let lost = |state: &ConnectionState| matches!(state, ConnectionState::Connecting { .. });
    sender.state().wait_for(lost).await.unwrap();
    let mut brief = Publish::at_least_once();
    brief.expiry = Some(Duration::from_millis(10));

    let at_most_once = sender.publish("x", "x", Publish::at_most_once()).unwrap();
    let expired = sender.publish("x", "x", brief).unwrap();

    assert_eq!(at_most_once.await, Err(PublishError::Disconnected));
    broker.start_again().await;
    assert_eq!(expired.await, Err(PublishError::Expired));
}
