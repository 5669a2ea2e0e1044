//! Scenarios that are described rather than recorded.

use std::path::Path;
use std::time::Duration;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::drawn::{Stream, bytes};
use super::{MESSAGES_MAX, Message, Scenario, ScenarioError, recorded};

/// The largest description that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A description.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// What the drawn parts follow from; without it, what the command says.
    seed: Option<u64>,
    #[serde(default)]
    message: Vec<Single>,
    #[serde(default)]
    stream: Vec<Stream>,
    #[serde(default)]
    recording: Vec<Recording>,
}

/// One message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Single {
    at: Span,
    topic: String,
    payload: Value,
}

/// A recording that is played as a part.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    /// Beside the description, unless it begins at the root.
    file: std::path::PathBuf,
    #[serde(default)]
    at: Span,
    /// MQTT filters of topics that are not played.
    #[serde(default)]
    leave_out: Vec<String>,
}

/// A span of time, written as in topologies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = lamplighter_config::parse_duration(&text);
        span.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is no duration; write a number and one of us, ms, s, m, h, d, such as \"100ms\""
            ))
        })
    }
}

/// Reads a description and makes its messages.
pub(super) fn read(path: &Path, seed: u64) -> Result<Scenario, ScenarioError> {
    let unreadable = |source| ScenarioError::Read {
        path: path.to_owned(),
        source,
    };
    let malformed = |reason: String| ScenarioError::Malformed {
        path: path.to_owned(),
        reason,
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(malformed(format!(
            "it has more than {FILE_BYTES_MAX} bytes; put long traffic into a .jsonl file and name it under [[recording]]"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let description: Description =
        toml::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    let part = |kind: &str, number: usize, reason: String| ScenarioError::Part {
        path: path.to_owned(),
        part: format!("{kind} {}", number + 1),
        reason,
    };
    // Each stream draws from a seed of its own, so that a change of one leaves the others as they are.
    let mut seeds = ChaCha8Rng::seed_from_u64(description.seed.unwrap_or(seed));
    let mut scenario = Scenario::default();
    for (number, single) in description.message.into_iter().enumerate() {
        check(&single.topic).map_err(|reason| part("message", number, reason))?;
        scenario.messages.push(single.into());
    }
    for (number, stream) in description.stream.iter().enumerate() {
        let seed = seeds.next_u64();
        let fault = |reason| part("stream", number, reason);
        check(&stream.topic).map_err(fault)?;
        scenario
            .messages
            .extend(stream.messages(seed).map_err(fault)?);
    }
    for recording in description.recording {
        let beside = path.parent().unwrap_or(Path::new("."));
        let mut recorded = recorded::read(&beside.join(&recording.file), &recording.leave_out)?;
        for message in &mut recorded.messages {
            message.at += recording.at.0;
        }
        scenario.join(recorded);
        if scenario.messages.len() > MESSAGES_MAX {
            break;
        }
    }
    if scenario.messages.len() > MESSAGES_MAX {
        return Err(ScenarioError::TooLong {
            path: path.to_owned(),
        });
    }
    scenario.join(Scenario::default());
    Ok(scenario)
}

impl From<Single> for Message {
    fn from(single: Single) -> Self {
        Self {
            at: single.at.0,
            payload: bytes(&single.payload),
            topic: single.topic,
        }
    }
}

fn check(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        return Err(format!(
            "nothing can be published under {topic:?}; write a topic without + and #"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Scenario, ScenarioError> {
        let directory = tempfile::tempdir().unwrap();
        let line = r#"{"t_ms":1500,"topic":"old/motion","payload":"seen"}"#;
        let command = r#"{"t_ms":1600,"topic":"old/lamp/set","payload":"on"}"#;
        std::fs::write(
            directory.path().join("old.jsonl"),
            format!("{line}\n{command}\n"),
        )
        .unwrap();
        let path = directory.path().join("scenario.toml");
        std::fs::write(&path, text).unwrap();
        Scenario::read(&path, 1)
    }

    #[test]
    fn messages_streams_and_recordings_are_played_together() {
        let scenario = read_text(
            r#"
            [[message]]
            at = "2s"
            topic = "home/door"
            payload = { contact = false }
            [[stream]]
            topic = "home/clock"
            every = "1s"
            count = 2
            payload = "tick"
            [[recording]]
            file = "old.jsonl"
            at = "250ms"
            leave_out = ["+/+/set"]
            "#,
        )
        .unwrap();
        let message = |at, topic: &str, payload: &str| Message {
            at: Duration::from_millis(at),
            topic: topic.into(),
            payload: payload.into(),
        };
        assert_eq!(
            scenario,
            Scenario {
                messages: vec![
                    message(0, "home/clock", "tick"),
                    message(1_000, "home/clock", "tick"),
                    message(1_750, "old/motion", "seen"),
                    message(2_000, "home/door", r#"{"contact":false}"#),
                ],
                left_out: 1,
            }
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, said) in [
            ("[[message]]\nat = \"2\"", "line 2"),
            ("[[mesage]]", "unknown field `mesage`"),
            (
                "[[message]]\nat = \"2s\"\ntopic = \"a/#\"\npayload = 1",
                "message 1: nothing can be published under \"a/#\"",
            ),
            (
                "[[stream]]\ntopic = \"a\"\nevery = \"1s\"\npayload = 1",
                "stream 1: it never ends",
            ),
            ("[[recording]]\nfile = \"gone.jsonl\"", "cannot read"),
        ] {
            let fault = read_text(text).unwrap_err().to_string();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
