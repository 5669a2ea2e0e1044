//! An MQTT client that logs what it receives before it acknowledges it, and can be killed at any
//! point: `receiver URL CLIENT_ID FILTER LOG [DIE_AT]`.
//!
//! Each message becomes a line of LOG. With DIE_AT, the process ends without a word when that many
//! messages have arrived, before it logs the last one. "ready" on standard output says that it is subscribed. It
//! ends with its standard input.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Mqtt, MqttOptions, QualityOfService, Reception, Subscription,
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, client_id, filter, log, rest @ ..] = arguments.as_slice() else {
        panic!("receiver URL CLIENT_ID FILTER LOG [DIE_AT]");
    };
    let die_at: u64 = rest
        .first()
        .map_or(u64::MAX, |number| number.parse().expect("a number"));
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("the log opens");
    let log = Mutex::new(log);
    let arrived_count = AtomicU64::new(0);

    let address = BrokerAddress {
        url: url.clone(),
        user: None,
        password: None,
    };
    let subscription = Subscription {
        filter: filter.clone(),
        quality: QualityOfService::AtLeastOnce,
    };
    let mqtt = Mqtt::start(
        MqttOptions::new(address, client_id),
        vec![subscription],
        Arc::new(move |message| {
            if arrived_count.fetch_add(1, Ordering::Relaxed) + 1 == die_at {
                std::process::abort();
            }
            let mut log = log.lock().expect("nobody panics with the log");
            // One system call, so that a kill leaves no half of a line behind.
            let line = format!("{}\n", String::from_utf8_lossy(&message.payload));
            log.write_all(line.as_bytes()).expect("the log is written");
            Reception::Done
        }),
    );
    let mqtt = mqtt.expect("the options are right");
    mqtt.connected(Duration::from_secs(20))
        .await
        .expect("the broker answers");
    writeln!(std::io::stdout(), "ready").expect("somebody listens");

    // Blocking is fine: Paho and the client have threads of their own.
    std::io::stdin()
        .read_to_end(&mut Vec::new())
        .expect("standard input ends");
    mqtt.disconnect(Duration::from_secs(1)).await;
}
