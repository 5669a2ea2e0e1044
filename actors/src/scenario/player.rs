//! Plays a scenario into a broker, with its timing or faster, and counts what the broker took.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_policies::time::WallClock;
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::clock;
use lamplighter_runtime::transport::mqtt::{
    Handler, Mqtt, MqttError, MqttOptions, Publication, Publish, PublishError, Reception,
};
use tokio::time::{sleep, timeout};

use super::Scenario;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long the broker may take to acknowledge a message.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// How long the good-bye may take.
const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);

/// How many messages may wait for their acknowledgement; then the scenario waits too.
const UNFINISHED_MAX: usize = 500;

/// What was played.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// When it began.
    pub began_at: WallClock,
    /// How many messages of each topic the broker acknowledged. Only these may be held against it.
    pub acknowledged: BTreeMap<String, u64>,
    /// How many messages it did not acknowledge.
    pub unacknowledged: u64,
    /// How much later than due the latest message left.
    pub late: Duration,
}

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The broker cannot be used.
    #[error("the scenario cannot be played: {0}")]
    Broker(#[from] MqttError),
    /// A message cannot be published.
    #[error("a message for {topic} cannot be published: {source}")]
    Publish {
        /// Where it should have gone.
        topic: String,
        /// Why not.
        source: PublishError,
    },
}

/// A scenario's way into a broker.
#[derive(Debug)]
pub struct Player {
    mqtt: Mqtt,
}

impl Player {
    /// Connects to the broker, so that playing can begin at once.
    ///
    /// # Errors
    /// The broker cannot be reached, or refuses.
    pub async fn connect(broker: BrokerAddress) -> Result<Self, PlayError> {
        let handler: Handler = Arc::new(|_| Reception::Done);
        // Two players at once must not push each other off the broker.
        let name = format!("scenario-{}", std::process::id());
        let mqtt = Mqtt::start(MqttOptions::new(broker, name), Vec::new(), handler)?;
        mqtt.connected(CONNECT_WITHIN).await?;
        Ok(Self { mqtt })
    }

    /// Plays `scenario` into the broker, `speed` times as fast as it says, with QoS 1, byte for byte.
    /// `heard` is told, at each message, how much of the scenario is played.
    ///
    /// # Errors
    /// The broker refuses to take a message at all.
    pub async fn play(
        &self,
        scenario: &Scenario,
        speed: f64,
        mut heard: impl FnMut(Duration),
    ) -> Result<Played, PlayError> {
        let begins = clock::monotonic();
        let mut played = Played {
            began_at: clock::wall(),
            ..Played::default()
        };
        let mut unfinished = VecDeque::new();
        for message in &scenario.messages {
            let due = begins + message.at.div_f64(speed);
            sleep(due - clock::monotonic()).await;
            if unfinished.len() == UNFINISHED_MAX
                && let Some((topic, publication)) = unfinished.pop_front()
            {
                played.settle(topic, publication).await;
            }
            let publication = self
                .mqtt
                .publish(
                    &message.topic,
                    message.payload.clone(),
                    Publish::at_least_once(),
                )
                .map_err(|source| PlayError::Publish {
                    topic: message.topic.clone(),
                    source,
                })?;
            played.late = played.late.max(clock::monotonic() - due);
            unfinished.push_back((message.topic.as_str(), publication));
            heard(message.at);
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
