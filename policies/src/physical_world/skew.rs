//! How far this machine's clock is from the store's, measured (paper, 4.2.1: validity is compared
//! with one clock, the one that stamps the log).
//!
//! The store's clock minus our own time since boot lies in an interval. Each answer of the store says
//! that it read its clock after we asked and before we had the answer; the interval is what all
//! answers agree on, and grows with the time since the last of them, because clocks drift. Answers
//! that cannot both be true mean that a clock was set: until another answer settles it, nothing is
//! surely valid.

use core::time::Duration;

use crate::time::{Monotonic, WallClock};

/// How fast two clocks drift apart at most, in microseconds a second: what kernels slew by.
const DRIFT_PER_MILLION: u64 = 500;

/// One reading of the store's clock, and when it was asked for and answered by our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When we asked.
    pub asked_at: Monotonic,
    /// When we had the answer.
    pub answered_at: Monotonic,
    /// What the store's clock read in between.
    pub store: WallClock,
}

/// What a reading told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// It agrees with all that is known.
    Agrees,
    /// It contradicts what is known: a clock was set, or the log is ahead of the store's clock.
    Contradicts,
}

/// The store's clock as this machine knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreClock {
    known: Option<Interval>,
    /// A reading contradicted what was known, and none has settled it yet.
    doubted: bool,
}

/// Where the store's clock minus our time since boot lies, in microseconds, at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    low: i64,
    high: i64,
    at: Monotonic,
}

impl StoreClock {
    /// Takes in a reading of the store's clock itself. The first contradiction puts the clock in
    /// doubt; the next reading settles it, whichever way.
    pub fn measured(&mut self, reading: Reading) -> Agreement {
        let read = Interval::of(reading);
        let agreed = match self.known {
            None => Some(read),
            Some(known) => known.agreed(read),
        };
        let agreement = match agreed {
            Some(_) => Agreement::Agrees,
            None => Agreement::Contradicts,
        };
        self.doubted = agreement == Agreement::Contradicts && !self.doubted;
        self.known = Some(agreed.unwrap_or(read));
        agreement
    }

    /// Takes in a stamp of the log. It never goes back, even if the store's clock does, so one that
    /// contradicts what is known decides nothing: the store is to be asked for its clock.
    pub fn logged(&mut self, reading: Reading) -> Agreement {
        let read = Interval::of(reading);
        let agreed = match self.known {
            None => Some(read),
            Some(known) => known.agreed(read),
        };
        if agreed.is_none() {
            self.doubted = true;
            return Agreement::Contradicts;
        }
        self.known = agreed;
        Agreement::Agrees
    }

    /// Whether the store is to be asked for its clock before anything is surely valid.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.doubted
    }

    /// What the store's clock reads at `now`, and how far that may be off either way; `None` before
    /// the first reading. In doubt it may be off by any span.
    #[must_use]
    pub fn at(&self, now: Monotonic) -> Option<(WallClock, Duration)> {
        let Interval { low, high, .. } = self.known?.widened(now);
        let middle = low + (high - low) / 2;
        let off = Duration::from_micros((high - low).unsigned_abs().div_ceil(2));
        let store = WallClock(micros(now).saturating_add(middle));
        Some((store, if self.doubted { Duration::MAX } else { off }))
    }
}

impl Interval {
    fn of(reading: Reading) -> Self {
        let store = reading.store.0;
        // If the store read its clock just after it was asked, it has gone fast since.
        let drift = drift_within(reading.answered_at - reading.asked_at);
        // Rounded outwards: the store's stamp is up to a microsecond old, and so are our own.
        Self {
            low: store
                .saturating_sub(micros(reading.answered_at))
                .saturating_sub(1),
            high: store
                .saturating_sub(micros(reading.asked_at))
                .saturating_add(1)
                .saturating_add(drift),
            at: reading.answered_at,
        }
    }

    /// The same at a later instant.
    fn widened(self, at: Monotonic) -> Self {
        let drift = drift_within(at - self.at);
        Self {
            low: self.low.saturating_sub(drift),
            high: self.high.saturating_add(drift),
            at: self.at.max(at),
        }
    }

    /// What both allow, at the later of their instants.
    fn agreed(self, other: Self) -> Option<Self> {
        let (one, other) = (self.widened(other.at), other.widened(self.at));
        let agreed = Self {
            low: one.low.max(other.low),
            high: one.high.min(other.high),
            at: one.at,
        };
        (agreed.low <= agreed.high).then_some(agreed)
    }
}

/// How far two clocks may drift apart within a span, in microseconds.
fn drift_within(span: Duration) -> i64 {
    let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let drift = span.saturating_mul(DRIFT_PER_MILLION).div_ceil(1_000_000);
    i64::try_from(drift).unwrap_or(i64::MAX)
}

fn micros(at: Monotonic) -> i64 {
    i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A store whose clock read `offset` microseconds when we booted.
    fn reading(offset: i64, asked: u64, read: u64, answered: u64) -> Reading {
        let at = |micros: u64| Monotonic(micros * 1_000);
        Reading {
            asked_at: at(asked),
            answered_at: at(answered),
            store: WallClock(offset + i64::try_from(read).unwrap()),
        }
    }

    fn at(clock: &StoreClock, micros: u64) -> Option<(i64, Duration)> {
        let known = clock.at(Monotonic(micros * 1_000));
        known.map(|(store, skew)| (store.0, skew))
    }

    #[test]
    fn answers_narrow_the_interval_and_time_widens_it() {
        let mut clock = StoreClock::default();
        assert_eq!(at(&clock, 0), None);
        // Read 100 to 900 µs after it was asked for: 500 µs either way, and the rounding.
        clock.measured(reading(1_000_000, 0, 500, 1_000));
        assert_eq!(
            at(&clock, 1_000),
            Some((1_001_000, Duration::from_micros(502)))
        );
        // 10 s later 5 ms more either way.
        assert_eq!(
            at(&clock, 10_001_000),
            Some((11_001_000, Duration::from_micros(5_502)))
        );
        clock.measured(reading(1_000_000, 10_001_000, 10_001_010, 10_001_020));
        assert_eq!(
            at(&clock, 10_001_020),
            Some((11_001_020, Duration::from_micros(12)))
        );
    }

    #[test]
    fn a_clock_that_was_set_leaves_nothing_sure_until_another_answer_settles_it() {
        let mut clock = StoreClock::default();
        clock.measured(reading(1_000_000, 0, 5, 10));
        let set = reading(9_000_000, 100, 105, 110);
        assert_eq!(clock.measured(set), Agreement::Contradicts);
        assert_eq!(at(&clock, 110), Some((9_000_110, Duration::MAX)));
        assert_eq!(
            clock.measured(reading(9_000_000, 200, 205, 210)),
            Agreement::Agrees
        );
        assert_eq!(at(&clock, 210), Some((9_000_210, Duration::from_micros(7))));
    }

    #[test]
    fn a_log_that_is_ahead_of_its_stores_clock_is_not_taken_for_the_clock() {
        let mut clock = StoreClock::default();
        clock.measured(reading(1_000_000, 0, 5, 10));
        let ahead = reading(9_000_000, 100, 105, 110);
        assert_eq!(clock.logged(ahead), Agreement::Contradicts);
        assert!(clock.is_doubted());
        clock.measured(reading(1_000_000, 200, 205, 210));
        assert!(!clock.is_doubted());
        assert_eq!(at(&clock, 210), Some((1_000_210, Duration::from_micros(7))));
    }

    proptest! {
        #[test]
        fn the_stores_clock_is_always_within_the_bound(
            offset in -1_000_000_000_i64..1_000_000_000,
            drift in -500_i64..=500,
            trips in prop::collection::vec((0_u64..5_000_000, 0_u64..50_000, 0_u64..50_000), 1..30),
        ) {
            let store = |micros: u64| {
                let micros = i64::try_from(micros).unwrap();
                offset + micros + micros * drift / 1_000_000
            };
            let mut clock = StoreClock::default();
            let mut now = 0;
            for (wait, there, back) in trips {
                let asked = now + wait;
                let read = asked + there;
                now = read + back;
                let agreement = clock.measured(Reading {
                    asked_at: Monotonic(asked * 1_000),
                    answered_at: Monotonic(now * 1_000),
                    store: WallClock(store(read)),
                });
                prop_assert_eq!(agreement, Agreement::Agrees);
                for later in [now, now + 77, now + 30_000_000] {
                    let (shown, skew) = at(&clock, later).unwrap();
                    let off = u128::from(shown.abs_diff(store(later)));
                    prop_assert!(off <= skew.as_micros() + 1, "{} off, {:?}", off, skew);
                }
            }
        }
    }
}
