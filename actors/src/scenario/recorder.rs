//! Records what goes over a broker, so that it can be played again.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lamplighter_policies::time::Monotonic;
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::clock;
use lamplighter_runtime::transport::mqtt::{
    Handler, Incoming, Mqtt, MqttError, MqttOptions, QualityOfService, Reception, Subscription,
};
use tokio::sync::mpsc;

use super::MESSAGES_MAX;
use super::recorded::Line;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long the good-bye may take.
const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);

/// How many messages may wait to be written; what comes beyond is counted as missed.
const WAITING_MAX: usize = 65_536;

/// What was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// How many messages are in the file.
    pub written: usize,
    /// How many came faster than they could be written, and are not.
    pub missed: u64,
    /// Whether the recording ended because it had as many messages as a scenario may have.
    pub full: bool,
}

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The broker cannot be used.
    #[error("nothing can be recorded: {0}")]
    Broker(#[from] MqttError),
    /// The file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
}

/// A connection that hears what goes over a broker.
#[derive(Debug)]
pub struct Recorder {
    mqtt: Mqtt,
    heard: mpsc::Receiver<(Monotonic, Incoming)>,
    missed: Arc<AtomicU64>,
}

impl Recorder {
    /// Connects and subscribes to the topics that these MQTT filters take.
    ///
    /// # Errors
    /// The broker cannot be reached, or refuses.
    pub async fn connect(broker: BrokerAddress, filters: &[String]) -> Result<Self, RecordError> {
        let (sender, heard) = mpsc::channel(WAITING_MAX);
        let missed = Arc::new(AtomicU64::new(0));
        let missing = missed.clone();
        let handler: Handler = Arc::new(move |incoming| {
            if sender.try_send((clock::monotonic(), incoming)).is_err() {
                missing.fetch_add(1, Ordering::Relaxed);
            }
            Reception::Done
        });
        let subscription = |filter: &String| Subscription {
            filter: filter.clone(),
            quality: QualityOfService::AtLeastOnce,
        };
        let subscriptions = filters.iter().map(subscription).collect();
        let name = format!("recorder-{}", std::process::id());
        let mqtt = Mqtt::start(MqttOptions::new(broker, name), subscriptions, handler)?;
        mqtt.connected(CONNECT_WITHIN).await?;
        Ok(Self {
            mqtt,
            heard,
            missed,
        })
    }

    /// Writes what is heard until `stop` completes or `count_max` messages are written. `heard` is told
    /// how many are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn record(
        mut self,
        file: &Path,
        count_max: usize,
        stop: impl Future<Output = ()>,
        mut heard: impl FnMut(usize),
    ) -> Result<Recorded, RecordError> {
        let failed = |source| RecordError::Write {
            path: file.to_owned(),
            source,
        };
        let mut writer = BufWriter::new(std::fs::File::create(file).map_err(failed)?);
        let began = clock::monotonic();
        let mut recorded = Recorded::default();
        tokio::pin!(stop);
        while recorded.written < count_max.min(MESSAGES_MAX) {
            let next = tokio::select! {
                biased;
                next = self.heard.recv() => next,
                () = &mut stop => None,
            };
            let Some((at, message)) = next else { break };
            let line = Line::of(
                at - began,
                message.topic,
                &message.payload,
                message.retained,
                match message.quality {
                    QualityOfService::AtMostOnce => 0,
                    QualityOfService::AtLeastOnce => 1,
                },
            );
            serde_json::to_writer(&mut writer, &line).map_err(|error| failed(error.into()))?;
            writer.write_all(b"\n").map_err(failed)?;
            recorded.written += 1;
            heard(recorded.written);
        }
        writer.flush().map_err(failed)?;
        self.mqtt.disconnect(DISCONNECT_WITHIN).await;
        recorded.missed = self.missed.load(Ordering::Relaxed);
        recorded.full = recorded.written == MESSAGES_MAX;
        Ok(recorded)
    }
}
