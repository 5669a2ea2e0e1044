//! Commands that say "more" or "the other way" become commands that say how much: a step that was
//! logged as where it leads may be repeated.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Properties;
use crate::model::{DeviceModel, Domain, Relative, Value};

/// A property of a command that no device of the model takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the appliance does not take {property} = {value}: {reason}")]
pub struct Refused {
    /// Which property.
    pub property: String,
    /// Its value, for people.
    pub value: String,
    /// What the model says instead.
    pub reason: String,
}

/// Turns steps into where they lead, from the values that `known` tells, and checks all against the
/// model. A step from where nobody knows stays a step.
///
/// # Errors
/// The first property that the model refuses: the whole command is of no use.
pub fn resolve(
    model: &DeviceModel,
    properties: Properties,
    known: impl Fn(&str) -> Option<Value>,
) -> Result<Properties, Refused> {
    let relative = |name: &str| {
        let property = model.properties.get(name)?;
        property.relative.clone()
    };
    let (steps, mut resolved): (Properties, Properties) = properties
        .into_iter()
        .partition(|(name, _)| relative(name).is_some());
    for (name, value) in &resolved {
        check(model, name, value)?;
    }
    for (name, value) in steps {
        check(model, &name, &value)?;
        let Some(relative) = relative(&name) else {
            continue;
        };
        let target = match &relative {
            Relative::Adds(target) | Relative::Toggles(target) => target,
        };
        let domain = model
            .properties
            .get(target)
            .map_or(&Domain::Any, |property| &property.domain);
        let from = resolved.get(target).cloned().or_else(|| known(target));
        let leads_to = from.and_then(|from| match &relative {
            Relative::Adds(_) => sum(&from, &value, domain),
            Relative::Toggles(_) => other(&from, domain),
        });
        match leads_to {
            Some(leads_to) => resolved.insert(target.clone(), leads_to),
            None => resolved.insert(name, value),
        };
    }
    Ok(resolved)
}

fn check(model: &DeviceModel, name: &str, value: &Value) -> Result<(), Refused> {
    let Some(property) = model.properties.get(name) else {
        return Ok(());
    };
    let refused = |reason| Refused {
        property: name.into(),
        value: format!("{value}"),
        reason,
    };
    if !property.access.is_taken() {
        return Err(refused("it only shows it".into()));
    }
    // The bounds of a step are those of the property that it changes, which it cannot leave.
    if property.relative.is_some() {
        return Ok(());
    }
    property.domain.takes(value).map_err(refused)
}

impl Domain {
    /// Whether a value is one of its values.
    ///
    /// # Errors
    /// Which values it has, for people.
    pub fn takes(&self, value: &Value) -> Result<(), String> {
        match self {
            Self::Any => Ok(()),
            Self::Truth => match value {
                Value::Bool(_) => Ok(()),
                Value::Integer(_) | Value::Float(_) | Value::Text(_) => Err(self.described()),
                Value::List(_) | Value::Table(_) => Err(self.described()),
            },
            Self::Choice(words) => {
                let is = |word: &String| *value == Value::Text(word.clone());
                words.iter().any(is).then_some(()).ok_or(self.described())
            }
            Self::Number { min, max } => {
                let within = value.number().is_some_and(|n| (*min..=*max).contains(&n));
                within.then_some(()).ok_or_else(|| self.described())
            }
        }
    }

    fn described(&self) -> String {
        match self {
            Self::Any => "it is anything".into(),
            Self::Truth => "it is true or false".into(),
            Self::Choice(words) => format!("it is one of {}", words.join(", ")),
            Self::Number { min, max } => format!("it is a number from {min} to {max}"),
        }
    }
}

/// Where a step leads, which is never out of bounds.
fn sum(from: &Value, step: &Value, domain: &Domain) -> Option<Value> {
    let clamped = |number: f64| match domain {
        Domain::Number { min, max } => number.max(*min).min(*max),
        Domain::Any | Domain::Truth | Domain::Choice(_) => number,
    };
    let sum = from.number()? + step.number()?;
    let reached = clamped(sum);
    if let (Value::Integer(from), Value::Integer(step)) = (from, step)
        && reached == sum
    {
        return from.checked_add(*step).map(Value::Integer);
    }
    let whole = reached as i64;
    match whole as f64 == reached {
        true => Some(Value::Integer(whole)),
        false => Some(Value::Float(reached)),
    }
}

/// The other of two values, if there are two.
fn other(from: &Value, domain: &Domain) -> Option<Value> {
    match (from, domain) {
        (Value::Bool(from), Domain::Any | Domain::Truth) => Some(Value::Bool(!from)),
        (Value::Text(from), Domain::Choice(words)) if words.len() == 2 => {
            let others: Vec<&String> = words.iter().filter(|word| *word != from).collect();
            match others[..] {
                [other] => Some(Value::Text(other.clone())),
                _ => None,
            }
        }
        (
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Table(_),
            Domain::Any | Domain::Truth | Domain::Choice(_) | Domain::Number { .. },
        ) => None,
    }
}
