//! What the drill leaves behind for people and programs: `target/demo/report.json`.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::checks::{Check, Repair};

/// The whole outcome of a drill.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// From which all faults follow.
    pub seed: u64,
    /// How many times as fast as recorded the evening was played.
    pub speed: f64,
    /// Where the state was saved.
    pub store: String,
    /// What carried the events.
    pub broker: String,
    /// How many checks held.
    pub held: usize,
    /// How many did not.
    pub failed: usize,
    /// Each promise, whether it was kept, and its figures.
    pub checks: Vec<Check>,
    /// Each fault and its repair.
    pub repairs: Vec<Repair>,
}

impl Report {
    /// Writes the report as JSON, and makes the folder for it.
    ///
    /// # Errors
    /// The file or its folder cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        std::fs::write(path, text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    #[test]
    fn the_report_names_each_check_with_its_figures() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("demo/report.json");
        let report = Report {
            seed: 7,
            speed: 3.0,
            store: "embedded".into(),
            broker: "embedded".into(),
            held: 1,
            failed: 0,
            checks: vec![Check {
                name: "no lamp blinked",
                held: true,
                figures: Map::from_iter([("changes".to_owned(), json!(4))]),
            }],
            repairs: vec![],
        };
        report.write(&path).unwrap();

        let read: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            read["checks"],
            json!([{ "name": "no lamp blinked", "held": true, "figures": { "changes": 4 } }])
        );
        assert_eq!([&read["held"], &read["failed"]], [1, 0]);
    }
}
