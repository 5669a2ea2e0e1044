//! What `smart-home status --json` says, as far as the drill needs it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// How the whole application is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Status {
    /// Every element.
    pub elements: Vec<ElementStatus>,
    /// Where the broker is, as a URL.
    pub broker: String,
}

/// How one element is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ElementStatus {
    /// Its name.
    pub element: String,
    /// How far it is; `running` when it handles events.
    pub state: String,
    /// Its host process.
    pub pid: Option<u32>,
    /// What its host last said of it.
    pub report: Option<Counts>,
    /// What last failed of it.
    pub last_failure: Option<Failure>,
}

/// What a host counts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// The index of the last logged record.
    pub head: u64,
    /// Inputs given up.
    pub dead_letters: u64,
    /// Outputs that no receiver has acknowledged yet.
    pub unacknowledged: u64,
    /// Inputs that wait.
    pub queued: u64,
    /// Commands of which nobody knows whether they were carried out.
    #[serde(default)]
    pub unknown: Vec<UnknownCommand>,
}

/// A command of unknown fate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct UnknownCommand {
    /// Which.
    pub id: String,
}

/// One failure and its repair.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Failure {
    /// The first failure of the element is 1.
    pub number: u64,
    /// When it was seen, in microseconds since 1970 UTC.
    pub seen_at_us: u64,
    /// How long each part of the repair took, as far as it got.
    pub phases: Phases,
}

/// The parts of a repair, in milliseconds; `None` for what has not happened or is not known.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Phases {
    /// From its being seen to the decision.
    pub decided_ms: Option<f64>,
    /// From there until a host process had the element.
    pub started_ms: Option<f64>,
    /// Saved state in hand.
    pub restored_ms: Option<f64>,
    /// Checkpoint decoded and log folded.
    pub replayed_ms: Option<f64>,
    /// Bindings open, element live.
    pub resumed_ms: Option<f64>,
    /// From its being seen until the element ran.
    pub repaired_ms: Option<f64>,
}

impl Status {
    /// Reads what the command printed.
    ///
    /// # Errors
    /// It is not a status, with the reason.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The host process of an element, if it has one.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.element(name)?.pid
    }

    /// The number of the latest failure that was seen of an element; 0 before the first.
    #[must_use]
    pub fn failures(&self, name: &str) -> u64 {
        self.failure(name).map_or(0, |failure| failure.number)
    }

    /// The latest failure of an element, if it is repaired and later than failure `number`.
    #[must_use]
    pub fn repaired_since(&self, name: &str, number: u64) -> Option<&Failure> {
        let failure = self.failure(name)?;
        let is_repaired = self.element(name)?.is_running()
            && failure.number > number
            && failure.phases.repaired_ms.is_some();
        is_repaired.then_some(failure)
    }

    /// Whether every element runs, and has nothing to do or to send; if so, how far each log is.
    #[must_use]
    pub fn at_rest(&self) -> Option<BTreeMap<String, u64>> {
        self.elements
            .iter()
            .map(|element| {
                let counts = element.report.as_ref()?;
                let rests =
                    element.is_running() && counts.queued == 0 && counts.unacknowledged == 0;
                rests.then(|| (element.element.clone(), counts.head))
            })
            .collect()
    }

    /// How many inputs were given up.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        let counts = self.elements.iter().filter_map(|e| e.report.as_ref());
        counts.map(|counts| counts.dead_letters).sum()
    }

    /// The commands of an element that wait for a person's word.
    #[must_use]
    pub fn unknown(&self, name: &str) -> Vec<String> {
        let counts = self.element(name).and_then(|it| it.report.as_ref());
        let unknown = counts.into_iter().flat_map(|counts| &counts.unknown);
        unknown.map(|command| command.id.clone()).collect()
    }

    fn element(&self, name: &str) -> Option<&ElementStatus> {
        self.elements.iter().find(|e| e.element == name)
    }

    fn failure(&self, name: &str) -> Option<&Failure> {
        self.element(name)?.last_failure.as_ref()
    }
}

impl ElementStatus {
    fn is_running(&self) -> bool {
        self.state == "running"
    }
}

impl Phases {
    /// The phases that are known, in their order, with their names.
    #[must_use]
    pub fn known(&self) -> Vec<(String, f64)> {
        [
            ("decided", self.decided_ms),
            ("started", self.started_ms),
            ("restored", self.restored_ms),
            ("replayed", self.replayed_ms),
            ("resumed", self.resumed_ms),
        ]
        .into_iter()
        .filter_map(|(name, took)| Some((name.to_owned(), took?)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_repair_counts_when_the_element_runs_again_after_a_later_failure() {
        let status = |state: &str, repaired: Value| status(state, repaired, 0);
        assert!(
            status("running", json!(40.5))
                .repaired_since("orchestrator", 1)
                .is_some()
        );
        for (state, repaired, number) in [
            ("running", json!(40.5), 2),
            ("running", json!(null), 1),
            ("starting", json!(40.5), 1),
        ] {
            let status = status(state, repaired);
            assert_eq!(status.repaired_since("orchestrator", number), None);
        }
    }

    #[test]
    fn a_house_is_at_rest_when_nothing_waits_and_everything_runs() {
        let rest = [("orchestrator".to_owned(), 12)].into();
        assert_eq!(status("running", json!(1), 0).at_rest(), Some(rest));
        assert_eq!(status("running", json!(1), 3).at_rest(), None);
        assert_eq!(status("waiting", json!(1), 0).at_rest(), None);
    }

    #[test]
    fn phases_come_in_their_order_and_commands_of_unknown_fate_are_counted() {
        let status = status("running", json!(9.0), 0);
        assert_eq!(status.unknown("orchestrator"), ["orchestrator/1.7.0"]);
        assert_eq!(status.unknown("nobody"), [""; 0]);
        let failure = status.repaired_since("orchestrator", 0).unwrap();
        assert_eq!(
            failure.phases.known(),
            [("decided".to_owned(), 1.0), ("restored".to_owned(), 3.0)]
        );
    }

    fn status(state: &str, repaired: Value, queued: u64) -> Status {
        let json = json!({
            "broker": "mqtt://127.0.0.1:1883",
            "servers": [],
            "elements": [{
                "element": "orchestrator",
                "state": state,
                "server": "rpi2",
                "pid": 4711,
                "epoch": 3,
                "report": {
                    "head": 12, "queued": queued, "unacknowledged": 0, "dead_letters": 0, "panics": 1,
                    "unknown": [{ "id": "orchestrator/1.7.0" }]
                },
                "last_failure": {
                    "number": 2,
                    "cause": "killed by signal 9",
                    "seen_at_us": 1_700_000_000_000_000_u64,
                    "phases": {
                        "seen_ms": null, "decided_ms": 1.0, "started_ms": null, "restored_ms": 3.0,
                        "repaired_ms": repaired
                    }
                }
            }]
        });
        Status::parse(&json.to_string()).unwrap()
    }
}
