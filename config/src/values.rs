//! Single values of the file: text, numbers, durations, one of several words, lists, trees.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use lamplighter_policies::model::{SecretSource, Value};
use lamplighter_policies::physical_world::Validity;
use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use crate::diagnostics::{Code, Fault, Faults};
use crate::reader::{Item, Table, quoted};

/// The most characters of any text of the file.
const TEXT_MAX: usize = 4_096;

/// How deep values of a state may lie in each other.
const DEPTH_MAX: usize = 32;

/// The longest that anything can hold, ten years.
pub(crate) const VALIDITY_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// True or false.
pub(crate) fn boolean(item: &Item<'_>, faults: &mut Faults) -> Option<bool> {
    let value = item.value.as_bool();
    if value.is_none() {
        faults.add(item.wrong_type("`true` or `false`"));
    }
    value
}

/// Text that is not empty and holds no control characters.
pub(crate) fn text(item: &Item<'_>, faults: &mut Faults) -> Option<String> {
    let Some(value) = item.value.as_str() else {
        faults.add(item.wrong_type("text"));
        return None;
    };
    let why = if value.is_empty() {
        "is empty".to_owned()
    } else if value.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else if value.chars().count() > TEXT_MAX {
        format!("has more than {TEXT_MAX} characters")
    } else {
        return Some(value.to_owned());
    };
    faults.add(item.not_allowed(why, "write it as one short line of plain text"));
    None
}

/// A value together with its place.
pub(crate) fn located<'d, T>(
    read: impl FnOnce(&Item<'d>, &mut Faults) -> Option<T>,
) -> impl FnOnce(&Item<'d>, &mut Faults) -> Option<Spanned<T>> {
    move |item, faults| read(item, faults).map(|value| Spanned::new(item.place.clone(), value))
}

/// A whole number within a range.
pub(crate) fn whole<T>(range: RangeInclusive<T>) -> impl FnOnce(&Item<'_>, &mut Faults) -> Option<T>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    move |item, faults| {
        let Some(number) = item.value.as_integer() else {
            faults.add(item.wrong_type("a whole number"));
            return None;
        };
        let value = integer(number)
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number));
        if value.is_none() {
            let (from, to) = range.into_inner();
            faults.add(out_of_range(item, from, to));
        }
        value
    }
}

/// A finite number within a range.
pub(crate) fn number(range: RangeInclusive<f64>) -> impl Fn(&Item<'_>, &mut Faults) -> Option<f64> {
    move |item, faults| {
        let value = match item.value {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Integer(number) => integer(number).map(|number| number as f64),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                faults.add(item.wrong_type("a number"));
                return None;
            }
        };
        let value = value.filter(|number| number.is_finite() && range.contains(number));
        if value.is_none() {
            let (from, to) = (range.start(), range.end());
            faults.add(out_of_range(item, from, to));
        }
        value
    }
}

/// One of several words, each with what it stands for.
pub(crate) fn choice<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&Item<'_>, &mut Faults) -> Option<T> {
    move |item, faults| {
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let Some(given) = item.value.as_str() else {
            faults.add(item.wrong_type(format!("one of {}", quoted(&names))));
            return None;
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == given) {
            return Some(*value);
        }
        let cure = match faults.meant(given, names.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("write one of {}", quoted(&names)),
        };
        let shown: String = given.chars().take(64).collect();
        faults.add(item.not_allowed(format!("cannot be {shown:?}"), cure));
        None
    }
}

/// A span of time such as `"100ms"`, within a range.
pub(crate) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Item<'_>, &mut Faults) -> Option<Duration> {
    move |item, faults| {
        let Some(given) = item.value.as_str() else {
            let cure = "write a number and a unit, such as \"100ms\", \"5s\" or \"2h\"";
            faults.add(item.wrong_type("a duration in quotes").cure(cure));
            return None;
        };
        match parse_duration(given) {
            Some(span) if range.contains(&span) => Some(span),
            Some(_) => {
                let (from, to) = (show(*range.start()), show(*range.end()));
                faults.add(out_of_range(item, from, to));
                None
            }
            None => {
                faults.add(not_a_duration(item));
                None
            }
        }
    }
}

/// Two durations joined by `..`, the first not the longer one.
pub(crate) fn duration_range(item: &Item<'_>, faults: &mut Faults) -> Option<(Duration, Duration)> {
    let Some(given) = item.value.as_str() else {
        faults.add(item.wrong_type("two durations, such as \"100ms..30s\""));
        return None;
    };
    let pair = given
        .split_once("..")
        .and_then(|(from, to)| Some((parse_duration(from)?, parse_duration(to)?)));
    match pair {
        Some((from, to)) if from <= to && to <= VALIDITY_MAX => pair,
        Some(_) => {
            let why = "must go from the shorter wait to the longer";
            faults.add(item.not_allowed(why, "write it as \"100ms..30s\""));
            None
        }
        None => {
            let why = "is not two durations";
            faults.add(item.not_allowed(why, "write it as \"100ms..30s\""));
            None
        }
    }
}

/// How long something holds: a duration, `"immediate"` or `"unbounded"`.
pub(crate) fn validity(item: &Item<'_>, faults: &mut Faults) -> Option<Validity> {
    match item.value.as_str() {
        Some("immediate") => Some(Validity::Immediate),
        Some("unbounded") => Some(Validity::Unbounded),
        Some(given) => match parse_duration(given) {
            Some(span) if !span.is_zero() && span <= VALIDITY_MAX => Some(Validity::For(span)),
            Some(_) => {
                let reason = format!("`{}` must be longer than nothing", item.path);
                let fault = Fault::new(
                    Code::V16,
                    item.place.clone(),
                    format!("{reason} and at most ten years"),
                );
                faults.add(fault.cure(
                    "write \"immediate\" for what holds only as it occurs, \"unbounded\" for what \
                     holds until something overrides it",
                ));
                None
            }
            None => {
                faults.add(not_a_duration(item));
                None
            }
        },
        None => {
            faults.add(item.wrong_type("a duration in quotes"));
            None
        }
    }
}

/// A list of at most `max` values, each read in the same way; bad ones are left out.
pub(crate) fn list<'d, T>(
    max: usize,
    read: impl Fn(&Item<'d>, &mut Faults) -> Option<T>,
) -> impl FnOnce(&Item<'d>, &mut Faults) -> Option<Vec<T>> {
    move |item, faults| {
        let Some(values) = item.value.as_array() else {
            faults.add(item.wrong_type("a list"));
            return None;
        };
        if values.len() > max {
            let reason = format!(
                "`{}` has {} entries, at most {max} are allowed",
                item.path,
                values.len()
            );
            let fault = Fault::new(Code::F06, item.place.clone(), reason);
            faults.add(fault.cure("write fewer"));
            return None;
        }
        let children = values.iter().enumerate();
        Some(
            children
                .filter_map(|(index, value)| read(&item.child(index, value), faults))
                .collect(),
        )
    }
}

/// Three coordinates in metres.
pub(crate) fn point(item: &Item<'_>, faults: &mut Faults) -> Option<[f64; 3]> {
    let Some(values) = item.value.as_array().filter(|values| values.len() == 3) else {
        faults.add(item.wrong_type("three numbers, such as [1.0, 2.0, 0.5]"));
        return None;
    };
    let mut point = [0.0; 3];
    for (axis, value) in values.iter().enumerate() {
        let coordinate = match value.get_ref() {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Integer(number) => integer(number).map(|number| number as f64),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        match coordinate.filter(|metres| metres.abs() <= 1e7) {
            Some(metres) => point[axis] = metres,
            None => {
                let place = value.span();
                let reason = format!(
                    "`{}` has a coordinate that is not a finite number of metres",
                    item.path
                );
                faults.add(
                    Fault::new(Code::V21, place, reason).cure("write metres, at most 10000 km"),
                );
                return None;
            }
        }
    }
    Some(point)
}

/// Any tree of plain values.
pub(crate) fn tree(item: &Item<'_>, faults: &mut Faults) -> Option<Value> {
    branch(item, faults, 0)
}

/// A table of plain values.
pub(crate) fn tree_table(item: &Item<'_>, faults: &mut Faults) -> Option<BTreeMap<String, Value>> {
    if !item.value.is_table() {
        faults.add(item.wrong_type("a table"));
        return None;
    }
    match tree(item, faults)? {
        Value::Table(table) => Some(table),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => {
            None
        }
    }
}

fn branch(item: &Item<'_>, faults: &mut Faults, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        let reason = format!("values lie more than {DEPTH_MAX} deep in each other");
        let fault = Fault::new(Code::F06, item.place.clone(), reason);
        faults.add(fault.cure("make it flatter"));
        return None;
    }
    match item.value {
        DeValue::String(text) => Some(Value::Text(text.to_string())),
        DeValue::Boolean(value) => Some(Value::Bool(*value)),
        DeValue::Integer(number) => {
            let value = integer(number).map(Value::Integer);
            if value.is_none() {
                faults.add(item.not_allowed(
                    "is too large",
                    "a whole number has 64 bits; write it as text",
                ));
            }
            value
        }
        DeValue::Float(number) => {
            let value = number.as_str().parse::<f64>().ok();
            let value = value.filter(|number| number.is_finite()).map(Value::Float);
            if value.is_none() {
                faults.add(item.not_allowed("is not a finite number", "write one, or text"));
            }
            value
        }
        DeValue::Datetime(_) => {
            let fault = item.wrong_type("a plain value");
            faults.add(fault.cure("write dates and times as text"));
            None
        }
        DeValue::Array(values) => {
            let read = |(index, value)| branch(&item.child(index, value), faults, depth + 1);
            let values: Vec<_> = values.iter().enumerate().map(read).collect();
            values.into_iter().collect::<Option<_>>().map(Value::List)
        }
        DeValue::Table(table) => {
            let mut values = BTreeMap::new();
            let mut complete = true;
            for (key, value) in table {
                match branch(&item.child(key.get_ref(), value), faults, depth + 1) {
                    Some(value) => {
                        values.insert(key.get_ref().to_string(), value);
                    }
                    None => complete = false,
                }
            }
            complete.then_some(Value::Table(values))
        }
    }
}

/// Where a secret is found: `{ env = "NAME" }` or `{ file = "PATH" }`, never the secret itself.
pub(crate) fn secret(item: &Item<'_>, faults: &mut Faults) -> Option<SecretSource> {
    const CURE: &str = "write { env = \"NAME\" } or { file = \"PATH\" }";
    if item.value.is_str() {
        let reason = format!("`{}` is a secret in clear", item.path);
        faults.add(Fault::new(Code::F07, item.place.clone(), reason).cure(CURE));
        return None;
    }
    let mut table = Table::of(item, faults)?;
    let variable = table.optional("env", text);
    let file = table.optional("file", path);
    let (has_variable, has_file) = (table.place_of("env"), table.place_of("file"));
    if has_variable.is_some() == has_file.is_some() {
        let reason = format!("`{}` needs one of `env` and `file`", item.path);
        table.fault(Fault::new(Code::F05, item.place.clone(), reason).cure(CURE));
    }
    table.finish();
    variable
        .map(SecretSource::Env)
        .or(file.map(SecretSource::File))
}

/// A path of the file system that does not climb out of where it starts.
pub(crate) fn path(item: &Item<'_>, faults: &mut Faults) -> Option<String> {
    let path = text(item, faults)?;
    if path.split(['/', '\\']).any(|part| part == "..") {
        let cure = "write the path from the root, or below the working directory";
        faults.add(item.not_allowed("climbs out of its directory with `..`", cure));
        return None;
    }
    Some(path)
}

/// A number and a unit, without a sign or a fraction.
pub fn parse_duration(given: &str) -> Option<Duration> {
    let given = given.trim();
    let digits = given.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = given[..digits].parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match given[digits..].trim_start() {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" | "min" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        _ => None,
    }
}

/// A duration in the largest unit that shows it whole.
pub(crate) fn show(span: Duration) -> String {
    let (seconds, nanos) = (span.as_secs(), span.subsec_nanos());
    match (seconds, nanos) {
        (0, 0) => "0s".to_owned(),
        (s, 0) if s % 86_400 == 0 => format!("{}d", s / 86_400),
        (s, 0) if s % 3_600 == 0 => format!("{}h", s / 3_600),
        (s, 0) if s % 60 == 0 => format!("{}m", s / 60),
        (s, 0) => format!("{s}s"),
        (_, n) if n % 1_000_000 == 0 => format!("{}ms", span.as_millis()),
        _ => format!("{}us", span.as_micros()),
    }
}

fn not_a_duration(item: &Item<'_>) -> Fault {
    let cure = "write a number and one of us, ms, s, m, h, d, such as \"100ms\"";
    item.not_allowed("is not a duration", cure)
}

fn out_of_range(item: &Item<'_>, from: impl Display, to: impl Display) -> Fault {
    let why = format!("does not lie between {from} and {to}");
    item.not_allowed(why, format!("write a value from {from} to {to}"))
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        let cases = [
            ("100ms", Some(Duration::from_millis(100))),
            ("5 s", Some(Duration::from_secs(5))),
            ("2h", Some(Duration::from_secs(7_200))),
            ("1min", Some(Duration::from_secs(60))),
            ("5", None),
            ("-5s", None),
            ("1.5s", None),
            ("s", None),
            ("", None),
            ("5 parsecs", None),
            ("99999999999999999999s", None),
            ("9999999999999999999d", None),
        ];
        for (given, expected) in cases {
            assert_eq!(parse_duration(given), expected, "{given}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_would_be_written() {
        for written in ["0s", "100us", "100ms", "5s", "90s", "2m", "2h", "3d"] {
            assert_eq!(show(parse_duration(written).unwrap()), written);
        }
    }
}
