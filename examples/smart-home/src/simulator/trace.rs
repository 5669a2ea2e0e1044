//! The physical trace: what the devices were told and what they did, written down by themselves.
//!
//! It is the only witness that does not believe the framework, so it stays outside the framework's
//! logs.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use lamplighter_runtime::clock;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A command that reached a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// When, in microseconds since 1970 UTC.
    pub at_us: u64,
    /// Which device, by its id in the topology.
    pub device: String,
    /// The `lamplighter-id` that came with the command; `None` if none did.
    pub id: Option<String>,
    /// The command as it came; a payload that is not JSON stands here as text.
    pub command: Value,
    /// Whether anything happened in the physical world.
    pub carried_out: bool,
    /// What the device shows after it.
    pub state: Value,
}

/// Why a trace cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be opened, written or read.
    #[error("cannot {attempted} the physical trace {path}: {source}")]
    File {
        /// What was attempted.
        attempted: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line is not a trace line.
    #[error("{path}, line {line}: not a line of a physical trace: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line; the first is 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// A trace that is being written.
#[derive(Debug)]
pub struct PhysicalTrace {
    path: PathBuf,
    file: File,
}

impl PhysicalTrace {
    /// Opens a trace; what is in it already stays.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|source| file_error("open", path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Adds a line, in one write, so that it is whole or not there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, line: &TraceLine) -> Result<(), TraceError> {
        let mut text = serde_json::to_vec(line).expect("a trace line has text keys only");
        text.push(b'\n');
        self.file
            .write_all(&text)
            .map_err(|source| file_error("write", &self.path, source))
    }

    /// Reads all lines of a trace.
    ///
    /// # Errors
    /// The file cannot be read, or has a line that is not one of a trace.
    pub fn read(path: &Path) -> Result<Vec<TraceLine>, TraceError> {
        let file = File::open(path).map_err(|source| file_error("open", path, source))?;
        BufReader::new(file)
            .lines()
            .enumerate()
            .map(|(number, text)| {
                let text = text.map_err(|source| file_error("read", path, source))?;
                serde_json::from_str(&text).map_err(|e| TraceError::Line {
                    path: path.to_owned(),
                    line: number + 1,
                    reason: e.to_string(),
                })
            })
            .collect()
    }
}

/// Microseconds since 1970 UTC.
#[must_use]
pub fn now_us() -> u64 {
    u64::try_from(clock::wall().0).unwrap_or(0)
}

fn file_error(attempted: &'static str, path: &Path, source: std::io::Error) -> TraceError {
    TraceError::File {
        attempted,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_written_is_read_back_also_after_the_file_was_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("physical.jsonl");
        let lines = [1, 2].map(|n| TraceLine {
            at_us: n,
            device: "hue-lamp".into(),
            id: Some(format!("node-hue-actuate/0.{n}.0")),
            command: json!({ "state": "ON" }),
            carried_out: n == 1,
            state: json!({ "state": "ON", "brightness": 110 }),
        });
        for line in &lines {
            PhysicalTrace::open(&path).unwrap().write(line).unwrap();
        }
        assert_eq!(PhysicalTrace::read(&path).unwrap(), lines);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("physical.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        let fault = PhysicalTrace::read(&path).unwrap_err();
        assert!(matches!(fault, TraceError::Line { line: 1, .. }), "{fault}");
    }
}
