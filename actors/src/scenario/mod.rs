//! Scenarios: what is published into a broker, and when (paper, 5.2, the *Scenario Injector*).
//!
//! A scenario is a file: traffic that was recorded (`.jsonl`), or a description (`.toml`) of single
//! messages, of streams with a rate and drawn values, and of recordings to be played among them.
//! Whatever is drawn follows from a seed, so that the same file and seed give the same messages.
//! Nothing is published retained: what a broker keeps would outlive the scenario, and the next run
//! would take it for news.

mod drawn;
mod file;
mod player;
mod recorded;
mod recorder;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use player::{PlayError, Played, Player};
pub use recorder::{RecordError, Recorded, Recorder};

/// The most messages a scenario may have, which all lie in memory while it is played.
pub const MESSAGES_MAX: usize = 1_000_000;

/// The fastest that a scenario is played.
pub const SPEED_MAX: f64 = 1_000.0;

/// One message of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// When it is due, from the beginning, at speed 1.
    pub at: Duration,
    /// The topic under which it is published.
    pub topic: String,
    /// What is published.
    pub payload: Vec<u8>,
}

/// Messages in the order in which they are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenario {
    /// What is published.
    pub messages: Vec<Message>,
    /// How many messages of recordings are left out, as the scenario wants it.
    pub left_out: usize,
}

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The file is neither a recording nor a description.
    #[error("{path} is neither .toml nor .jsonl; name a scenario by its kind")]
    UnknownKind {
        /// Which file.
        path: PathBuf,
    },
    /// The file is no description.
    #[error("{path} is not a scenario:\n{reason}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where, and what is wrong.
        reason: String,
    },
    /// A part of a description asks for what cannot be.
    #[error("{path}, {part}: {reason}")]
    Part {
        /// Which file.
        path: PathBuf,
        /// Which part, such as `stream 2`; the first is 1.
        part: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A line of a recording is no message.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line; the first is 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is too much of it.
    #[error("{path} has more than {MESSAGES_MAX} messages; play it in parts")]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
}

impl Scenario {
    /// Reads a scenario. `seed` is what its drawn parts follow from, unless the file names its own.
    ///
    /// # Errors
    /// The file cannot be read or does not describe a scenario, with the place.
    pub fn read(path: &Path, seed: u64) -> Result<Self, ScenarioError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => file::read(path, seed),
            Some("jsonl") => recorded::read(path, &[]),
            _ => Err(ScenarioError::UnknownKind {
                path: path.to_owned(),
            }),
        }
    }

    /// Leaves out the messages with a topic that one of these MQTT filters takes, as commands that are
    /// the application's own to send.
    #[must_use]
    pub fn without(self, filters: &[impl AsRef<str>]) -> Self {
        self.only(|message| {
            let mut filters = filters.iter();
            !filters.any(|filter| matches(filter.as_ref(), &message.topic))
        })
    }

    /// Keeps the messages that are wanted.
    #[must_use]
    pub fn only(mut self, is_wanted: impl Fn(&Message) -> bool) -> Self {
        let before = self.messages.len();
        self.messages.retain(is_wanted);
        self.left_out += before - self.messages.len();
        self
    }

    /// When the last message is due, at speed 1.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.messages
            .last()
            .map_or(Duration::ZERO, |message| message.at)
    }

    /// How many of the messages have this topic.
    #[must_use]
    pub fn count(&self, topic: &str) -> usize {
        let messages = self.messages.iter();
        messages.filter(|message| message.topic == topic).count()
    }

    /// Adds messages of another part; each keeps its time, and of equal times the earlier part's is
    /// first.
    fn join(&mut self, other: Self) {
        self.messages.extend(other.messages);
        self.messages.sort_by_key(|message| message.at);
        self.left_out += other.left_out;
    }
}

/// Whether an MQTT filter takes a topic (MQTT 5, 4.7).
fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            Some(_) | None => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(at: u64, topic: &str) -> Message {
        Message {
            at: Duration::from_millis(at),
            topic: topic.into(),
            payload: vec![],
        }
    }

    #[test]
    fn parts_are_joined_by_time_and_an_earlier_part_is_first_at_the_same() {
        let mut scenario = Scenario {
            messages: vec![message(5, "a"), message(9, "a")],
            left_out: 1,
        };
        scenario.join(Scenario {
            messages: vec![message(2, "b"), message(5, "b")],
            left_out: 2,
        });
        let expected = [(2, "b"), (5, "a"), (5, "b"), (9, "a")];
        assert_eq!(
            scenario,
            Scenario {
                messages: expected.map(|(at, topic)| message(at, topic)).to_vec(),
                left_out: 3,
            }
        );
        assert_eq!(scenario.length(), Duration::from_millis(9));
        assert_eq!(scenario.count("b"), 2);
    }

    #[test]
    fn filters_take_topics_as_in_mqtt() {
        let cases = [
            ("home/+/set", "home/lamp/set", true),
            ("home/+/set", "home/lamp/get", false),
            ("home/#", "home/lamp/set", true),
            ("home/lamp", "home/lamp/set", false),
            ("+/lamp/set", "home/lamp", false),
            ("#", "anything/at/all", true),
        ];
        for (filter, topic, taken) in cases {
            assert_eq!(matches(filter, topic), taken, "{filter} {topic}");
        }
        let scenario = Scenario {
            messages: vec![message(1, "home/lamp/set"), message(2, "home/lamp")],
            left_out: 0,
        };
        let kept = scenario.without(&["home/+/set"]);
        assert_eq!(
            (kept.messages, kept.left_out),
            (vec![message(2, "home/lamp")], 1)
        );
    }
}
