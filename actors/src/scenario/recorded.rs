//! Recorded traffic: one JSON object a line, in the order in which it was seen.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MESSAGES_MAX, Message, Scenario, ScenarioError};

/// One line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// Milliseconds since the recording began.
    pub(super) t_ms: u64,
    pub(super) topic: String,
    /// Whether the broker had kept it from before; kept here for people.
    #[serde(default)]
    pub(super) retain: bool,
    /// How it came; everything is played with QoS 1, so that it is known what arrived.
    #[serde(default)]
    pub(super) qos: u8,
    /// The payload, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<String>,
    /// The payload as hexadecimal digits, if it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) payload_hex: Option<String>,
}

/// Reads a recording; what one of the MQTT filters takes is left out.
pub(super) fn read(path: &Path, leave_out: &[String]) -> Result<Scenario, ScenarioError> {
    let unreadable = |source| ScenarioError::Read {
        path: path.to_owned(),
        source,
    };
    let mut messages: Vec<Message> = Vec::new();
    let lines = BufReader::new(File::open(path).map_err(unreadable)?).lines();
    for (number, text) in lines.enumerate() {
        let fault = |reason: String| ScenarioError::Line {
            path: path.to_owned(),
            line: number + 1,
            reason,
        };
        if number >= MESSAGES_MAX {
            return Err(ScenarioError::TooLong {
                path: path.to_owned(),
            });
        }
        let text = text.map_err(unreadable)?;
        let line: Line = serde_json::from_str(&text)
            .map_err(|error| fault(format!("not a recorded message: {error}")))?;
        let message = line.message().map_err(fault)?;
        if messages.last().is_some_and(|before| message.at < before.at) {
            let reason = format!(
                "{} ms is earlier than the line before; messages stand in the order of their time",
                message.at.as_millis()
            );
            return Err(fault(reason));
        }
        messages.push(message);
    }
    let scenario = Scenario {
        messages,
        left_out: 0,
    };
    Ok(scenario.without(leave_out))
}

impl Line {
    /// The line for a message that was seen.
    pub(super) fn of(at: Duration, topic: String, payload: &[u8], retain: bool, qos: u8) -> Self {
        let text = std::str::from_utf8(payload).ok();
        Self {
            t_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            topic,
            retain,
            qos,
            payload: text.map(ToOwned::to_owned),
            payload_hex: text.is_none().then(|| to_hex(payload)),
        }
    }

    fn message(self) -> Result<Message, String> {
        let payload = match (self.payload, self.payload_hex) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(digits)) => from_hex(&digits)
                .ok_or("payload_hex is not an even number of hexadecimal digits")?,
            (None, None) => return Err("it has neither payload nor payload_hex".into()),
            (Some(_), Some(_)) => return Err("it has both payload and payload_hex".into()),
        };
        Ok(Message {
            at: Duration::from_millis(self.t_ms),
            topic: self.topic,
            payload,
        })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(nibble(*high)? * 16 + nibble(*low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evening.jsonl");
        std::fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn what_was_recorded_is_read_as_it_was_text_or_not() {
        let seen = [
            (5, "home/motion", b"{\"on\":true}".as_slice()),
            (9, "home/raw", &[0xff, 0x00]),
        ];
        let lines = seen.map(|(at, topic, payload)| {
            let at = Duration::from_millis(at);
            let line = Line::of(at, topic.into(), payload, true, 0);
            serde_json::to_string(&line).unwrap()
        });
        let (_directory, path) = written(&lines.join("\n"));
        let expected = seen.map(|(at, topic, payload)| Message {
            at: Duration::from_millis(at),
            topic: topic.into(),
            payload: payload.to_vec(),
        });
        assert_eq!(read(&path, &[]).unwrap().messages, expected);
    }

    #[test]
    fn a_line_that_is_no_message_is_named() {
        let good = r#"{"t_ms":5,"topic":"a","payload":"x"}"#;
        for (second, reason) in [
            ("nonsense", "not a recorded message"),
            (r#"{"t_ms":4,"topic":"a","payload":"x"}"#, "4 ms is earlier"),
            (
                r#"{"t_ms":6,"topic":"a"}"#,
                "neither payload nor payload_hex",
            ),
            (
                r#"{"t_ms":6,"topic":"a","payload_hex":"0g"}"#,
                "hexadecimal",
            ),
            (
                r#"{"t_ms":6,"topic":"a","payload":"","payload_hex":""}"#,
                "both payload and payload_hex",
            ),
        ] {
            let (_directory, path) = written(&format!("{good}\n{second}\n"));
            let fault = read(&path, &[]).unwrap_err().to_string();
            assert!(
                fault.contains("line 2: ") && fault.contains(reason),
                "{fault}"
            );
        }
    }
}
