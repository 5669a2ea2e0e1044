//! Plays a recording into a broker, with its timing or faster, and counts what the broker took.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Handler, Mqtt, MqttError, MqttOptions, Publication, Publish, PublishError, Reception,
};
use tokio::time::{Instant, sleep_until, timeout};

use crate::recording::Recording;
use crate::simulator::now_us;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long the broker may take to acknowledge a message.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// How long the good-bye may take.
const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);

/// How many messages may wait for their acknowledgement; then the recording waits too.
const UNFINISHED_MAX: usize = 500;

/// What was played.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// When it began, in microseconds since 1970 UTC.
    pub began_us: u64,
    /// How many messages of each topic the broker acknowledged. Only these may be held against it.
    pub acknowledged: BTreeMap<String, u64>,
    /// How many messages it did not acknowledge.
    pub unacknowledged: u64,
}

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The broker cannot be used.
    #[error("the recording cannot be played: {0}")]
    Broker(#[from] MqttError),
    /// A message cannot be published.
    #[error("the recording cannot be played: {0}")]
    Publish(#[from] PublishError),
}

/// A recording's way into a broker.
#[derive(Debug)]
pub struct Replayer {
    mqtt: Mqtt,
}

impl Replayer {
    /// Connects to the broker, so that playing can begin at once.
    ///
    /// # Errors
    /// The broker cannot be reached, or refuses.
    pub async fn connect(broker: BrokerAddress) -> Result<Self, ReplayError> {
        let handler: Handler = Arc::new(|_| Reception::Done);
        let options = MqttOptions::new(broker, "recording");
        let mqtt = Mqtt::start(options, Vec::new(), handler)?;
        mqtt.connected(CONNECT_WITHIN).await?;
        Ok(Self { mqtt })
    }

    /// Plays `recording` into the broker, `speed` times as fast as it was recorded, with QoS 1, byte
    /// for byte as it was recorded. `heard` is told, at each message, how much of the recording is
    /// played.
    ///
    /// # Errors
    /// The broker refuses to take a message at all.
    pub async fn play(
        &self,
        recording: &Recording,
        speed: f64,
        mut heard: impl FnMut(Duration),
    ) -> Result<Played, ReplayError> {
        let begins = Instant::now();
        let mut played = Played {
            began_us: now_us(),
            ..Played::default()
        };
        let mut unfinished = VecDeque::new();
        for line in &recording.lines {
            sleep_until(begins + line.due(speed)).await;
            if unfinished.len() == UNFINISHED_MAX
                && let Some((topic, publication)) = unfinished.pop_front()
            {
                played.settle(topic, publication).await;
            }
            let payload = line.payload.clone().into_bytes();
            let publication = self
                .mqtt
                .publish(&line.topic, payload, Publish::at_least_once())?;
            unfinished.push_back((line.topic.as_str(), publication));
            heard(Duration::from_millis(line.t_ms));
        }
        for (topic, publication) in unfinished {
            played.settle(topic, publication).await;
        }
        self.mqtt.disconnect(DISCONNECT_WITHIN).await;
        Ok(played)
    }
}

impl Played {
    async fn settle(&mut self, topic: &str, publication: Publication) {
        match timeout(ACKNOWLEDGED_WITHIN, publication).await {
            Ok(Ok(())) => *self.acknowledged.entry(topic.to_owned()).or_default() += 1,
            Ok(Err(_)) | Err(_) => self.unacknowledged += 1,
        }
    }
}
