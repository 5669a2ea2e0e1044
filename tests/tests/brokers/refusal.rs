//! A message is logged before the broker may forget it, whatever happens in between.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use lamplighter_runtime::transport::mqtt::{Publish, Reception, Signature, receipt};

use crate::harness::{Broker, Kind, PATIENCE, numbers, publish_all, start_child};

crate::on_each_broker!(
    a_refused_message_is_sent_again_before_the_later_ones,
    a_message_that_nobody_logs_in_time_is_sent_again,
    a_panicking_handler_neither_ends_the_process_nor_loses_the_message,
    a_receipt_is_waited_for,
    a_slow_handler_loses_nothing,
    a_process_that_dies_before_it_logs_gets_the_message_again,
    a_killed_process_is_replaced_at_once_without_loss,
    a_successor_gets_what_a_frozen_process_did_not_acknowledge,
);

async fn a_refused_message_is_sent_again_before_the_later_ones(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    let first_time = AtomicBool::new(true);
    let mut receiver = broker
        .receiver_with(broker.options("receiver"), "refused", move |message| {
            if &message.payload[..] == b"3" && first_time.swap(false, Ordering::Relaxed) {
                return Reception::Refused {
                    reason: "mailbox full".to_owned(),
                };
            }
            Reception::Done
        })
        .await;

    publish_all(&sender, "refused", &numbers(0..10)).await;
    let received = receiver.until("9").await;

    let mut expected = numbers(0..10);
    expected.insert(3, "3".to_owned());
    assert_eq!(received, expected);
}

async fn a_message_that_nobody_logs_in_time_is_sent_again(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    let mut options = broker.options("receiver");
    options.log_within = Duration::from_millis(100);
    let unsigned: Mutex<Option<Signature>> = Mutex::new(None);
    let mut receiver = broker
        .receiver_with(options, "late", move |_| {
            let mut unsigned = unsigned.lock().unwrap();
            if unsigned.is_some() {
                return Reception::Done;
            }
            let (signature, receipt) = receipt();
            *unsigned = Some(signature);
            Reception::When(receipt)
        })
        .await;

    publish_all(&sender, "late", &numbers(0..3)).await;

    assert_eq!(receiver.until("2").await, ["0", "0", "1", "2"]);
}

async fn a_panicking_handler_neither_ends_the_process_nor_loses_the_message(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    let panics_left = AtomicU32::new(2);
    let mut receiver = broker
        .receiver_with(broker.options("receiver"), "panic", move |_| {
            let left = panics_left.load(Ordering::Relaxed);
            if left > 0 {
                panics_left.store(left - 1, Ordering::Relaxed);
                panic!("the handler of a test panics");
            }
            Reception::Done
        })
        .await;

    publish_all(&sender, "panic", &numbers(0..2)).await;

    assert_eq!(receiver.until("1").await, ["0", "0", "0", "1"]);
}

/// The broker keeps a message for as long as its receipt is not signed, and no longer.
async fn a_receipt_is_waited_for(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    let (tell, mut signatures) = tokio::sync::mpsc::unbounded_channel::<Signature>();
    let mut receiver = broker
        .receiver_with(broker.options("receiver"), "receipt", move |_| {
            let (signature, receipt) = receipt();
            tell.send(signature).unwrap();
            Reception::When(receipt)
        })
        .await;

    let publishing = tokio::spawn(async move {
        publish_all(&sender, "receipt", &numbers(0..20)).await;
        sender
    });
    for number in numbers(0..20) {
        assert_eq!(receiver.next_payloads(1).await, [number]);
        // It is handed over one by one: the next one waits for this signature.
        assert!(receiver.messages.try_recv().is_err());
        signatures.recv().await.unwrap().sign();
    }
    let sender = publishing.await.unwrap();
    receiver.mqtt.disconnect(Duration::from_secs(1)).await;
    let mut receiver = broker.receiver("receiver", "receipt").await;
    publish_all(&sender, "receipt", &["next".to_owned()]).await;

    assert_eq!(receiver.next_payloads(1).await, ["next"]);
}

async fn a_slow_handler_loses_nothing(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    let mut receiver = broker
        .receiver_with(broker.options("receiver"), "slow", |_| {
            // Slowness is what is tested.
            std::thread::sleep(Duration::from_millis(2));
            Reception::Done
        })
        .await;

    let publications: Vec<_> = numbers(0..500)
        .into_iter()
        .map(|number| {
            sender
                .publish("slow", number, Publish::at_least_once())
                .unwrap()
        })
        .collect();

    assert_eq!(receiver.next_payloads(500).await, numbers(0..500));
    for publication in publications {
        publication.await.unwrap();
    }
}

async fn a_process_that_dies_before_it_logs_gets_the_message_again(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    let mut dying = start_receiver(&broker, Some("5")).await;
    // Waiting would close its standard input, which asks it to end in order.
    let standard_input = dying.stdin.take();

    publish_all(&sender, "process", &numbers(0..20)).await;
    assert!(!dying.wait().await.unwrap().success());
    drop(standard_input);
    let before = log_of(&broker);
    let mut next = start_receiver(&broker, None).await;
    publish_all(&sender, "process", &["last".to_owned()]).await;
    let after = log_until(&broker, "last").await;
    next.kill().await.unwrap();

    assert_eq!(before, numbers(0..4));
    assert_eq!(without_repetition(after), with_last(numbers(0..20)));
}

/// Killed with SIGKILL under load, and replaced with the same client id within milliseconds.
async fn a_killed_process_is_replaced_at_once_without_loss(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    let mut process = start_receiver(&broker, None).await;

    for round in 0..5 {
        let before: Vec<_> = numbers(round * 40..round * 40 + 20);
        publish_all(&sender, "process", &before).await;
        process.start_kill().unwrap();
        publish_all(
            &sender,
            "process",
            &numbers(round * 40 + 20..round * 40 + 40),
        )
        .await;
        process = start_receiver(&broker, None).await;
    }
    publish_all(&sender, "process", &["last".to_owned()]).await;
    let received = log_until(&broker, "last").await;
    process.kill().await.unwrap();

    assert_eq!(without_repetition(received), with_last(numbers(0..200)));
}

/// A frozen process keeps its connection open, and its successor connects over it.
async fn a_successor_gets_what_a_frozen_process_did_not_acknowledge(kind: Kind) {
    let broker = Broker::start(kind).await;
    let sender = broker.sender("sender").await;
    let mut frozen = start_receiver(&broker, None).await;
    let id = rustix::process::Pid::from_raw(frozen.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::STOP).unwrap();
    publish_all(&sender, "process", &numbers(0..50)).await;

    let mut successor = broker.receiver("process", "process").await;
    publish_all(&sender, "process", &["last".to_owned()]).await;
    let received = successor.until("last").await;
    frozen.kill().await.unwrap();

    // It may have logged some before the signal took hold.
    let all = log_of(&broker).into_iter().chain(received).collect();
    assert_eq!(without_repetition(all), with_last(numbers(0..50)));
}

async fn start_receiver(broker: &Broker, die_at: Option<&str>) -> tokio::process::Child {
    let log = broker.path("received.log");
    let url = broker.address().url;
    let log = log.to_str().unwrap();
    let mut arguments = vec![url.as_str(), "process", "process", log];
    arguments.extend(die_at);
    start_child(env!("CARGO_BIN_EXE_receiver"), &arguments, "ready").await
}

fn log_of(broker: &Broker) -> Vec<String> {
    let log = std::fs::read_to_string(broker.path("received.log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// A file gives no event without another dependency, so it is read again until `last` is in it.
async fn log_until(broker: &Broker, last: &str) -> Vec<String> {
    let reading = async {
        loop {
            let lines = log_of(broker);
            if lines.iter().any(|line| line == last) {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap()
}

/// At least once: what was logged and not yet acknowledged comes again.
fn without_repetition(received: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    received
        .into_iter()
        .filter(|payload| seen.insert(payload.clone()))
        .collect()
}

fn with_last(mut payloads: Vec<String>) -> Vec<String> {
    payloads.push("last".to_owned());
    payloads
}
