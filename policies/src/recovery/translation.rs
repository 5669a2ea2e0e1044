//! How what was said to one appliance is said to another: by capability, not by name (paper, 4.2.4;
//! the state of a failed appliance is shown by its substitute).

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::capability::{is_same_word, is_share, truth_of};
use crate::model::{DeviceModel, Domain, Property, Value};
use crate::state_saving::Properties;

/// What one appliance's properties are in the words of another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translated {
    /// In the words of the other.
    pub properties: Properties,
    /// What it cannot show: the part that is degraded.
    pub lost: Vec<Loss>,
}

/// A property that the other appliance cannot show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Which, in the words of the first.
    pub property: String,
    /// Why.
    pub reason: LossReason,
}

/// Why a property cannot be shown by another appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// The other has nothing like it.
    NothingLikeIt,
    /// The other has it, without such a value.
    NoSuchValue,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            LossReason::NothingLikeIt => "the substitute has nothing like it",
            LossReason::NoSuchValue => "the substitute has no such value",
        };
        write!(f, "{}: {reason}", self.property)
    }
}

/// Says `properties` of a device of model `from` to one of model `to`: numbers that are shares of a
/// range go from range to range, others are clamped, words by what they mean. Between devices of
/// which neither has a model, everything is said as it is.
#[must_use]
pub fn translate(from: &DeviceModel, to: &DeviceModel, properties: &Properties) -> Translated {
    let mut translated = Translated::default();
    for (name, value) in properties {
        let outcome = match counterpart(from, to, name) {
            None => Err(LossReason::NothingLikeIt),
            Some((name, None)) => Ok((name, value.clone())),
            Some((other, Some(property))) => {
                let known = from.properties.get(name);
                let domain = known.map_or(&Domain::Any, |known| &known.domain);
                let value = said(&property.capability, domain, &property.domain, value);
                value
                    .map(|value| (other, value))
                    .ok_or(LossReason::NoSuchValue)
            }
        };
        match outcome {
            Ok((name, value)) => {
                translated.properties.insert(name, value);
            }
            Err(reason) => translated.lost.push(Loss {
                property: name.clone(),
                reason,
            }),
        }
    }
    translated
}

/// Which of the properties of `to` stand for these of `from`.
#[must_use]
pub fn counterparts(from: &DeviceModel, to: &DeviceModel, names: &[String]) -> BTreeSet<String> {
    names
        .iter()
        .filter_map(|name| counterpart(from, to, name))
        .map(|(name, _)| name)
        .collect()
}

/// The property of `to` that stands for the one of this name of `from`, and its description if `to`
/// has a model.
fn counterpart<'a>(
    from: &DeviceModel,
    to: &'a DeviceModel,
    name: &str,
) -> Option<(String, Option<&'a Property>)> {
    if to.properties.is_empty() {
        return Some((name.to_string(), None));
    }
    let same_name = to.properties.get(name);
    let Some(known) = from.properties.get(name) else {
        return same_name.map(|property| (name.to_string(), Some(property)));
    };
    let stands = |property: &Property| {
        !known.capability.is_empty()
            && property.capability == known.capability
            && known.relative.is_some() == property.relative.is_some()
            && if known.access.is_taken() {
                property.access.is_taken()
            } else {
                property.access.is_shown()
            }
    };
    if let Some(property) = same_name.filter(|property| stands(property)) {
        return Some((name.to_string(), Some(property)));
    }
    let mut others = to.properties.iter();
    let (name, property) = others.find(|(_, property)| stands(property))?;
    Some((name.clone(), Some(property)))
}

/// A value in the words of another device; `None` if it has none for it.
fn said(capability: &str, from: &Domain, to: &Domain, value: &Value) -> Option<Value> {
    match to {
        Domain::Any => Some(value.clone()),
        Domain::Truth => truth(value).map(Value::Bool),
        Domain::Choice(words) => {
            let word = match value {
                Value::Text(text) => words.iter().find(|word| is_same_word(word, text)),
                Value::Bool(_) => None,
                Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => {
                    return None;
                }
            };
            let by_meaning = || {
                let truth = truth(value)?;
                words.iter().find(|word| truth_of(word) == Some(truth))
            };
            let word = word.or_else(by_meaning)?;
            Some(Value::Text(word.clone()))
        }
        Domain::Number { min, max } => {
            let number = value.number()?;
            let whole = matches!(value, Value::Integer(_));
            let scaled = match from {
                Domain::Number {
                    min: low,
                    max: high,
                } if is_share(capability) && high > low => {
                    let share = ((number - low) / (high - low)).clamp(0.0, 1.0);
                    let scaled = min + share * (max - min);
                    // What is not quite nothing must not become nothing: a dim lamp is not off.
                    if whole && share > 0.0 && round(scaled) <= *min {
                        min + 1.0
                    } else if whole {
                        round(scaled)
                    } else {
                        scaled
                    }
                }
                Domain::Number { .. } | Domain::Any | Domain::Truth | Domain::Choice(_) => number,
            };
            let clamped = scaled.max(*min).min(*max);
            Some(if whole && clamped == round(clamped) {
                Value::Integer(clamped as i64)
            } else {
                Value::Float(clamped)
            })
        }
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Text(word) => truth_of(word),
        Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => None,
    }
}

/// To the nearest whole number, halves away from zero; `core` has no rounding of its own.
fn round(number: f64) -> f64 {
    let half = if number < 0.0 { -0.5 } else { 0.5 };
    ((number + half) as i64) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Access, ActuationClass};

    fn property(capability: &str, domain: Domain) -> Property {
        Property {
            capability: capability.into(),
            access: Access::Both,
            domain,
            class: ActuationClass::Set,
            relative: None,
            reverts: None,
            accumulates: false,
        }
    }

    fn number(min: f64, max: f64) -> Domain {
        Domain::Number { min, max }
    }

    fn words(words: &[&str]) -> Domain {
        Domain::Choice(words.iter().map(ToString::to_string).collect())
    }

    fn model(properties: &[(&str, &str, Domain)]) -> DeviceModel {
        let named = |(name, capability, domain): &(&str, &str, Domain)| {
            (name.to_string(), property(capability, domain.clone()))
        };
        DeviceModel {
            name: "light".into(),
            properties: properties.iter().map(named).collect(),
            ..DeviceModel::default()
        }
    }

    fn zigbee_lamp() -> DeviceModel {
        model(&[
            ("state", "on-off", words(&["ON", "OFF"])),
            ("brightness", "brightness", number(0.0, 254.0)),
            ("color_temp", "color-temperature", number(150.0, 500.0)),
            ("effect", "effect", words(&["blink"])),
        ])
    }

    fn percent_lamp() -> DeviceModel {
        model(&[
            ("on", "on-off", Domain::Truth),
            ("dimming", "brightness", number(0.0, 100.0)),
            ("mirek", "color-temperature", number(153.0, 454.0)),
        ])
    }

    fn properties(of: &[(&str, Value)]) -> Properties {
        of.iter()
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect()
    }

    #[test]
    fn what_one_lamp_shows_is_said_in_the_words_of_another_and_back() {
        let said = properties(&[
            ("state", Value::Text("ON".into())),
            ("brightness", Value::Integer(127)),
            ("color_temp", Value::Integer(150)),
            ("effect", Value::Text("blink".into())),
            ("transition", Value::Integer(1)),
        ]);
        let there = translate(&zigbee_lamp(), &percent_lamp(), &said);
        let nothing = |property: &str| Loss {
            property: property.into(),
            reason: LossReason::NothingLikeIt,
        };
        let expected = Translated {
            properties: properties(&[
                ("on", Value::Bool(true)),
                ("dimming", Value::Integer(50)),
                ("mirek", Value::Integer(153)),
            ]),
            lost: [nothing("effect"), nothing("transition")].into(),
        };
        assert_eq!(there, expected);
        let back = translate(&percent_lamp(), &zigbee_lamp(), &there.properties);
        let expected = properties(&[
            ("state", Value::Text("ON".into())),
            ("brightness", Value::Integer(127)),
            ("color_temp", Value::Integer(153)),
        ]);
        assert_eq!((back.properties, back.lost), (expected, [].into()));
    }

    #[test]
    fn the_dimmest_light_stays_a_light() {
        let cases = [(0, 0), (1, 1), (2, 1), (254, 100), (300, 100), (-5, 0)];
        for (level, expected) in cases {
            let said = properties(&[("brightness", Value::Integer(level))]);
            let there = translate(&zigbee_lamp(), &percent_lamp(), &said).properties;
            assert_eq!(there, properties(&[("dimming", Value::Integer(expected))]));
        }
    }

    #[test]
    fn a_word_that_the_other_does_not_know_is_lost() {
        let said = properties(&[("effect", Value::Text("rainbow".into()))]);
        let there = translate(&zigbee_lamp(), &zigbee_lamp(), &said);
        let lost = Loss {
            property: "effect".into(),
            reason: LossReason::NoSuchValue,
        };
        assert_eq!(there.lost, [lost]);
    }

    #[test]
    fn between_devices_without_models_everything_is_said_as_it_is() {
        let said = properties(&[
            ("", Value::Text("play".into())),
            ("volume", Value::Integer(7)),
        ]);
        let unknown = DeviceModel::default();
        let expected = Translated {
            properties: said.clone(),
            lost: Vec::new(),
        };
        assert_eq!(translate(&unknown, &unknown, &said), expected);
    }
}
