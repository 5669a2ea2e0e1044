//! Where a device model contradicts itself, and what of a command does not fit it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::device::{DeviceModel, Domain, Evidence, Property, Relative};
use super::infrastructure::ActuationClass;
use super::value::Value;

/// Why a property, or the evidence of a model, cannot be as it is described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A choice of no words or of one word twice, or a range without a number in it.
    #[error("has no values, or one of them twice")]
    Domain,
    /// A relative command names something that the device does not have or does not take.
    #[error("changes `{0}`, which the device does not take")]
    ChangesNothing(String),
    /// A relative command names another relative command.
    #[error("changes `{0}`, which is itself a relative command")]
    ChangesRelative(String),
    /// Something is added to what is no number.
    #[error("adds to `{0}`, which is not a number within bounds")]
    AddsToNoNumber(String),
    /// Something is toggled that has not two values.
    #[error("toggles `{0}`, which has not exactly two values")]
    TogglesNoPair(String),
    /// A relative command is said to be of another class.
    #[error("is relative and of another class than `delta`")]
    Class,
    /// A relative command is shown, or returns to something: it is no state.
    #[error("is a relative command, which is taken only and returns to nothing")]
    RelativeState,
    /// What it returns to is none of its values.
    #[error("returns to a value that is none of its own")]
    ReturnsOutside,
    /// It returns to something by a command that the device does not take.
    #[error("returns to a value, and the device does not take it")]
    ReturnsUntaken,
    /// Each command counts and repeating it is said to do nothing.
    #[error("accumulates, so repeating a command to it cannot be of class `set`")]
    AccumulatesAndSets,
    /// Each command counts and is said to return to something.
    #[error("accumulates, so it has nothing to return to")]
    AccumulatesAndReturns,
    /// The evidence is a property that the device does not show.
    #[error("is the evidence of what was carried out, and the device does not show it")]
    EvidenceUnseen,
    /// The evidence counts with something other than a number.
    #[error("counts what was carried out, and is not a number within bounds")]
    CounterNoNumber,
    /// It is said to answer, and shows nothing.
    #[error("answers when it is asked, and shows nothing")]
    AnswersNothing,
}

/// Why a command does not fit a device model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The device has no such property.
    #[error("the device has no `{0}`")]
    Unknown(String),
    /// The device only shows it.
    #[error("the device shows `{0}` and does not take it")]
    Untaken(String),
    /// The value is none of those it has.
    #[error("the value is none that `{0}` has")]
    Outside(String),
}

impl Domain {
    /// Whether a value is one of these.
    #[must_use]
    pub fn contains(&self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Truth => matches!(value, Value::Bool(_)),
            Self::Choice(words) => match value {
                Value::Text(word) => words.contains(word),
                Value::Bool(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::List(_)
                | Value::Table(_) => false,
            },
            Self::Number { min, max } => value
                .number()
                .is_some_and(|number| *min <= number && number <= *max),
        }
    }

    fn is_sound(&self) -> bool {
        match self {
            Self::Any | Self::Truth => true,
            Self::Choice(words) => {
                let different: BTreeSet<_> = words.iter().collect();
                !words.is_empty() && different.len() == words.len()
            }
            Self::Number { min, max } => min.is_finite() && max.is_finite() && min <= max,
        }
    }

    fn is_pair(&self) -> bool {
        match self {
            Self::Truth => true,
            Self::Choice(words) => words.len() == 2,
            Self::Any | Self::Number { .. } => false,
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Number { .. })
    }
}

impl DeviceModel {
    /// Everything in which the model contradicts itself, each with the property it is found at; an
    /// empty name is the model as a whole.
    #[must_use]
    pub fn flaws(&self) -> Vec<(String, Flaw)> {
        let mut flaws = Vec::new();
        for (name, property) in &self.properties {
            let mut found = |flaw| flaws.push((name.clone(), flaw));
            if !property.domain.is_sound() {
                found(Flaw::Domain);
            }
            match &property.relative {
                Some(relative) => self.relative_flaws(property, relative, &mut found),
                None => absolute_flaws(property, &mut found),
            }
        }
        if let Some(evidence) = &self.evidence {
            let (name, counts) = match evidence {
                Evidence::Counter(name) => (name, true),
                Evidence::LastCommand(name) => (name, false),
            };
            match self.properties.get(name) {
                Some(property) if property.access.is_shown() => {
                    if counts && !property.domain.is_number() {
                        flaws.push((name.clone(), Flaw::CounterNoNumber));
                    }
                }
                Some(_) | None => flaws.push((name.clone(), Flaw::EvidenceUnseen)),
            }
        }
        let shows = |property: &Property| property.access.is_shown();
        if self.answers && !self.properties.values().any(shows) {
            flaws.push((String::new(), Flaw::AnswersNothing));
        }
        flaws
    }

    /// What of a command to such a device does not fit. A model without properties fits everything:
    /// nothing is known of the device.
    #[must_use]
    pub fn misfits(&self, command: &BTreeMap<String, Value>) -> Vec<Misfit> {
        if self.properties.is_empty() {
            return Vec::new();
        }
        let misfit = |(name, value): (&String, &Value)| {
            let Some(property) = self.properties.get(name) else {
                return Some(Misfit::Unknown(name.clone()));
            };
            if !property.access.is_taken() {
                return Some(Misfit::Untaken(name.clone()));
            }
            let fits = property.domain.contains(value);
            (!fits).then(|| Misfit::Outside(name.clone()))
        };
        command.iter().filter_map(misfit).collect()
    }

    fn relative_flaws(
        &self,
        property: &Property,
        relative: &Relative,
        found: &mut impl FnMut(Flaw),
    ) {
        if property.class != ActuationClass::Delta {
            found(Flaw::Class);
        }
        if property.access.is_shown() || property.reverts.is_some() || property.accumulates {
            found(Flaw::RelativeState);
        }
        let (name, adds) = match relative {
            Relative::Adds(name) => (name, true),
            Relative::Toggles(name) => (name, false),
        };
        let changed = self.properties.get(name);
        let Some(changed) = changed.filter(|property| property.access.is_taken()) else {
            return found(Flaw::ChangesNothing(name.to_string()));
        };
        if changed.relative.is_some() {
            found(Flaw::ChangesRelative(name.to_string()));
        } else if adds && !changed.domain.is_number() {
            found(Flaw::AddsToNoNumber(name.to_string()));
        } else if !adds && !changed.domain.is_pair() {
            found(Flaw::TogglesNoPair(name.to_string()));
        }
    }
}

fn absolute_flaws(property: &Property, found: &mut impl FnMut(Flaw)) {
    if let Some(reversion) = &property.reverts {
        if !property.access.is_taken() {
            found(Flaw::ReturnsUntaken);
        }
        if !property.domain.contains(&reversion.to) {
            found(Flaw::ReturnsOutside);
        }
        if property.accumulates {
            found(Flaw::AccumulatesAndReturns);
        }
    }
    let sets = property.class == ActuationClass::Set;
    if property.accumulates && sets && property.access.is_taken() {
        found(Flaw::AccumulatesAndSets);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use core::time::Duration;

    use super::*;
    use crate::model::{Access, Reversion, built_in};

    fn light() -> DeviceModel {
        built_in("light").unwrap().model
    }

    fn flaw_of(change: impl FnOnce(&mut DeviceModel)) -> Vec<(String, Flaw)> {
        let mut model = light();
        change(&mut model);
        model.flaws()
    }

    fn step(model: &mut DeviceModel) -> &mut Property {
        model.properties.get_mut("brightness_step").unwrap()
    }

    fn state(model: &mut DeviceModel) -> &mut Property {
        model.properties.get_mut("state").unwrap()
    }

    #[test]
    fn a_relative_command_changes_a_property_that_can_be_changed_so() {
        let adds = |name: &str| {
            let relative = Some(Relative::Adds(name.to_string()));
            flaw_of(|model| step(model).relative = relative)
        };
        let at_step = |flaw| vec![("brightness_step".to_string(), flaw)];
        let cases = [
            ("brigthness", Flaw::ChangesNothing("brigthness".into())),
            ("state", Flaw::AddsToNoNumber("state".into())),
            (
                "color_temp_step",
                Flaw::ChangesRelative("color_temp_step".into()),
            ),
        ];
        for (name, flaw) in cases {
            assert_eq!(adds(name), at_step(flaw));
        }
        let toggles = Some(Relative::Toggles("brightness".into()));
        assert_eq!(
            flaw_of(|model| step(model).relative = toggles),
            at_step(Flaw::TogglesNoPair("brightness".into()))
        );
        assert_eq!(
            flaw_of(|model| step(model).class = ActuationClass::Set),
            at_step(Flaw::Class)
        );
        assert_eq!(
            flaw_of(|model| step(model).access = Access::Both),
            at_step(Flaw::RelativeState)
        );
    }

    #[test]
    fn a_property_returns_to_one_of_its_values_and_only_if_it_is_taken_and_a_state() {
        let to = |word: &str| {
            Some(Reversion {
                to: Value::Text(word.to_string()),
                after: Duration::ZERO,
            })
        };
        let at_state = |flaws: &[Flaw]| {
            let at = |flaw: &Flaw| ("state".to_string(), flaw.clone());
            flaws.iter().map(at).collect::<Vec<_>>()
        };
        assert_eq!(flaw_of(|model| state(model).reverts = to("OFF")), []);
        assert_eq!(
            flaw_of(|model| state(model).reverts = to("CLOSED")),
            at_state(&[Flaw::ReturnsOutside])
        );
        let shown = flaw_of(|model| {
            let state = state(model);
            (state.reverts, state.access) = (to("OFF"), Access::Shown);
        });
        assert_eq!(shown, at_state(&[Flaw::ReturnsUntaken]));
        let counted = flaw_of(|model| {
            let state = state(model);
            (state.reverts, state.accumulates) = (to("OFF"), true);
        });
        assert_eq!(
            counted,
            at_state(&[Flaw::AccumulatesAndReturns, Flaw::AccumulatesAndSets])
        );
    }

    #[test]
    fn values_and_evidence_are_such_that_something_can_be_read_from_them() {
        let none = |domain| flaw_of(|model| state(model).domain = domain);
        for domain in [
            Domain::Choice(Vec::new()),
            Domain::Choice(vec!["ON".into(), "ON".into()]),
            Domain::Number { min: 2.0, max: 1.0 },
            Domain::Number {
                min: f64::NAN,
                max: 1.0,
            },
        ] {
            assert_eq!(none(domain), [("state".to_string(), Flaw::Domain)]);
        }
        let counted =
            |name: &str| flaw_of(|model| model.evidence = Some(Evidence::Counter(name.into())));
        assert_eq!(
            counted("state"),
            [("state".to_string(), Flaw::CounterNoNumber)]
        );
        assert_eq!(
            counted("effect"),
            [("effect".to_string(), Flaw::EvidenceUnseen)]
        );
        let silent = DeviceModel {
            answers: true,
            ..DeviceModel::default()
        };
        assert_eq!(silent.flaws(), [(String::new(), Flaw::AnswersNothing)]);
    }

    #[test]
    fn a_command_fits_if_the_device_takes_each_of_its_values() {
        let misfits = |model: &str, property: &str, value: Value| {
            let command = BTreeMap::from([(property.to_string(), value)]);
            built_in(model).unwrap().model.misfits(&command)
        };
        let on = || Value::Text("ON".to_string());
        assert_eq!(misfits("light", "state", on()), []);
        assert_eq!(misfits("light", "brightness", Value::Float(12.5)), []);
        assert_eq!(
            misfits("light", "brightness", Value::Integer(255)),
            [Misfit::Outside("brightness".into())]
        );
        assert_eq!(
            misfits("lock", "state", on()),
            [Misfit::Outside("state".into())]
        );
        assert_eq!(
            misfits("pump", "doses", Value::Integer(1)),
            [Misfit::Untaken("doses".into())]
        );
        assert_eq!(
            misfits("pump", "speed", Value::Integer(1)),
            [Misfit::Unknown("speed".into())]
        );
        let command = BTreeMap::from([("x".to_string(), on())]);
        assert_eq!(DeviceModel::default().misfits(&command), []);
    }
}
