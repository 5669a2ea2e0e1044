//! When a server that sends heartbeats is suspected (paper, 4.2.2).
//!
//! The next heartbeat is expected at the mean of what the last ones taught, and the server is suspected
//! a margin later: the estimator NFD-E of Chen, Toueg and Aguilera, *On the quality of service of failure
//! detectors*, IEEE Transactions on Computers 51(5), 2002. It counts by sequence numbers, so a lost
//! heartbeat does not shift it. A sequence number counts the intervals of its sender's schedule, so that a
//! sender that was held up does not shift it either.
//!
//! The margin grows with the jitter that is measured, and never beyond what the budget for detection
//! leaves.

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
/// So many standard deviations of the arrivals lie within the margin.
const DEVIATIONS: u64 = 5;
/// So many round trips lie within the margin.
const ROUND_TRIPS: u32 = 2;
/// How far arrivals may be from each other and still count as they are, in nanoseconds: a year.
const LATENESS_MAX: i128 = 31_536_000_000_000_000;
/// Who was suspected wrongly is given so much more time, as a divisor of the margin.
const LENIENCE_DIVISOR: u32 = 4;
/// For how long.
const LENIENT_FOR: Duration = Duration::from_secs(60);

/// How a server's heartbeats are sent and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatProfile {
    /// The time between two heartbeats.
    pub interval: Duration,
    /// How long after its expected arrival a heartbeat may still come, on a network without jitter.
    pub margin: Duration,
    /// How much of that a network with jitter is given at most.
    pub margin_max: Duration,
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
        let profile = |interval, (margin, margin_max), (rounds, spacing), within| {
            let milliseconds = Duration::from_millis;
            HeartbeatProfile {
                interval: milliseconds(interval),
                margin: milliseconds(margin),
                margin_max: milliseconds(margin_max),
                confirmation: Confirmation {
                    rounds,
                    spacing: milliseconds(spacing),
                    within: milliseconds(within),
                    relays: 3,
                },
            }
        };
        match self {
            Self::Fast => profile(100, (250, 400), (4, 100), 450),
            Self::Paper => profile(500, (150, 170), (3, 80), 300),
            // An access link may be out for longer than a confirmation of the others lasts.
            Self::Wifi => profile(100, (500, 600), (8, 100), 900),
        }
    }

    /// The longest that a server's failure may go unnoticed, on whatever network.
    #[must_use]
    pub fn budget(self) -> Duration {
        match self {
            Self::Fast | Self::Paper => Duration::from_secs(1),
            Self::Wifi => Duration::from_millis(1_600),
        }
    }
}

impl HeartbeatProfile {
    /// The longest time from a crash to its confirmation, where heartbeats take `delay` on average and
    /// come without jitter.
    #[must_use]
    pub fn detected_within(&self, delay: Duration) -> Duration {
        self.interval + self.margin + self.confirmation.within + delay
    }

    /// How long a server is waited for of which nothing is known yet.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.interval + self.margin * BOOT_FACTOR
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
    heard_at: Option<Monotonic>,
    /// Per arrival, how much later it came than its number of intervals, in nanoseconds after `base`.
    lateness: VecDeque<i128>,
    base: i128,
    sum: i128,
    squares: i128,
    round_trip: Duration,
    lenient_until: Monotonic,
    deadline: Option<Monotonic>,
}

impl HeartbeatMonitor {
    /// Nothing heard yet; nothing is suspected before the first heartbeat or [`Self::expect`].
    #[must_use]
    pub fn new(profile: HeartbeatProfile) -> Self {
        Self {
            profile,
            latest: None,
            heard_at: None,
            lateness: VecDeque::with_capacity(WINDOW),
            base: 0,
            sum: 0,
            squares: 0,
            round_trip: Duration::ZERO,
            lenient_until: Monotonic(0),
            deadline: None,
        }
    }

    /// From `now` on the server is to be heard of within `patience`, and what its heartbeats taught is
    /// forgotten: it never was heard, or what was measured lately says nothing.
    pub fn expect(&mut self, now: Monotonic, patience: Duration) {
        self.forget();
        self.deadline = Some(now + patience);
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
            self.forget();
        }
        self.latest = Some(heartbeat);
        self.heard_at = Some(at);
        let interval = nanoseconds(self.profile.interval);
        self.learn(i128::from(at.0) - interval * i128::from(heartbeat.sequence));
        let expected = self.mean() + interval * (i128::from(heartbeat.sequence) + 1);
        let deadline = expected + nanoseconds(self.margin(at));
        self.deadline = Some(Monotonic(u64::try_from(deadline).unwrap_or(u64::MAX)));
        true
    }

    /// A probe was answered after `took`.
    pub fn answered(&mut self, took: Duration) {
        self.round_trip = if self.round_trip.is_zero() {
            took
        } else {
            self.round_trip * 7 / 8 + took / 8
        };
    }

    /// The server was suspected and is there: for a while it is given more time. If its heartbeats have
    /// not been lost but come later than before, what they taught is forgotten.
    pub fn wronged(&mut self, now: Monotonic) {
        self.lenient_until = now + LENIENT_FOR;
        let latest = self.lateness.back().map_or(0, |late| self.base + late);
        if latest - self.mean() > nanoseconds(self.profile.margin) {
            return self.expect(now, self.profile.patience());
        }
        let earliest = now + self.profile.interval + self.margin(now);
        self.deadline = self.deadline.max(Some(earliest));
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

    /// Since when nothing was heard; zero if nothing ever was.
    #[must_use]
    pub fn silence(&self, now: Monotonic) -> Duration {
        self.heard_at.map_or(Duration::ZERO, |at| now - at)
    }

    /// The server is known to be in this incarnation. Returns whether that is another than was heard;
    /// heartbeats of any other are of the past then.
    pub fn restarted(&mut self, incarnation: u64) -> bool {
        let before = self.latest.map(|latest| latest.incarnation);
        let is_other = before.is_some_and(|before| before != incarnation);
        if is_other {
            let sequence = 0;
            self.latest = Some(Heartbeat {
                incarnation,
                sequence,
            });
        }
        is_other
    }

    /// How much more time the jitter asks for than the profile allows; `None` if it allows enough.
    #[must_use]
    pub fn strain(&self) -> Option<Duration> {
        let wanted = self.wanted();
        (wanted > self.profile.margin_max).then_some(wanted)
    }

    fn learn(&mut self, late: i128) {
        if self.lateness.is_empty() {
            self.base = late;
        }
        // What is out of all proportion would only overflow the squares.
        let late = (late - self.base).clamp(-LATENESS_MAX, LATENESS_MAX);
        if self.lateness.len() == WINDOW
            && let Some(oldest) = self.lateness.pop_front()
        {
            self.sum -= oldest;
            self.squares -= oldest * oldest;
        }
        self.lateness.push_back(late);
        self.sum += late;
        self.squares += late * late;
    }

    fn forget(&mut self) {
        self.lateness.clear();
        (self.base, self.sum, self.squares) = (0, 0, 0);
    }

    fn margin(&self, now: Monotonic) -> Duration {
        if self.lateness.len() < BOOT_ARRIVALS {
            return self.profile.margin * BOOT_FACTOR;
        }
        let base = self.profile.margin;
        let lenience = if now < self.lenient_until {
            base / LENIENCE_DIVISOR
        } else {
            Duration::ZERO
        };
        (base + lenience)
            .max(self.wanted())
            .min(self.profile.margin_max)
    }

    /// The margin within which nearly all heartbeats of this network arrive.
    fn wanted(&self) -> Duration {
        if self.lateness.len() < BOOT_ARRIVALS {
            return Duration::ZERO;
        }
        let mean = self.sum / self.count();
        let variance = (self.squares / self.count() - mean * mean).max(0);
        let deviation = u64::try_from(variance.isqrt()).unwrap_or(u64::MAX);
        Duration::from_nanos(deviation.saturating_mul(DEVIATIONS)) + self.round_trip * ROUND_TRIPS
    }

    fn mean(&self) -> i128 {
        self.base + self.sum / self.count()
    }

    fn count(&self) -> i128 {
        i128::try_from(self.lateness.len().max(1)).unwrap_or(1)
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
        monitor.expect(Monotonic(0), DetectionProfile::Fast.heartbeats().patience());
        assert_eq!(monitor.deadline(), Some(Monotonic(850 * MS)));
    }

    #[test]
    fn jitter_widens_the_margin_as_far_as_the_budget_allows() {
        let late = |jitter: u64| {
            let mut monitor = monitor();
            for sequence in 1..=200 {
                let at = sequence * 100 + (sequence % 2) * 2 * jitter;
                monitor.heard(Monotonic(at * MS), beat(sequence));
            }
            let expected = (201 * 100 + jitter) * MS;
            let deadline = monitor.deadline().unwrap();
            (deadline - Monotonic(expected), monitor.strain())
        };
        let ms = Duration::from_millis;
        assert_eq!(late(20), (ms(250), None));
        assert_eq!(late(60), (ms(300), None));
        assert_eq!(late(90), (ms(400), Some(ms(450))));
    }

    #[test]
    fn who_was_suspected_wrongly_is_given_more_time_for_a_while() {
        let mut monitor = taught(1..=10);
        monitor.wronged(Monotonic(1_500 * MS));
        let allowed = Duration::from_micros(100_000 + 312_500);
        assert_eq!(monitor.deadline(), Some(Monotonic(1_500 * MS) + allowed));
        let margin = |monitor: &mut HeartbeatMonitor, last: u64| {
            for sequence in last - 20..=last {
                monitor.heard(Monotonic((sequence * 100 + 5) * MS), beat(sequence));
            }
            monitor.deadline().unwrap() - Monotonic((last * 100 + 105) * MS)
        };
        assert_eq!(margin(&mut monitor, 100), Duration::from_micros(312_500));
        assert_eq!(margin(&mut monitor, 700), Duration::from_millis(250));
    }

    #[test]
    fn what_came_later_than_the_margin_teaches_anew() {
        let mut monitor = taught(1..=10);
        monitor.heard(Monotonic(1_500 * MS), beat(11));
        monitor.wronged(Monotonic(1_500 * MS));
        assert_eq!(monitor.deadline(), Some(Monotonic((1_500 + 850) * MS)));
        monitor.heard(Monotonic(1_600 * MS), beat(12));
        assert_eq!(monitor.deadline(), Some(Monotonic((1_700 + 750) * MS)));
    }

    #[test]
    fn every_profile_detects_within_what_it_promises() {
        let within =
            |profile: DetectionProfile| profile.heartbeats().detected_within(Duration::ZERO);
        assert_eq!(within(DetectionProfile::Fast), Duration::from_millis(800));
        assert_eq!(within(DetectionProfile::Paper), Duration::from_millis(950));
        assert_eq!(within(DetectionProfile::Wifi), Duration::from_millis(1_500));
        for profile in [
            DetectionProfile::Fast,
            DetectionProfile::Paper,
            DetectionProfile::Wifi,
        ] {
            let times = profile.heartbeats();
            let longest = times.interval + times.margin_max + times.confirmation.within;
            assert!(longest <= profile.budget(), "{profile:?}");
        }
    }
}
