//! What a broker gives without Lamplighter: the limit of all that goes over MQTT.

use std::path::Path;
use std::time::Duration;

use lamplighter_runtime::broker::mosquitto::{ManagedMosquitto, MosquittoSettings};

use crate::Outcome;
use crate::raw_mqtt::{RawMqtt, WINDOW, plain};
use crate::report::{Round, Row, Subject, folder};
use crate::saving::ROUNDS;
use crate::stores::runtime;

const SPAN: Duration = Duration::from_millis(500);

/// Mosquitto alone, from one publisher to one subscriber.
pub(crate) fn alone(rows: &mut Vec<Row>) -> Outcome<()> {
    let runtime = runtime()?;
    let folder = tempfile::tempdir_in(folder()?)?;
    let broker = runtime.block_on(mosquitto(folder.path()))?;
    let client = RawMqtt::connect(&broker.address().url, "bench/alone", "bench/alone")?;
    for quality in [0, 1] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let value = client.messages_per_second(quality, SPAN, plain)?;
            rounds.push(Round { value, limit: None });
        }
        let subject = Subject {
            name: format!("messages through Mosquitto alone, QoS {quality}"),
            unit: "messages/s",
            limit_is: None,
            reach: None,
            conditions: format!(
                "paho, 128 B, window {WINDOW}, publisher and subscriber in this process; {ROUNDS} \
                 rounds of {} ms",
                SPAN.as_millis()
            ),
        };
        rows.push(Row::of(subject, &rounds));
    }
    drop(client);
    runtime.block_on(broker.stop())?;
    Ok(())
}

/// A Mosquitto of our own; it must be started on the main thread, with whose end it ends.
pub(crate) async fn mosquitto(folder: &Path) -> Outcome<ManagedMosquitto> {
    let settings = MosquittoSettings {
        directory: folder.join("broker"),
        listen: ([127, 0, 0, 1], 0).into(),
        credentials: None,
    };
    Ok(ManagedMosquitto::start(settings).await?)
}
