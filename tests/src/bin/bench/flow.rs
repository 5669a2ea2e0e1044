//! MQTT → log → handler → MQTT, beside what the broker gives without anything between.

use std::time::{Duration, Instant};

use lamplighter_policies::physical_world::{Causes, Position};
use lamplighter_policies::protocol::messages::{Envelope, Link};
use lamplighter_runtime::clock;
use lamplighter_runtime::message_pack;

use crate::Outcome;
use crate::application::Input;
use crate::raw_mqtt::{RawMqtt, WINDOW, plain};
use crate::repair::{event, topology_of_echoes};
use crate::report::{Reach, Round, Row, Subject};
use crate::saving::ROUNDS;
use crate::servers::{Servers, on_each_store};

const SPAN: Duration = Duration::from_millis(800);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The version byte before a message between elements.
const LINK_VERSION: u8 = 1;

/// `relay` between two elements: this program plays its sender and listens to what it sends on.
const CHAIN: &str = r#"
[elements.feeder]
kind = "Echo"
server = "here"
[elements.relay]
kind = "Echo"
server = "here"
[elements.taker]
kind = "Echo"
server = "here"
[bindings.fed]
from = "relay"
to = "feeder"
receive = [ { output = "out", input = "Tick" } ]
[bindings.taken]
from = "taker"
to = "relay"
receive = [ { output = "out", input = "Tick" } ]
"#;

/// Events a second through an element, from devices and from elements.
pub(crate) fn through_the_log(rows: &mut Vec<Row>) -> Outcome<()> {
    let elements = topology_of_echoes(1, 500) + CHAIN;
    on_each_store(&elements, |servers| {
        rows.push(from_device(servers)?);
        rows.push(from_element(servers)?);
        Ok(())
    })
}

fn from_device(servers: &Servers) -> Outcome<Row> {
    let alone = RawMqtt::connect(&servers.broker, "bench/alone", "bench/alone")?;
    let through = RawMqtt::connect(&servers.broker, "bench/0/in", "bench/0/out")?;
    let mut number = 0;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let limit = Some(alone.messages_per_second(1, SPAN, plain)?);
        let value = through.messages_per_second(1, SPAN, |_| {
            number += 1;
            event(number)
        })?;
        rounds.push(Round { value, limit });
    }
    let subject = Subject {
        name: format!("MQTT → log → handler → MQTT, device, {}", servers.name),
        unit: "events/s",
        limit_is: Some("Mosquitto alone, the same client, 128 B, QoS 1, same window"),
        reach: Some(Reach::RatioAtLeast(0.8)),
        conditions: format!(
            "from a device's topic to a device's topic, JSON of 128 B, QoS 1 both ways, each PUBACK after the \
             log; window {WINDOW}, Mosquitto; {ROUNDS} rounds of {} ms",
            SPAN.as_millis()
        ),
    };
    Ok(Row::of(subject, &rounds))
}

fn from_element(servers: &Servers) -> Outcome<Row> {
    let alone = RawMqtt::connect(&servers.broker, "bench/alone-0", "bench/alone-0")?;
    let through = RawMqtt::connect(
        &servers.broker,
        "lamplighter/bench/fed/events",
        "lamplighter/bench/taken/events",
    )?;
    let mut chain = Chain {
        client: through,
        sent: 0,
        back: Position::default(),
        back_count: 0,
    };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let limit = Some(alone.messages_per_second(0, SPAN, plain)?);
        let value = chain.events_per_second(SPAN)?;
        rounds.push(Round { value, limit });
    }
    let subject = Subject {
        name: format!("MQTT → log → handler → MQTT, element, {}", servers.name),
        unit: "events/s",
        limit_is: Some("Mosquitto alone, the same client, 128 B, QoS 0, same window"),
        reach: Some(Reach::RatioAtLeast(0.8)),
        conditions: format!(
            "from an element to an element, one envelope of 106 B of text per message, QoS 0 with \
             acknowledgement by the log; this program plays the sender; the receiver is a real element, which \
             logs them too, on the same cores; window {WINDOW}, Mosquitto; {ROUNDS} rounds of {} ms",
            SPAN.as_millis()
        ),
    };
    Ok(Row::of(subject, &rounds))
}

/// The sending end of a binding, and what its receiver sends on.
struct Chain {
    client: RawMqtt,
    sent: u64,
    back: Position,
    back_count: u64,
}

impl Chain {
    fn send(&mut self) -> Outcome<()> {
        let place = |index| match index {
            0 => Position::default(),
            index => Position::new(1, index, 0),
        };
        let after = place(self.sent);
        self.sent += 1;
        let mut payload = Vec::new();
        let text = "x".repeat(106);
        message_pack::encode_into(&mut payload, &Input::Tick { n: self.sent, text })?;
        let envelope = Envelope {
            position: place(self.sent),
            after,
            occurred_at: clock::wall(),
            expires_at: None,
            causes: Causes::default(),
            payload,
        };
        let mut bytes = vec![LINK_VERSION];
        message_pack::encode_into(&mut bytes, &Link::Events(vec![envelope]))?;
        self.client.publish(bytes, 0);
        Ok(())
    }

    /// Takes the next message; copies of what was there are not counted.
    fn receive(&mut self) -> Outcome<()> {
        let bytes = self.client.next(ANSWER_WITHIN)?;
        if let Link::Events(envelopes) = message_pack::decode(bytes.get(1..).unwrap_or_default())? {
            for envelope in envelopes {
                if envelope.position > self.back {
                    self.back = envelope.position;
                    self.back_count += 1;
                }
            }
        }
        Ok(())
    }

    fn events_per_second(&mut self, span: Duration) -> Outcome<f64> {
        let (begun, first) = (Instant::now(), self.sent);
        while begun.elapsed() < span || self.back_count < self.sent {
            while begun.elapsed() < span && self.sent - self.back_count < WINDOW as u64 {
                self.send()?;
            }
            if self.back_count < self.sent {
                self.receive()?;
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        Ok((self.sent - first) as f64 / begun.elapsed().as_secs_f64())
    }
}
