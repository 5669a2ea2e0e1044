//! What was measured: a table to read and `target/bench/summary.json` to compute with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One figure beside the limit that was measured in the same run, interleaved with it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// The median over all rounds.
    pub(crate) value: f64,
    /// Of `value` and of `limit`.
    pub(crate) unit: &'static str,
    /// The median of what the machine or the server gives without Lamplighter.
    pub(crate) limit: Option<f64>,
    /// What the limit is.
    pub(crate) limit_is: Option<&'static str>,
    /// The median over the rounds of `value / limit` of one round.
    pub(crate) ratio: Option<f64>,
    /// What is to be reached.
    pub(crate) reach: Option<Reach>,
    /// Whether it was; `None` where there is nothing to reach.
    pub(crate) reached: Option<bool>,
    /// Lowest and highest value of all rounds.
    pub(crate) spread: (f64, f64),
    /// Sizes, counts, settings: all that one needs to measure it again.
    pub(crate) conditions: String,
}

/// A figure to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reach {
    /// `ratio` is at least this.
    RatioAtLeast(f64),
    /// `ratio` is at most this.
    RatioAtMost(f64),
    /// `value` is at least this.
    AtLeast(f64),
    /// `value` is at most this.
    AtMost(f64),
}

impl Reach {
    fn holds(self, value: f64, ratio: Option<f64>) -> bool {
        match self {
            Self::RatioAtLeast(bound) => ratio.is_some_and(|ratio| ratio >= bound),
            Self::RatioAtMost(bound) => ratio.is_some_and(|ratio| ratio <= bound),
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::RatioAtLeast(bound) => format!("≥ {bound} ×"),
            Self::RatioAtMost(bound) => format!("≤ {bound} ×"),
            Self::AtLeast(bound) => format!("≥ {}", readable(bound)),
            Self::AtMost(bound) => format!("≤ {}", readable(bound)),
        }
    }
}

/// What a round gave: the figure, and the limit where there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) value: f64,
    pub(crate) limit: Option<f64>,
}

/// What to call the figure of some rounds.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) limit_is: Option<&'static str>,
    pub(crate) reach: Option<Reach>,
    pub(crate) conditions: String,
}

impl Row {
    /// The medians of some rounds; at least one.
    pub(crate) fn of(subject: Subject, rounds: &[Round]) -> Self {
        let values: Vec<f64> = rounds.iter().map(|round| round.value).collect();
        let limits: Vec<f64> = rounds.iter().filter_map(|round| round.limit).collect();
        let ratios: Vec<f64> = rounds
            .iter()
            .filter_map(|round| Some(round.value / round.limit?))
            .collect();
        let value = median(&values).expect("there was a round");
        let ratio = median(&ratios);
        Self {
            name: subject.name,
            value,
            unit: subject.unit,
            limit: median(&limits),
            limit_is: subject.limit_is,
            ratio,
            reached: subject.reach.map(|reach| reach.holds(value, ratio)),
            reach: subject.reach,
            spread: (
                values.iter().copied().fold(f64::INFINITY, f64::min),
                values.iter().copied().fold(0.0, f64::max),
            ),
            conditions: subject.conditions,
        }
    }

    fn as_table_line(&self) -> String {
        let or_nothing = |figure: Option<f64>| figure.map_or_else(String::new, readable);
        let ratio = self
            .ratio
            .map_or_else(String::new, |ratio| format!("{ratio:.2} ×"));
        format!(
            "| {} | {} | {} | {} to {} | {} | {ratio} | {} | {} |\n",
            self.name,
            readable(self.value),
            self.unit,
            readable(self.spread.0),
            readable(self.spread.1),
            or_nothing(self.limit),
            self.reach.map_or_else(String::new, Reach::shown),
            self.verdict(),
        )
    }

    fn verdict(&self) -> &'static str {
        match self.reached {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "",
        }
    }

    /// One line for people.
    pub(crate) fn shown(&self) -> String {
        let limit = self.limit.map_or_else(String::new, readable);
        let ratio = self
            .ratio
            .map_or_else(String::new, |ratio| format!("{ratio:.2} ×"));
        let reach = self.reach.map_or_else(String::new, Reach::shown);
        let verdict = self.verdict();
        format!(
            "{:<58} {:>9} {:<9} {:>9} {:>8}  {:<8} {verdict}",
            self.name,
            readable(self.value),
            self.unit,
            limit,
            ratio,
            reach
        )
    }
}

/// The heading over lines of [`Row::shown`].
pub(crate) fn heading() -> String {
    format!(
        "{:<58} {:>9} {:<9} {:>9} {:>8}  {:<8}",
        "", "median", "", "limit", "ratio", "to reach"
    )
}

/// The middle of some figures, between the two in the middle of an even number; `None` of none.
pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

/// The figure that so many of a hundred do not exceed; 0 of none.
pub(crate) fn percentile(figures: &[f64], hundredths: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() * hundredths).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0.0)
}

/// Writes all rows as JSON.
///
/// # Errors
/// The folder cannot be made or the file not written.
pub(crate) fn write(rows: &[Row], machine: &str) -> io::Result<PathBuf> {
    #[derive(Serialize)]
    struct Summary<'a> {
        machine: &'a str,
        rows: &'a [Row],
    }
    let path = folder()?.join("summary.json");
    let json = serde_json::to_string_pretty(&Summary { machine, rows })?;
    fs::write(&path, json + "\n")?;
    Ok(path)
}

/// Writes all rows as a page for people.
///
/// # Errors
/// The folder cannot be made or the file not written.
pub(crate) fn write_page(rows: &[Row], machine: &str) -> io::Result<PathBuf> {
    let mut page = format!(
        "# Benchmarks\n\n`make bench` wrote this page in one run: {machine}.\n\n\
         Figures are medians; a figure and its limit were measured in turn, and the ratio is the median of the \
         rounds' ratios.\nAbsolute figures drift by a factor of two from hour to hour, ratios do not.\n\n\
         | | median | unit | lowest to highest | limit | ratio | to reach | |\n\
         |---|---:|---|---|---:|---:|---|---|\n"
    );
    for row in rows {
        page += &row.as_table_line();
    }
    page += "\n## Conditions\n\n";
    for row in rows {
        let limit = row
            .limit_is
            .map_or_else(String::new, |limit| format!(" Limit: {limit}."));
        page += &format!("- **{}**: {}.{limit}\n", row.name, row.conditions);
    }
    let path = folder()?.join("benchmarks.md");
    fs::write(&path, page)?;
    Ok(path)
}

/// The folder of the results, which is on the disk that holds the build.
///
/// # Errors
/// It cannot be made.
pub(crate) fn folder() -> io::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    fs::create_dir_all(target.join("bench"))?;
    target.join("bench").canonicalize()
}

/// Three digits that matter, thousands as `k`.
fn readable(figure: f64) -> String {
    match figure {
        large if large >= 1e6 => format!("{:.2} M", large / 1e6),
        large if large >= 1e4 => format!("{:.0} k", large / 1e3),
        large if large >= 1e3 => format!("{:.1} k", large / 1e3),
        middling if middling >= 100.0 => format!("{middling:.0}"),
        middling if middling >= 10.0 => format!("{middling:.1}"),
        small => format!("{small:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_not_the_ratio_of_medians() {
        let subject = Subject {
            name: "appends".into(),
            unit: "events/s",
            limit_is: Some("plain entries"),
            reach: Some(Reach::RatioAtLeast(2.0)),
            conditions: String::new(),
        };
        let round = |value, limit| Round {
            value,
            limit: Some(limit),
        };
        let row = Row::of(
            subject,
            &[round(2.0, 1.0), round(9.0, 3.0), round(4.0, 4.0)],
        );
        assert_eq!(
            (row.value, row.limit, row.ratio, row.reached, row.spread),
            (4.0, Some(3.0), Some(2.0), Some(true), (2.0, 9.0))
        );
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
