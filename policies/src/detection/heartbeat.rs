//! When a server that sends heartbeats is suspected (paper, 4.2.2).
//!
//! The next heartbeat is expected at the mean of what the last ones taught, and the server is suspected
//! a margin later: the estimator NFD-E of Chen, Toueg and Aguilera, *On the quality of service of failure
//! detectors*, IEEE Transactions on Computers 51(5), 2002. It counts by sequence numbers, so a lost
//! heartbeat does not shift it.

use alloc::collections::VecDeque;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::DetectionProfile;
use crate::time::Monotonic;

/// How many arrivals are averaged.
pub const WINDOW: usize = 200;
/// Before the first arrivals have taught anything, the margin is so many times wider.
const BOOT_FACTOR: u32 = 3;
/// How many arrivals teach enough for the margin itself.
const BOOT_ARRIVALS: usize = 5;

/// How a server's heartbeats are sent and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatProfile {
    /// The time between two heartbeats.
    pub interval: Duration,
    /// How long after its expected arrival a heartbeat may still come.
    pub margin: Duration,
    /// How a suspicion is confirmed before it counts as a failure.
    pub confirmation: Confirmation,
}

/// How a suspicion is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// How often the suspected server is asked.
    pub rounds: u32,
    /// The time between two rounds.
    pub spacing: Duration,
    /// How long after the suspicion an answer or a heartbeat still refutes it.
    pub within: Duration,
    /// How many others ask it in each round.
    pub relays: u32,
}

impl DetectionProfile {
    /// The times of a profile.
    #[must_use]
    pub fn heartbeats(self) -> HeartbeatProfile {
        let profile = |interval, margin, (rounds, spacing), within| HeartbeatProfile {
            interval: Duration::from_millis(interval),
            margin: Duration::from_millis(margin),
            confirmation: Confirmation {
                rounds,
                spacing: Duration::from_millis(spacing),
                within: Duration::from_millis(within),
                relays: 3,
            },
        };
        match self {
            Self::Fast => profile(100, 250, (4, 100), 450),
            Self::Paper => profile(500, 150, (3, 80), 300),
            // An access link may be out for longer than a confirmation of the others lasts.
            Self::Wifi => profile(100, 500, (8, 100), 900),
        }
    }
}

impl HeartbeatProfile {
    /// The longest time from a crash to its confirmation, where heartbeats take `delay` on average.
    #[must_use]
    pub fn detected_within(&self, delay: Duration) -> Duration {
        self.interval + self.margin + self.confirmation.within + delay
    }
}

/// One heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Rises whenever the sender starts again.
    pub incarnation: u64,
    /// Rises with every heartbeat of an incarnation.
    pub sequence: u64,
}

/// What one observer knows of one server's heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatMonitor {
    profile: HeartbeatProfile,
    latest: Option<Heartbeat>,
    /// Per arrival, how much later it came than its number of intervals, in nanoseconds.
    lateness: VecDeque<i128>,
    sum: i128,
    deadline: Option<Monotonic>,
}

impl HeartbeatMonitor {
    /// Nothing heard yet; nothing is suspected before the first heartbeat or [`Self::expect`].
    #[must_use]
    pub fn new(profile: HeartbeatProfile) -> Self {
        Self {
            profile,
            latest: None,
            lateness: VecDeque::with_capacity(WINDOW),
            sum: 0,
            deadline: None,
        }
    }

    /// From `now` on the server is to be heard of, though it never was.
    pub fn expect(&mut self, now: Monotonic) {
        if self.latest.is_none() {
            let patience = self.profile.interval + self.profile.margin * BOOT_FACTOR;
            self.deadline = Some(now + patience);
        }
    }

    /// Takes a heartbeat and says whether it is news: one that was overtaken is none.
    pub fn heard(&mut self, at: Monotonic, heartbeat: Heartbeat) -> bool {
        if self.latest >= Some(heartbeat) {
            return false;
        }
        let restarted = self
            .latest
            .is_some_and(|latest| latest.incarnation != heartbeat.incarnation);
        if restarted {
            self.lateness.clear();
            self.sum = 0;
        }
        self.latest = Some(heartbeat);
        let interval = nanoseconds(self.profile.interval);
        let late = i128::from(at.0) - interval * i128::from(heartbeat.sequence);
        if self.lateness.len() == WINDOW
            && let Some(oldest) = self.lateness.pop_front()
        {
            self.sum -= oldest;
        }
        self.lateness.push_back(late);
        self.sum += late;
        let count = i128::try_from(self.lateness.len()).unwrap_or(1);
        let expected = self.sum / count + interval * (i128::from(heartbeat.sequence) + 1);
        let deadline = expected + nanoseconds(self.margin());
        self.deadline = Some(Monotonic(u64::try_from(deadline).unwrap_or(u64::MAX)));
        true
    }

    /// When the server is suspected if nothing is heard until then.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        self.deadline
    }

    /// The newest heartbeat heard.
    #[must_use]
    pub fn latest(&self) -> Option<Heartbeat> {
        self.latest
    }

    fn margin(&self) -> Duration {
        if self.lateness.len() < BOOT_ARRIVALS {
            self.profile.margin * BOOT_FACTOR
        } else {
            self.profile.margin
        }
    }
}

fn nanoseconds(span: Duration) -> i128 {
    i128::try_from(span.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn monitor() -> HeartbeatMonitor {
        HeartbeatMonitor::new(DetectionProfile::Fast.heartbeats())
    }

    fn beat(sequence: u64) -> Heartbeat {
        Heartbeat {
            incarnation: 1,
            sequence,
        }
    }

    /// Heartbeats every 100 ms that each take 5 ms.
    fn taught(sequences: impl IntoIterator<Item = u64>) -> HeartbeatMonitor {
        let mut monitor = monitor();
        for sequence in sequences {
            monitor.heard(Monotonic((sequence * 100 + 5) * MS), beat(sequence));
        }
        monitor
    }

    #[test]
    fn the_next_heartbeat_is_expected_an_interval_later_and_has_a_margin() {
        assert_eq!(
            taught(1..=10).deadline(),
            Some(Monotonic((1_105 + 250) * MS))
        );
    }

    #[test]
    fn lost_heartbeats_do_not_shift_what_is_expected() {
        let gaps = [1, 2, 3, 5, 8, 9, 10];
        assert_eq!(taught(gaps).deadline(), taught(1..=10).deadline());
    }

    #[test]
    fn a_heartbeat_that_was_overtaken_is_no_news() {
        let mut monitor = taught(1..=10);
        let before = monitor.clone();
        assert!(!monitor.heard(Monotonic(1_300 * MS), beat(9)));
        assert_eq!(monitor, before);
    }

    #[test]
    fn a_new_incarnation_is_learnt_anew_with_a_wider_margin() {
        let mut monitor = taught(1..=10);
        let first = Heartbeat {
            incarnation: 2,
            sequence: 1,
        };
        assert!(monitor.heard(Monotonic(5_000 * MS), first));
        assert_eq!(monitor.deadline(), Some(Monotonic((5_100 + 750) * MS)));
    }

    #[test]
    fn who_was_never_heard_is_waited_for_only_when_expected() {
        let mut monitor = monitor();
        assert_eq!(monitor.deadline(), None);
        monitor.expect(Monotonic(0));
        assert_eq!(monitor.deadline(), Some(Monotonic(850 * MS)));
    }

    #[test]
    fn every_profile_detects_within_what_it_promises() {
        let within =
            |profile: DetectionProfile| profile.heartbeats().detected_within(Duration::ZERO);
        assert_eq!(within(DetectionProfile::Fast), Duration::from_millis(800));
        assert_eq!(within(DetectionProfile::Paper), Duration::from_millis(950));
        assert_eq!(within(DetectionProfile::Wifi), Duration::from_millis(1_500));
    }
}
