//! The devices around the elements: they say numbers, and ask what arrived.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Mqtt, MqttOptions, Publish, QualityOfService, Reception, Subscription,
};
use lamplighter_tests::application::PATIENCE;
use lamplighter_tests::site::Site;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// One number in this time.
const PERIOD: Duration = Duration::from_millis(20);

pub(super) struct Outside {
    mqtt: Arc<Mqtt>,
    answers: mpsc::UnboundedReceiver<Told>,
}

/// What the collector has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
struct Told {
    forwarded: Vec<u32>,
    direct: Vec<u32>,
}

impl Outside {
    pub(super) async fn connect(broker: &str) -> Self {
        let address = BrokerAddress {
            url: broker.to_owned(),
            user: None,
            password: None,
        };
        let answer = Subscription {
            filter: "test/told".into(),
            quality: QualityOfService::AtLeastOnce,
        };
        let (tell, answers) = mpsc::unbounded_channel();
        let hear = Arc::new(move |message: &_| tell_of(message, &tell));
        let mqtt = Mqtt::start(
            MqttOptions::new(address, "outside"),
            vec![answer],
            Arc::new(move |message| {
                hear(&message.payload);
                Reception::Done
            }),
        );
        let mqtt = mqtt.unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        Self {
            mqtt: Arc::new(mqtt),
            answers,
        }
    }

    /// Says 1, 2 and so on, steadily, to both elements.
    pub(super) fn load(&self) -> Load {
        let (stop, stopped) = watch::channel(false);
        let mqtt = Arc::clone(&self.mqtt);
        let saying = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(PERIOD);
            for number in 1.. {
                ticks.tick().await;
                say(&mqtt, "test/read", &format!("{{\"n\":{number}}}")).await;
                say(&mqtt, "test/direct", &format!("{{\"n\":{number}}}")).await;
                if *stopped.borrow() {
                    return number;
                }
            }
            unreachable!("numbers do not run out")
        });
        Load { stop, saying }
    }

    /// Sees that the collector has every number up to `last` once, in its order, through both elements.
    pub(super) async fn has_all(&mut self, last: u32, site: &Site) {
        let began = Instant::now();
        loop {
            // Without an answer in time the question was lost with a host.
            say(&self.mqtt, "test/tell", "0").await;
            let answer = timeout(Duration::from_millis(500), self.answers.recv()).await;
            if let Ok(Some(told)) = answer
                && told.forwarded.contains(&last)
                && told.direct.contains(&last)
            {
                let all: Vec<u32> = (1..=last).collect();
                assert_eq!(told.direct, all, "direct {}", site.logs());
                assert_eq!(told.forwarded, all, "forwarded {}", site.logs());
                return;
            }
            let waited = began.elapsed();
            assert!(waited < PATIENCE, "{last} is missing {}", site.logs());
        }
    }
}

fn tell_of(payload: &[u8], tell: &mpsc::UnboundedSender<Told>) {
    tell.send(serde_json::from_slice(payload).unwrap()).ok();
}

/// A device that goes on talking.
pub(super) struct Load {
    stop: watch::Sender<bool>,
    saying: JoinHandle<u32>,
}

impl Load {
    /// The last number that was said.
    pub(super) async fn stop(self) -> u32 {
        self.stop.send_replace(true);
        self.saying.await.unwrap()
    }
}

/// Says something, and returns once the broker has taken it.
async fn say(mqtt: &Mqtt, topic: &str, payload: &str) {
    let publication = mqtt.publish(topic, payload.to_owned(), Publish::at_least_once());
    publication.unwrap().await.unwrap();
}
