//! What is around the clinic, an application in which a nurse calls a pump for every pain.

#![expect(clippy::unwrap_used, reason = "these are parts of tests")]

use std::sync::Arc;
use std::time::Duration;

use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Mqtt, MqttOptions, Publish, QualityOfService, Reception, Subscription,
};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::application::{Logs, PATIENCE};

/// The patient, and whoever wants to know.
pub struct Outside {
    mqtt: Mqtt,
    heard: tokio::sync::Mutex<Heard>,
}

struct Heard {
    answers: mpsc::UnboundedReceiver<Answers>,
    given: mpsc::UnboundedReceiver<Given>,
}

#[derive(Debug, Deserialize)]
struct Answers {
    answers: Vec<(u32, String)>,
}

#[derive(Debug, Deserialize)]
struct Given {
    given: Vec<u32>,
}

impl Outside {
    /// At the broker of the application.
    pub async fn connect(broker: &str) -> Self {
        let address = BrokerAddress {
            url: broker.to_owned(),
            user: None,
            password: None,
        };
        Self::connect_to(address).await
    }

    /// At a broker that asks who is there.
    pub async fn connect_to(address: BrokerAddress) -> Self {
        let subscribe = |filter: &str| Subscription {
            filter: filter.into(),
            quality: QualityOfService::AtLeastOnce,
        };
        let (tell_answers, answers) = mpsc::unbounded_channel();
        let (tell_given, given) = mpsc::unbounded_channel();
        let mqtt = Mqtt::start(
            MqttOptions::new(address, "outside"),
            vec![subscribe("test/answers"), subscribe("test/given")],
            Arc::new(move |message| {
                let payload = &message.payload;
                if message.topic == "test/answers" {
                    tell_answers
                        .send(serde_json::from_slice(payload).unwrap())
                        .ok();
                } else {
                    tell_given
                        .send(serde_json::from_slice(payload).unwrap())
                        .ok();
                }
                Reception::Done
            }),
        );
        let mqtt = mqtt.unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        let heard = tokio::sync::Mutex::new(Heard { answers, given });
        Self { mqtt, heard }
    }

    /// Says that it hurts, and returns once the broker has it.
    pub async fn pain(&self, n: u32) {
        let payload = format!("{{\"n\":{n}}}");
        let publication = self
            .mqtt
            .publish("test/pain", payload, Publish::at_least_once());
        publication.unwrap().await.unwrap();
    }

    async fn ask(&self, question: u32) {
        let question = question.to_string();
        let publication = self
            .mqtt
            .publish("test/tell", question, Publish::at_least_once());
        if let Ok(publication) = publication {
            publication.await.ok();
        }
    }

    /// All that the nurse was answered, once the answer to `last` is among it.
    pub async fn answers(&self, last: u32, application: &impl Logs) -> Vec<(u32, String)> {
        let began = Instant::now();
        let mut heard = self.heard.lock().await;
        let mut had = Vec::new();
        for question in 0.. {
            self.ask(question).await;
            if let Ok(Some(told)) = timeout(Duration::from_millis(500), heard.answers.recv()).await
            {
                had = told.answers;
                if had.iter().any(|(n, _)| *n == last) {
                    break;
                }
            }
            let waited = began.elapsed();
            assert!(waited < PATIENCE, "{had:?} {}", application.logs());
        }
        had
    }

    /// Sees that the nurse was answered exactly this.
    pub async fn answered(&self, expected: &[(u32, &str)], application: &impl Logs) {
        let (last, _) = expected.last().unwrap();
        let answers = self.answers(*last, application).await;
        let answers: Vec<_> = answers
            .iter()
            .map(|(n, text)| (*n, text.as_str()))
            .collect();
        assert_eq!(answers, expected, "{}", application.logs());
    }

    /// All that the pump gave, once `last` is among it.
    pub async fn given(&self, last: u32, application: &impl Logs) -> Vec<u32> {
        let began = Instant::now();
        let mut heard = self.heard.lock().await;
        for question in 0.. {
            self.ask(question).await;
            if let Ok(Some(told)) = timeout(Duration::from_millis(500), heard.given.recv()).await
                && told.given.contains(&last)
            {
                return told.given;
            }
            assert!(began.elapsed() < PATIENCE, "{}", application.logs());
        }
        unreachable!("questions do not run out")
    }
}
