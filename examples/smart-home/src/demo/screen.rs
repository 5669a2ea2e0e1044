//! What the drill shows: plain lines for a file, and below them a line of progress on a terminal.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use super::checks::{Check, Repair};

/// How wide the progress bar is, in characters.
const BAR: usize = 30;

/// Prints; lines stay, the progress line is written over.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    progress: Option<String>,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// A screen on standard output.
    #[must_use]
    pub fn new() -> Self {
        Self {
            is_terminal: stdout().is_terminal(),
            progress: None,
        }
    }

    /// Prints a line that stays.
    pub fn line(&mut self, text: &str) {
        let progress = self.progress.clone().unwrap_or_default();
        if self.is_terminal {
            put(&format!("\r\x1b[2K{text}\n{progress}"));
        } else {
            put(&format!("{text}\n"));
        }
    }

    /// Shows how far the evening is; on a terminal only.
    pub fn progress(&mut self, played: Duration, length: Duration, what: &str) {
        if self.is_terminal {
            let text = bar(played, length, what);
            put(&format!("\r\x1b[2K{text}"));
            self.progress = Some(text);
        }
    }

    /// Takes the progress line away.
    pub fn finish(&mut self) {
        if self.progress.take().is_some() {
            put("\r\x1b[2K");
        }
    }
}

/// One fault and its repairs in plain words: one line, or one for each element that failed.
#[must_use]
pub fn fault_in_words(repairs: &[Repair]) -> Vec<String> {
    let Some(first) = repairs.first() else {
        return Vec::new();
    };
    let at = Duration::from_millis(first.at_ms).as_secs_f64();
    let fault = format!("{at:>6.1} s  {}", first.fault);
    if repairs.len() == 1 {
        return vec![format!("{fault}: {}", repair_in_words(first))];
    }
    let each = repairs
        .iter()
        .map(|repair| format!("{:10}{}: {}", "", repair.element, repair_in_words(repair)));
    [fault].into_iter().chain(each).collect()
}

fn repair_in_words(repair: &Repair) -> String {
    let Some(took) = repair.repaired_ms else {
        return "NOT REPAIRED".into();
    };
    let phases: Vec<_> = repair
        .phases
        .iter()
        .map(|(phase, took)| format!("{phase} {took:.0}"))
        .collect();
    if phases.is_empty() {
        format!("repaired in {took:.0} ms")
    } else {
        format!("repaired in {took:.0} ms ({})", phases.join(", "))
    }
}

/// One check in plain words, with its figures; lists of what is wrong only if something is.
#[must_use]
pub fn check_in_words(check: &Check) -> String {
    let verdict = if check.held { "held  " } else { "failed" };
    let figures: Vec<_> = check
        .figures
        .iter()
        .filter(|(_, value)| value.as_array().is_none_or(|list| !list.is_empty()))
        .map(|(name, value)| format!("{} {value}", name.replace('_', " ")))
        .collect();
    format!("{verdict}  {:<32} {}", check.name, figures.join(", "))
        .trim_end()
        .to_owned()
}

fn bar(played: Duration, length: Duration, what: &str) -> String {
    let share = played
        .div_duration_f64(length.max(Duration::from_millis(1)))
        .min(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share between 0 and 1 of a short bar"
    )]
    let full = (share * BAR as f64) as usize;
    format!(
        "{:>6.1} s  [{}{}] {what}",
        played.as_secs_f64(),
        "#".repeat(full),
        "-".repeat(BAR - full)
    )
}

/// Standard output may be a pipe whose reader has gone; the drill goes on all the same.
fn put(text: &str) {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .ok();
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn a_fault_is_told_with_its_repair_by_phase_and_a_missing_one_plainly() {
        let repair = Repair {
            fault: "kill -9 orchestrator".into(),
            element: "orchestrator".into(),
            at_ms: 12_340,
            repaired_ms: Some(84.4),
            phases: vec![("noticed".into(), 3.2), ("restored".into(), 31.0)],
        };
        assert_eq!(
            fault_in_words(std::slice::from_ref(&repair)),
            ["  12.3 s  kill -9 orchestrator: repaired in 84 ms (noticed 3, restored 31)"]
        );
        let never = Repair {
            repaired_ms: None,
            ..repair
        };
        assert_eq!(
            fault_in_words(&[never]),
            ["  12.3 s  kill -9 orchestrator: NOT REPAIRED"]
        );
    }

    #[test]
    fn a_fault_of_several_elements_has_a_line_for_each() {
        let repair = |element: &str| Repair {
            fault: "kill -9 a, b".into(),
            element: element.into(),
            at_ms: 1_000,
            repaired_ms: Some(9.0),
            phases: vec![],
        };
        assert_eq!(
            fault_in_words(&[repair("a"), repair("b")]),
            [
                "   1.0 s  kill -9 a, b",
                "          a: repaired in 9 ms",
                "          b: repaired in 9 ms"
            ]
        );
    }

    #[test]
    fn a_check_is_told_with_its_figures_and_with_what_is_wrong() {
        let check = |held, blinked| Check {
            name: "no lamp blinked",
            held,
            figures: Map::from_iter([
                ("blinked".to_owned(), blinked),
                ("changes".to_owned(), json!(14)),
            ]),
        };
        assert_eq!(
            check_in_words(&check(true, json!([]))),
            "held    no lamp blinked                  changes 14"
        );
        assert_eq!(
            check_in_words(&check(false, json!(["hue-lamp"]))),
            "failed  no lamp blinked                  blinked [\"hue-lamp\"], changes 14"
        );
    }

    #[test]
    fn the_bar_is_as_full_as_the_evening_is_played() {
        let at = |seconds| bar(Duration::from_secs(seconds), Duration::from_secs(90), "x");
        assert_eq!(at(0), format!("   0.0 s  [{}] x", "-".repeat(30)));
        assert_eq!(
            at(45),
            format!("  45.0 s  [{}{}] x", "#".repeat(15), "-".repeat(15))
        );
        assert_eq!(at(99), format!("  99.0 s  [{}] x", "#".repeat(30)));
    }
}
