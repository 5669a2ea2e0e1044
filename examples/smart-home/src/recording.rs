//! A recording of MQTT traffic, one JSON object a line, and what of it is played.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::simulator::is_simulated;

/// The most lines a recording may have.
pub const LINES_MAX: usize = 1_000_000;

/// One message of the recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Milliseconds since the recording began.
    pub t_ms: u64,
    /// The topic under which it was published.
    pub topic: String,
    /// Whether the broker was to keep it for those who come later.
    pub retain: bool,
    /// The quality of service it was published with.
    pub qos: u8,
    /// The payload, which is text.
    pub payload: String,
}

impl Line {
    /// When it is due if the recording is played `speed` times as fast as it was recorded.
    #[must_use]
    pub fn due(&self, speed: f64) -> Duration {
        Duration::from_millis(self.t_ms).div_f64(speed)
    }
}

/// A recording in the order in which it was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// The messages that are played.
    pub lines: Vec<Line>,
    /// How many messages are left out: commands, questions, and what simulated devices report
    /// themselves.
    pub left_out: usize,
}

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("cannot read the recording {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line is not what it should be.
    #[error("{path}, line {line}: not a recorded message: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line; the first is 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl Recording {
    /// Reads a recording and leaves out what is not to be played.
    ///
    /// # Errors
    /// The file cannot be read, has a line that is not a recorded message or is earlier than the
    /// line before, or has more than [`LINES_MAX`] lines.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let read = |source| RecordingError::Read {
            path: path.to_owned(),
            source,
        };
        let mut recording = Self::default();
        let mut latest = 0;
        for (number, text) in BufReader::new(File::open(path).map_err(read)?)
            .lines()
            .enumerate()
        {
            let fault = |reason: String| RecordingError::Line {
                path: path.to_owned(),
                line: number + 1,
                reason,
            };
            if number >= LINES_MAX {
                return Err(fault(format!("a recording has at most {LINES_MAX} lines")));
            }
            let line: Line =
                serde_json::from_str(&text.map_err(read)?).map_err(|e| fault(e.to_string()))?;
            if line.t_ms < latest {
                return Err(fault(format!(
                    "{} ms comes after {latest} ms; messages stand in the order of their time",
                    line.t_ms
                )));
            }
            latest = line.t_ms;
            if is_played(&line.topic) {
                recording.lines.push(line);
            } else {
                recording.left_out += 1;
            }
        }
        Ok(recording)
    }

    /// How long the recording is.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.lines.last().map_or(0, |line| line.t_ms))
    }

    /// How many of the messages that are played have this topic.
    #[must_use]
    pub fn count(&self, topic: &str) -> usize {
        self.lines.iter().filter(|line| line.topic == topic).count()
    }
}

/// Commands and questions are the house's to send, not the recording's; and a lamp that is simulated
/// speaks for itself, or two lamps would speak on one topic.
fn is_played(topic: &str) -> bool {
    let device = topic.strip_suffix("/availability").unwrap_or(topic);
    !topic.ends_with("/set") && !topic.ends_with("/get") && !is_simulated(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Recording {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/zigbee2mqtt-evening.jsonl");
        Recording::read(&path).unwrap()
    }

    #[test]
    fn the_shipped_evening_is_played_without_commands_and_simulated_lamps() {
        let evening = shipped();
        let counts = [
            "zigbee2mqtt/0x0017880100fa1005",
            "zigbee2mqtt/0x0017880100fa1006",
            "zigbee2mqtt/0x0017880100fa1007",
            "zigbee2mqtt/0x0017880100fa1001/get",
            "zigbee2mqtt/bedroom/lamp",
            "zigbee2mqtt/bedroom/lamp/availability",
        ]
        .map(|topic| evening.count(topic));
        assert_eq!(counts, [37, 6, 7, 0, 0, 0]);
        assert_eq!(evening.lines.len() + evening.left_out, 77);
        assert_eq!(evening.length(), Duration::from_millis(95_622));
    }

    #[test]
    fn a_line_is_due_at_its_time_divided_by_the_speed() {
        let line = &shipped().lines[3];
        let expected = Duration::from_millis(line.t_ms) / 4;
        assert_eq!(line.due(4.0), expected);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evening.jsonl");
        let good = r#"{"t_ms":5,"topic":"a","retain":false,"qos":0,"payload":"x"}"#;
        let early = r#"{"t_ms":4,"topic":"a","retain":false,"qos":0,"payload":"x"}"#;
        for (text, line) in [
            (format!("{good}\nnonsense\n"), 2),
            (format!("{good}\n{early}\n"), 2),
        ] {
            std::fs::write(&path, text).unwrap();
            let fault = Recording::read(&path).unwrap_err();
            assert!(
                matches!(fault, RecordingError::Line { line: found, .. } if found == line),
                "{fault}"
            );
        }
    }
}
