//! Whether the server's clock, which stamps every log, agrees with this machine's.

use std::time::Duration;

use lamplighter_policies::time::{Monotonic, WallClock};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, cmd};

use super::check::{Finding, refuse, warn};
use crate::clock::{monotonic, wall};

/// How far the two clocks may be apart without a warning.
const OFFSET_MAX: Duration = Duration::from_millis(100);

/// How much faster or slower the server's clock may run, in percent: leases and validities of
/// seconds would be wrong by as much.
const RATE_PERCENT_MAX: i64 = 1;

/// The server's clock at some instant between two of this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    server: WallClock,
    wall: (WallClock, WallClock),
    monotonic: (Monotonic, Monotonic),
}

impl Reading {
    /// Asks the server.
    pub(super) async fn take(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        let before = (wall(), monotonic());
        let (seconds, micros): (i64, i64) = cmd("TIME").query_async(connection).await?;
        let after = (wall(), monotonic());
        Ok(Self {
            server: WallClock(seconds.saturating_mul(1_000_000).saturating_add(micros)),
            wall: (before.0, after.0),
            monotonic: (before.1, after.1),
        })
    }

    /// What is surely wrong with the server's time of day.
    pub(super) fn offset(&self) -> Option<Finding> {
        let ahead = self.server.since(self.wall.1);
        let behind = self.wall.0.since(self.server);
        let apart = ahead.max(behind);
        (apart > OFFSET_MAX).then(|| {
            let side = if ahead > behind { "ahead" } else { "behind" };
            warn(
                format!("the server's clock is {apart:.1?} {side}"),
                "let both machines keep time with the same NTP server: events expire too early or \
                 too late",
            )
        })
    }

    /// What is surely wrong with how fast the server's clock ran from this reading to a later one.
    pub(super) fn rate(&self, later: &Self) -> Option<Finding> {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let passed = later.server.0.saturating_sub(self.server.0);
        let shortest = micros(later.monotonic.0 - self.monotonic.1);
        let longest = micros(later.monotonic.1 - self.monotonic.0);
        let is_slow = passed.saturating_mul(100) < shortest.saturating_mul(100 - RATE_PERCENT_MAX);
        let is_fast = passed.saturating_mul(100) > longest.saturating_mul(100 + RATE_PERCENT_MAX);
        (is_slow || is_fast).then(|| {
            refuse(
                format!("the server's clock went {passed} µs while {shortest} to {longest} passed"),
                "repair the timekeeping of one of the two machines: something sets its clock",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::Severity;

    #[test]
    fn only_what_is_surely_apart_is_reported() {
        let at = |server| reading(server, 1_000_000, 1_300_000).offset();
        assert_eq!(at(1_000_000), None);
        assert_eq!(at(900_000), None);
        assert_eq!(at(1_400_000), None);
        assert!(at(899_999).unwrap().what.ends_with("100.0ms behind"));
        assert!(at(3_300_000).unwrap().what.ends_with("2.0s ahead"));
        assert_eq!(at(3_300_000).unwrap().severity, Severity::Warn);
    }

    #[test]
    fn a_clock_that_runs_too_fast_or_slow_is_refused() {
        let first = reading(0, 0, 1_000);
        let after = |server| first.rate(&reading(server, 1_000_000, 1_001_000));
        for good in [1_000_000, 989_100, 1_011_000] {
            assert_eq!(after(good), None, "{good}");
        }
        for bad in [980_000, 1_020_000, -5] {
            assert_eq!(after(bad).unwrap().severity, Severity::Refuse, "{bad}");
        }
    }

    fn reading(server: i64, before: u64, after: u64) -> Reading {
        let wall = |micros: u64| WallClock(i64::try_from(micros).unwrap());
        Reading {
            server: WallClock(server),
            wall: (wall(before), wall(after)),
            monotonic: (Monotonic(before * 1_000), Monotonic(after * 1_000)),
        }
    }
}
