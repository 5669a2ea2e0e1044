//! The broker without Lamplighter: one publisher and one subscriber in this process, as the limit.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use paho_mqtt::{
    AsyncClient, ConnectOptionsBuilder, CreateOptionsBuilder, MQTT_VERSION_5, Message,
    PersistenceType,
};

use crate::Outcome;
use crate::load::PAYLOAD_BYTES;

/// How many messages are on their way at a time.
pub(crate) const WINDOW: usize = 64;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A client that publishes on one topic and gets what arrives on another.
pub(crate) struct RawMqtt {
    client: AsyncClient,
    publishes: String,
    arrivals: Receiver<Vec<u8>>,
}

impl RawMqtt {
    /// Connects to `url` and subscribes to the topic `arrives`.
    ///
    /// # Errors
    /// Those of the broker.
    pub(crate) fn connect(url: &str, publishes: &str, arrives: &str) -> Outcome<Self> {
        let created = CreateOptionsBuilder::new()
            .server_uri(url)
            .client_id(format!("bench-{:x}", rand::random::<u64>()))
            .mqtt_version(MQTT_VERSION_5)
            .persistence(PersistenceType::None)
            .finalize();
        let client = AsyncClient::new(created)?;
        let (arrived, arrivals) = channel();
        client.set_message_callback(move |_, message| {
            if let Some(message) = message {
                // The receiver is gone only at the end of the run.
                drop(arrived.send(message.payload().to_vec()));
            }
        });
        client
            .connect(ConnectOptionsBuilder::new_v5().finalize())
            .wait_for(ANSWER_WITHIN)?;
        client.subscribe(arrives, 1).wait_for(ANSWER_WITHIN)?;
        Ok(Self {
            client,
            publishes: publishes.to_string(),
            arrivals,
        })
    }

    /// Publishes without waiting.
    pub(crate) fn publish(&self, payload: Vec<u8>, quality: i32) {
        // Paho keeps what it needs of the token.
        drop(
            self.client
                .publish(Message::new(&self.publishes, payload, quality)),
        );
    }

    /// Waits for the next arrival.
    ///
    /// # Errors
    /// Nothing came in time.
    pub(crate) fn next(&self, within: Duration) -> Outcome<Vec<u8>> {
        Ok(self.arrivals.recv_timeout(within)?)
    }

    /// Messages a second from the publisher to what arrives, [`WINDOW`] on their way.
    ///
    /// # Errors
    /// One did not come back.
    pub(crate) fn messages_per_second(
        &self,
        quality: i32,
        span: Duration,
        mut payload: impl FnMut(u64) -> Vec<u8>,
    ) -> Outcome<f64> {
        let begun = Instant::now();
        let (mut sent, mut back) = (0_u64, 0_u64);
        while begun.elapsed() < span || back < sent {
            while begun.elapsed() < span && sent - back < WINDOW as u64 {
                sent += 1;
                self.publish(payload(sent), quality);
            }
            if back < sent {
                self.next(ANSWER_WITHIN)?;
                back += 1;
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        Ok(back as f64 / begun.elapsed().as_secs_f64())
    }
}

impl Drop for RawMqtt {
    fn drop(&mut self) {
        // The broker ends with this run, so it does not matter whether it heard the farewell.
        drop(self.client.disconnect(None).wait_for(ANSWER_WITHIN));
    }
}

/// A payload of the usual size.
pub(crate) fn plain(_: u64) -> Vec<u8> {
    vec![0x5a; PAYLOAD_BYTES]
}
