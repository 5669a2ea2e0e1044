//! The clocks of this machine. Nothing else in the project reads one.
//!
//! Durations and deadlines use `CLOCK_BOOTTIME`, which goes on while the machine is suspended: a
//! validity of ten seconds is over after a minute of sleep. Validity is compared with the store's
//! clock, which stamps the log; what that reads is measured (see [`StoreClock`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lamplighter_policies::physical_world::{Agreement, Reading, StoreClock};
use lamplighter_policies::time::{Monotonic, Now, WallClock};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Reads both clocks; cheap to clone. Clones share what is known of the store's clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    skew_max: Duration,
    store: Option<Arc<Mutex<StoreClock>>>,
}

impl Clock {
    /// A clock whose wall time is this machine's own, and may be off from the store's clock by up to
    /// `skew`, either way.
    #[must_use]
    pub fn new(skew: Duration) -> Self {
        Self {
            skew_max: skew,
            store: None,
        }
    }

    /// A clock whose wall time is that of a store, measured with each of its answers. Before the
    /// first of them it is this machine's own, within `skew_max`, which the topology promises.
    #[must_use]
    pub fn of_store(skew_max: Duration) -> Self {
        Self {
            skew_max,
            store: Some(Arc::default()),
        }
    }

    /// Both clocks at this instant.
    #[must_use]
    pub fn now(&self) -> Now {
        let monotonic = monotonic();
        let measured = self
            .store
            .as_ref()
            .and_then(|store| lock(store).at(monotonic));
        let (wall, skew) = measured.unwrap_or_else(|| (wall(), self.skew_max));
        Now {
            monotonic,
            wall,
            skew,
        }
    }

    /// This instant, for the stamp of what arrives: while the store's clock is in doubt it is taken
    /// to be known as well as the topology promises.
    #[must_use]
    pub fn received_at(&self) -> Now {
        let now = self.now();
        let skew = if now.skew == Duration::MAX {
            self.skew_max
        } else {
            now.skew
        };
        Now { skew, ..now }
    }

    /// The store, asked at `asked_at`, has just answered that its clock read `store`. Returns whether
    /// it is to be asked again before anything is surely valid.
    pub fn measured(&self, asked_at: Monotonic, store: WallClock) -> bool {
        self.learn(asked_at, store, StoreClock::measured)
    }

    /// The store, asked at `asked_at`, has just answered with a stamp of its log. Returns whether it
    /// is to be asked for its clock before anything is surely valid.
    pub fn logged(&self, asked_at: Monotonic, logged_at: WallClock) -> bool {
        self.learn(asked_at, logged_at, StoreClock::logged)
    }

    fn learn(
        &self,
        asked_at: Monotonic,
        store: WallClock,
        take: impl FnOnce(&mut StoreClock, Reading) -> Agreement,
    ) -> bool {
        let Some(clock) = &self.store else {
            return false;
        };
        let reading = Reading {
            asked_at,
            answered_at: monotonic(),
            store,
        };
        let mut clock = lock(clock);
        let before = clock.at(reading.answered_at);
        if take(&mut clock, reading) == Agreement::Contradicts {
            let (believed, skew) = before.unwrap_or_default();
            tracing::warn!(
                ?believed, ?skew, answered = ?store,
                "a clock was set: this machine's or the store's; until the store is asked again \
                 nothing is taken for surely valid"
            );
        }
        clock.is_doubted()
    }
}

fn lock(clock: &Mutex<StoreClock>) -> std::sync::MutexGuard<'_, StoreClock> {
    clock.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn a_clock_of_a_store_shows_the_stores_time_in_every_clone() {
        let clock = Clock::of_store(Duration::from_millis(50));
        assert_eq!(clock.now().skew, Duration::from_millis(50));
        let hour = Duration::from_secs(3_600);
        let asked_at = monotonic();
        assert!(!clock.measured(asked_at, wall() + hour));
        let now = clock.clone().now();
        assert!(now.earliest() <= wall() + hour && wall() + hour < now.latest() + now.skew * 2);
        assert!(now.skew < hour, "{now:?}");
    }

    #[test]
    fn while_a_clock_is_in_doubt_nothing_that_ends_is_surely_valid() {
        let clock = Clock::of_store(Duration::from_millis(50));
        clock.measured(monotonic(), wall());
        let ahead = wall() + Duration::from_secs(3_600);
        assert!(clock.logged(monotonic(), ahead));
        assert!(!clock.now().surely_before(Some(WallClock(i64::MAX))));
        assert!(clock.now().surely_before(None));
        assert!(!clock.measured(monotonic(), wall()));
        assert!(clock.now().surely_before(Some(ahead)));
    }
}
