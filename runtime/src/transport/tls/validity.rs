//! From when on and until when a certificate holds.

use std::time::Duration;

use lamplighter_policies::time::WallClock;
use rustls::pki_types::UnixTime;

/// How far a new certificate reaches back, for machines whose clocks are slow.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// The span in which a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first instant, to the second.
    pub from: WallClock,
    /// Its last instant, to the second.
    pub until: WallClock,
}

impl Validity {
    /// From `now` on, and from a little before, for so many days.
    #[must_use]
    pub fn of_days(now: WallClock, days: u32) -> Self {
        // A certificate knows whole seconds only.
        let now = wall(unix(now));
        Self {
            from: now - BACKDATED,
            until: now + Duration::from_secs(86_400) * days,
        }
    }

    /// When two thirds of the span are over: it is time for a new certificate.
    #[must_use]
    pub fn renew_at(&self) -> WallClock {
        self.from + self.until.since(self.from) / 3 * 2
    }
}

/// The instant as the TLS library writes it.
pub(super) fn unix(WallClock(microseconds): WallClock) -> UnixTime {
    let seconds = u64::try_from(microseconds / 1_000_000).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// The instant as the rest of the project writes it.
pub(super) fn wall(at: UnixTime) -> WallClock {
    WallClock::default() + Duration::from_secs(at.as_secs())
}

/// The day and minute, for people.
#[must_use]
pub fn date(at: WallClock) -> String {
    let since_1970 = Duration::from_secs(unix(at).as_secs());
    let date = rcgen::date_time_ymd(1970, 1, 1) + since_1970;
    format!(
        "{} {:02}:{:02} UTC",
        date.date(),
        date.hour(),
        date.minute()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_it_are_over() {
        let now = WallClock(1_767_225_600_000_000);
        let validity = Validity::of_days(now, 30);
        assert!(validity.from < now);
        let left = validity.until.since(validity.renew_at());
        let days = Duration::from_secs(86_400);
        assert!(days * 10 < left && left < days * 11, "{left:?}");
        assert_eq!(date(now), "2026-01-01 00:00 UTC");
        assert_eq!(
            date(now + days + Duration::from_secs(61)),
            "2026-01-02 00:01 UTC"
        );
    }
}
