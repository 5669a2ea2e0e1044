//! The clocks of this machine. Nothing else in the project reads one.
//!
//! Durations and deadlines use `CLOCK_BOOTTIME`, which goes on while the machine is suspended: a
//! validity of ten seconds is over after a minute of sleep.

use std::time::Duration;

use lamplighter_policies::time::{Monotonic, Now, WallClock};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Reads both clocks; cheap to copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    skew: Duration,
}

impl Clock {
    /// A clock whose wall time may be off from the store's clock by up to `skew`, either way.
    #[must_use]
    pub fn new(skew: Duration) -> Self {
        Self { skew }
    }

    /// Both clocks at this instant.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            monotonic: monotonic(),
            wall: wall(),
            skew: self.skew,
        }
    }
}

/// The time since this machine booted, suspend included.
#[must_use]
pub fn monotonic() -> Monotonic {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(tv_nsec).unwrap_or(0);
    Monotonic(
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds),
    )
}

/// The time of day.
#[must_use]
pub fn wall() -> WallClock {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    WallClock(
        tv_sec
            .saturating_mul(1_000_000)
            .saturating_add(tv_nsec / 1_000),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let readings: Vec<Monotonic> = (0..1_000).map(|_| monotonic()).collect();
        assert!(readings.is_sorted(), "{readings:?}");
        assert!(readings[0] > Monotonic(0));
    }

    #[test]
    fn the_wall_clock_agrees_with_the_time_of_day_and_carries_the_skew() {
        let before = std::time::SystemTime::now();
        let now = Clock::new(Duration::from_millis(3)).now();
        let after = std::time::SystemTime::now();
        let micros = |at: std::time::SystemTime| {
            i64::try_from(
                at.duration_since(std::time::UNIX_EPOCH)
                    .unwrap()
                    .as_micros(),
            )
            .unwrap()
        };
        assert!((micros(before)..=micros(after)).contains(&now.wall.0));
        assert_eq!(now.latest(), now.wall + Duration::from_millis(3));
    }
}
