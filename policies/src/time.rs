//! Two kinds of time that never mix: [`Monotonic`] for deadlines, [`WallClock`] for validity.

use core::ops::{Add, Sub};
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant of this machine since it booted, suspend included (`CLOCK_BOOTTIME`), in nanoseconds.
///
/// All durations and deadlines use it; it means nothing on another machine or after a reboot.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Monotonic(pub u64);

/// An instant of the physical world, in microseconds since 1970 UTC.
///
/// Validity uses it: it survives a crash and travels between machines, and is only as good as the
/// clock that read it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WallClock(pub i64);

/// What a machine is told about time with every input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub monotonic: Monotonic,
    /// For validity: what the store's clock reads, as well as this machine knows it.
    pub wall: WallClock,
    /// How far `wall` may be from the store's clock, either way.
    pub skew: Duration,
}

impl Add<Duration> for Monotonic {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub for Monotonic {
    type Output = Duration;
    /// The span since `earlier`, zero if that lies ahead.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for WallClock {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

impl Sub<Duration> for WallClock {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

impl WallClock {
    /// The span since `earlier`, zero if that lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Now {
    /// The latest that the store's clock may read at this instant.
    #[must_use]
    pub fn latest(&self) -> WallClock {
        self.wall + self.skew
    }

    /// The earliest that the store's clock may read at this instant.
    #[must_use]
    pub fn earliest(&self) -> WallClock {
        self.wall - self.skew
    }
}
