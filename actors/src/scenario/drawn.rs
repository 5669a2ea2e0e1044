//! Streams: messages at a rate, with values that are drawn from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::Value;

use super::file::Span;
use super::{MESSAGES_MAX, Message};

/// Messages on one topic at a rate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) topic: String,
    /// When the first is due.
    #[serde(default)]
    from: Span,
    /// How far they are apart, on average.
    every: Span,
    #[serde(default)]
    arrivals: Arrivals,
    /// How much earlier or later than that each may be.
    #[serde(default)]
    jitter: Span,
    /// Until when; this or `count` is needed.
    until: Option<Span>,
    count: Option<usize>,
    /// What each says.
    payload: Option<Value>,
    /// Of which one is drawn for each.
    #[serde(default)]
    payloads: Vec<Value>,
    /// Fields of the payload that are drawn for each.
    #[serde(default)]
    draw: BTreeMap<String, Draw>,
    /// A field of the payload that counts the messages from 1.
    number: Option<String>,
}

/// How the messages of a stream follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Arrivals {
    /// In even steps.
    #[default]
    Regular,
    /// Each independent of the others (a Poisson process).
    Random,
}

/// What a field is drawn from.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Draw {
    /// One of these.
    Of(Vec<Value>),
    /// A number between, `to` included, with so many digits after the point.
    Between {
        from: f64,
        to: f64,
        #[serde(default)]
        digits: u8,
    },
}

/// The most digits after the point that a number can be drawn with.
const DIGITS_MAX: u8 = 12;

impl Stream {
    /// The messages of the stream. `seed` is its own.
    ///
    /// # Errors
    /// For people: what cannot be, and what to write instead.
    pub(super) fn messages(&self, seed: u64) -> Result<Vec<Message>, String> {
        self.check()?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut messages = Vec::new();
        let mut at = self.from.0;
        let count = self.count.unwrap_or(usize::MAX);
        while messages.len() < count && self.until.is_none_or(|until| at < until.0) {
            if messages.len() == MESSAGES_MAX {
                return Err(format!(
                    "it has more than {MESSAGES_MAX} messages; shorten it or make `every` longer"
                ));
            }
            messages.push(Message {
                at: self.shaken(at, &mut random),
                topic: self.topic.clone(),
                payload: self.payload(messages.len() + 1, &mut random),
            });
            at += match self.arrivals {
                Arrivals::Regular => self.every.0,
                // The spans of a Poisson process are exponential; 1 - u is never 0.
                Arrivals::Random => self.every.0.mul_f64(-(1.0 - random.random::<f64>()).ln()),
            };
        }
        messages.sort_by_key(|message| message.at);
        Ok(messages)
    }

    fn check(&self) -> Result<(), String> {
        if self.every.0.is_zero() {
            return Err("`every` is 0; write how far the messages are apart".into());
        }
        if self.until.is_none() && self.count.is_none() {
            return Err("it never ends; add `until` or `count`".into());
        }
        if self.payload.is_some() != self.payloads.is_empty() {
            return Err("give either `payload` or `payloads`".into());
        }
        let fields = self.draw.keys().chain(&self.number);
        if let Some(field) = fields.into_iter().next() {
            let mut payloads = self.payload.iter().chain(&self.payloads);
            if payloads.any(|payload| !payload.is_object()) {
                return Err(format!(
                    "`{field}` is a field, and the payload has none; write it as a table"
                ));
            }
        }
        for (field, draw) in &self.draw {
            match draw {
                Draw::Of(choices) if choices.is_empty() => {
                    return Err(format!("`draw.{field}` has nothing to draw from"));
                }
                Draw::Between { from, to, digits } => {
                    let finite = from.is_finite() && to.is_finite();
                    if !finite || from > to || *digits > DIGITS_MAX {
                        return Err(format!(
                            "`draw.{field}` needs from <= to, and at most {DIGITS_MAX} digits"
                        ));
                    }
                }
                Draw::Of(_) => {}
            }
        }
        Ok(())
    }

    fn shaken(&self, at: Duration, random: &mut ChaCha8Rng) -> Duration {
        if self.jitter.0.is_zero() {
            return at;
        }
        let shift = self.jitter.0.mul_f64(random.random::<f64>());
        if random.random() {
            at + shift
        } else {
            at.saturating_sub(shift)
        }
    }

    fn payload(&self, number: usize, random: &mut ChaCha8Rng) -> Vec<u8> {
        let drawn = || self.payloads[random_index(self.payloads.len(), random)].clone();
        let mut payload = self.payload.clone().unwrap_or_else(drawn);
        if let Value::Object(fields) = &mut payload {
            for (field, draw) in &self.draw {
                fields.insert(field.clone(), draw.value(random));
            }
            if let Some(field) = &self.number {
                fields.insert(field.clone(), number.into());
            }
        }
        bytes(&payload)
    }
}

/// What is published: text as it is, everything else as JSON.
pub(super) fn bytes(payload: &Value) -> Vec<u8> {
    let text = payload.as_str().map(ToOwned::to_owned);
    text.unwrap_or_else(|| payload.to_string()).into_bytes()
}

impl Draw {
    fn value(&self, random: &mut ChaCha8Rng) -> Value {
        match self {
            Self::Of(choices) => choices[random_index(choices.len(), random)].clone(),
            Self::Between { from, to, digits } => {
                let scale = 10_f64.powi(i32::from(*digits));
                let number = (random.random_range(*from..=*to) * scale).round() / scale;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a whole number beyond i64 is shown as the greatest there is"
                )]
                if *digits == 0 {
                    (number as i64).into()
                } else {
                    number.into()
                }
            }
        }
    }
}

fn random_index(length: usize, random: &mut ChaCha8Rng) -> usize {
    random.random_range(0..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &str) -> Stream {
        toml::from_str(text).unwrap()
    }

    fn texts(messages: &[Message]) -> Vec<(u64, String)> {
        let text = |message: &Message| {
            let at = u64::try_from(message.at.as_millis()).unwrap();
            (at, String::from_utf8(message.payload.clone()).unwrap())
        };
        messages.iter().map(text).collect()
    }

    #[test]
    fn a_regular_stream_counts_its_messages_until_it_ends() {
        let stream = stream(
            r#"
            topic = "home/clock"
            from = "1s"
            every = "500ms"
            until = "2s"
            payload = { tick = true }
            number = "n"
            "#,
        );
        assert_eq!(
            texts(&stream.messages(7).unwrap()),
            [
                (1_000, r#"{"n":1,"tick":true}"#.to_owned()),
                (1_500, r#"{"n":2,"tick":true}"#.to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_drawn_follows_from_the_seed_and_lies_within_its_bounds() {
        let stream = stream(
            r#"
            topic = "home/climate"
            every = "10ms"
            arrivals = "random"
            jitter = "3ms"
            count = 500
            payload = {}
            draw = { temperature = { from = 18, to = 24, digits = 1 }, window = ["open", "shut"] }
            "#,
        );
        let messages = stream.messages(7).unwrap();
        assert_eq!(messages, stream.messages(7).unwrap());
        assert_ne!(messages, stream.messages(8).unwrap());
        let mut windows = BTreeMap::new();
        for message in &messages {
            let value: Value = serde_json::from_slice(&message.payload).unwrap();
            let temperature = value["temperature"].as_f64().unwrap();
            assert!((18.0..=24.0).contains(&temperature), "{temperature}");
            *windows.entry(value["window"].to_string()).or_insert(0) += 1;
        }
        assert_eq!(windows.values().sum::<i32>(), 500);
        assert_eq!(windows.len(), 2);
        assert!(messages.is_sorted_by_key(|message| message.at));
        // 500 spans of 10 ms on average: far outside of this no draw of 500 lies.
        let length = messages.last().unwrap().at.as_secs_f64();
        assert!((3.0..8.0).contains(&length), "{length}");
    }

    #[test]
    fn a_stream_that_cannot_be_says_why() {
        let base = "topic = \"a\"\n";
        for (text, reason) in [
            ("every = \"0s\"\ncount = 1\npayload = 1", "`every` is 0"),
            ("every = \"1s\"\npayload = 1", "it never ends"),
            (
                "every = \"1s\"\ncount = 1",
                "either `payload` or `payloads`",
            ),
            (
                "every = \"1s\"\ncount = 1\npayload = 1\nnumber = \"n\"",
                "`n` is a field",
            ),
            (
                "every = \"1s\"\ncount = 1\npayload = {}\ndraw = { a = [] }",
                "nothing to draw from",
            ),
            (
                "every = \"1s\"\ncount = 1\npayload = {}\ndraw = { a = { from = 2, to = 1 } }",
                "from <= to",
            ),
            (
                "every = \"1us\"\nuntil = \"1h\"\npayload = 1",
                "more than 1000000 messages",
            ),
        ] {
            let said = stream(&format!("{base}{text}")).messages(1).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }
}
