//! The time stamps that devices put into their reports.

use lamplighter_policies::time::WallClock;
use serde_json::Value;

/// Numbers below this are seconds, from here on milliseconds: as seconds the year 5138, as
/// milliseconds 1973.
const SECONDS_MAX: f64 = 1e11;

/// When a report says that what it tells of occurred; `None` if it does not say, or not in a form
/// that is understood.
pub(super) fn of_report(report: &[u8], property: &str) -> Option<WallClock> {
    let report: Value = serde_json::from_slice(report).ok()?;
    match report.get(property)? {
        Value::Number(number) => of_number(number.as_f64()?),
        Value::String(text) => of_text(text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn of_number(number: f64) -> Option<WallClock> {
    let micros = if number.abs() < SECONDS_MAX {
        number * 1e6
    } else {
        number * 1e3
    };
    (micros.abs() < 9e18).then_some(WallClock(micros as i64))
}

/// `2026-01-31T12:00:00.5Z`, or with an offset such as `+01:00`. Without either it is of no known
/// place, and understood by nobody.
fn of_text(text: &str) -> Option<WallClock> {
    let (date, time) = text.split_once(['T', ' '])?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let mut next = || date.next()?.ok();
    let days = days(next()?, next()?, next()?)?;
    let (time, offset) = apart(time)?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = whole.splitn(3, ':').map(str::parse::<i64>);
    let mut next = |max| parts.next()?.ok().filter(|part| (0..=max).contains(part));
    let seconds = next(23)? * 3_600 + next(59)? * 60 + next(60)?;
    let micros: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(6)
        .collect();
    let micros: i64 = micros.parse().ok()?;
    Some(WallClock(
        (days * 86_400 + seconds - offset) * 1_000_000 + micros,
    ))
}

/// The time of day, and how many seconds its zone is ahead.
fn apart(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let (time, offset) = time.split_at(at);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits: String = offset.chars().filter(char::is_ascii_digit).collect();
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes: i64 = if minutes.is_empty() {
        0
    } else {
        minutes.parse().ok()?
    };
    Some((
        time,
        sign * (hours.parse::<i64>().ok()? * 3_600 + minutes * 60),
    ))
}

/// The days from 1970-01-01 to a date, by Howard Hinnant's `days_from_civil`.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let sound = (0..=9_999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    sound.then(|| {
        let year = year - i64::from(month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(value: &str) -> Option<i64> {
        let report = format!(r#"{{"occupancy":true,"last_seen":{value}}}"#);
        of_report(report.as_bytes(), "last_seen").map(|at| at.0)
    }

    #[test]
    fn a_stamp_is_read_in_the_forms_that_devices_use() {
        let noon = Some(1_709_208_000_500_000);
        for value in [
            r#""2024-02-29T12:00:00.500Z""#,
            r#""2024-02-29T13:00:00.5+01:00""#,
            r#""2024-02-29T06:30:00.5-0530""#,
            "1709208000500",
            "1709208000.5",
        ] {
            assert_eq!(stamp(value), noon, "{value}");
        }
    }

    #[test]
    fn what_is_no_stamp_is_not_guessed_at() {
        for value in [
            "null",
            "true",
            r#""yesterday""#,
            r#""2024-02-29""#,
            r#""2024-02-29T12:00:00""#,
            r#""2024-13-29T12:00:00Z""#,
            r#""2024-02-29T25:00:00Z""#,
        ] {
            assert_eq!(stamp(value), None, "{value}");
        }
        assert_eq!(of_report(b"no json", "last_seen"), None);
    }
}
