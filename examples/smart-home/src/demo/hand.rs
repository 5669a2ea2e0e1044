//! A hand in a house: it presses buttons, and an eye that sees what the devices then show.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Handler, Mqtt, MqttError, MqttOptions, Publish, PublishError, QualityOfService, Reception,
    Subscription,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::simulator::now_us;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long the broker may take to acknowledge a press.
const PRESSED_WITHIN: Duration = Duration::from_secs(10);

/// How long the good-bye may take.
const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Why a scene cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// The broker cannot be used.
    #[error("nobody can reach into the house: {0}")]
    Broker(#[from] MqttError),
    /// A press is refused.
    #[error("nobody can press anything in the house: {0}")]
    Press(#[from] PublishError),
    /// The broker does not answer.
    #[error("the broker did not take a press on {topic} within {PRESSED_WITHIN:?}")]
    Unanswered {
        /// Where was pressed.
        topic: String,
    },
}

/// A hand and an eye in a house.
#[derive(Debug)]
pub struct Hand {
    mqtt: Mqtt,
    seen: mpsc::UnboundedReceiver<(String, Value)>,
}

impl Hand {
    /// Reaches into a house, and looks at what is said on some topics.
    ///
    /// # Errors
    /// The broker cannot be reached, or refuses.
    pub async fn reach(broker: BrokerAddress, watched: &[&str]) -> Result<Self, HandError> {
        // What is seen is bounded by what some devices say within one scene.
        let (see, seen) = mpsc::unbounded_channel();
        let handler: Handler = Arc::new(move |incoming| {
            let body = serde_json::from_slice(&incoming.payload).unwrap_or(Value::Null);
            // Nobody looks any more once the scene is over.
            see.send((incoming.topic.clone(), body)).ok();
            Reception::Done
        });
        let subscriptions = watched.iter().map(|topic| Subscription {
            filter: (*topic).to_owned(),
            quality: QualityOfService::AtLeastOnce,
        });
        let options = MqttOptions::new(broker, "hand");
        let mqtt = Mqtt::start(options, subscriptions.collect(), handler)?;
        mqtt.connected(CONNECT_WITHIN).await?;
        Ok(Self { mqtt, seen })
    }

    /// Does something at a device that reports on `topic`, and returns when that was, in microseconds
    /// since 1970 UTC. No two reports are alike.
    ///
    /// # Errors
    /// The broker refuses it or does not answer.
    pub async fn press(&self, topic: &str, mut report: Value) -> Result<u64, HandError> {
        let at_us = now_us();
        report["last_seen"] = json!(at_us);
        let publication = self
            .mqtt
            .publish(topic, report.to_string(), Publish::at_least_once())?;
        match timeout(PRESSED_WITHIN, publication).await {
            Ok(Ok(())) => Ok(at_us),
            Ok(Err(_)) | Err(_) => Err(HandError::Unanswered {
                topic: topic.to_owned(),
            }),
        }
    }

    /// Waits until something is said on `topic` that is as wanted, and returns it with the time;
    /// `None` if it is not said in time. What was said before the wait and not looked at counts.
    pub async fn see(
        &mut self,
        topic: &str,
        within: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Option<(u64, Value)> {
        let looking = async {
            loop {
                let (said_on, body) = self.seen.recv().await?;
                if said_on == topic && wanted(&body) {
                    return Some((now_us(), body));
                }
            }
        };
        timeout(within, looking).await.ok().flatten()
    }

    /// Forgets what was seen and not looked at.
    pub fn look_away(&mut self) {
        while self.seen.try_recv().is_ok() {}
    }

    /// Leaves the house.
    pub async fn leave(self) {
        self.mqtt.disconnect(DISCONNECT_WITHIN).await;
    }
}
