//! What other systems do, for comparison: a fixed time-out, and the accrual detector.

use std::collections::VecDeque;

/// How many intervals the accrual detector looks back.
const WINDOW: usize = 200;
/// The least standard deviation that the accrual detector reckons with, in seconds.
const DEVIATION_MIN: f64 = 0.05;
/// A suspicion level of 8 is so many standard deviations beyond the mean.
const DEVIATIONS_AT_8: f64 = 5.61;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rival {
    rule: Rule,
    latest: Option<(u64, f64)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    /// So many seconds after the last heartbeat.
    Fixed(f64),
    /// By the spread of the intervals: Hayashibara, Défago, Yared, Katayama, *The φ accrual failure
    /// detector*, SRDS 2004.
    Accrual {
        pause: f64,
        intervals: VecDeque<f64>,
    },
}

impl Rival {
    pub(crate) fn fixed(timeout_ms: u32) -> Self {
        Self {
            rule: Rule::Fixed(f64::from(timeout_ms) / 1e3),
            latest: None,
        }
    }

    pub(crate) fn accrual(pause_ms: u32) -> Self {
        let pause = f64::from(pause_ms) / 1e3;
        let intervals = VecDeque::with_capacity(WINDOW);
        Self {
            rule: Rule::Accrual { pause, intervals },
            latest: None,
        }
    }

    pub(crate) fn heard(&mut self, at: f64, sequence: u64) -> bool {
        let before = self.latest;
        if before.is_some_and(|(latest, _)| latest >= sequence) {
            return false;
        }
        self.latest = Some((sequence, at));
        if let (Rule::Accrual { intervals, .. }, Some((_, before))) = (&mut self.rule, before) {
            if intervals.len() == WINDOW {
                intervals.pop_front();
            }
            intervals.push_back(at - before);
        }
        true
    }

    pub(crate) fn deadline(&self) -> Option<f64> {
        let (_, at) = self.latest?;
        match &self.rule {
            Rule::Fixed(timeout) => Some(at + timeout),
            Rule::Accrual { pause, intervals } => {
                let count = intervals.len() as f64;
                if count < 2.0 {
                    return None;
                }
                let mean = intervals.iter().sum::<f64>() / count;
                let square = |interval: &f64| (interval - mean).powi(2);
                let deviation = (intervals.iter().map(square).sum::<f64>() / count).sqrt();
                Some(at + mean + pause + DEVIATIONS_AT_8 * deviation.max(DEVIATION_MIN))
            }
        }
    }
}
