//! A device that is not there: it does what its model says, for development and tests (paper, 5.1, the
//! simulated appliances).

use alloc::string::String;

use super::{DeviceFence, EventId};
use crate::model::{DeviceModel, Domain, Evidence, Property, Relative, Value};
use crate::state_saving::Properties;

/// What became of a command at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarriedOut {
    /// Something in the physical world is different for it.
    Changed,
    /// It asked for what was so already, or for nothing that the device has.
    Unchanged,
    /// It came from an owner that was replaced, and was not obeyed.
    Fenced,
}

/// A device as its model describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedDevice {
    model: DeviceModel,
    shown: Properties,
    fence: DeviceFence,
}

impl SimulatedDevice {
    /// A device that shows `first`, and of the rest of its model the first word, the least number, or
    /// false.
    #[must_use]
    pub fn new(model: DeviceModel, first: &Properties) -> Self {
        let mut shown = Properties::new();
        for (name, property) in &model.properties {
            if property.access.is_shown() {
                shown.insert(name.clone(), first_of(property));
            }
        }
        shown.extend(
            first
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        Self {
            model,
            shown,
            fence: DeviceFence::default(),
        }
    }

    /// What it shows.
    #[must_use]
    pub fn shown(&self) -> &Properties {
        &self.shown
    }

    /// Something happens around it: it shows this from here on.
    pub fn sense(&mut self, sensed: &Properties) {
        for (name, value) in sensed {
            let property = self.model.properties.get(name);
            let is_shown = property.is_some_and(|property| property.access.is_shown());
            if is_shown || self.model.properties.is_empty() {
                self.shown.insert(name.clone(), value.clone());
            }
        }
    }

    /// Takes a command, as a real device does: whoever sent it, however often, however late. `owner` is
    /// who it is and in which epoch its sender sent it, where the command says so; a device obeys only
    /// the newest.
    pub fn carry_out(
        &mut self,
        owner: Option<(&EventId, u64)>,
        command: &Properties,
    ) -> CarriedOut {
        if let Some((id, epoch)) = owner
            && !self.fence.admits(&id.source, epoch)
        {
            return CarriedOut::Fenced;
        }
        let before = self.shown.clone();
        let mut counts = false;
        for (name, value) in command {
            counts |= self.set(name, value);
        }
        match &self.model.evidence {
            Some(Evidence::Counter(counter)) if counts => {
                let counted = self
                    .shown
                    .get(counter)
                    .and_then(Value::number)
                    .unwrap_or(0.0);
                self.shown
                    .insert(counter.clone(), Value::Float(counted + 1.0));
            }
            Some(Evidence::LastCommand(last)) if counts => {
                if let Some((id, _)) = owner {
                    let id = Value::Text(alloc::format!("{id}"));
                    self.shown.insert(last.clone(), id);
                }
            }
            Some(Evidence::Counter(_) | Evidence::LastCommand(_)) | None => {}
        }
        if counts || self.shown != before {
            CarriedOut::Changed
        } else {
            CarriedOut::Unchanged
        }
    }

    /// Does what one property of a command says. Returns whether that is something that repeats: a dose,
    /// a sound.
    fn set(&mut self, name: &str, value: &Value) -> bool {
        let Some(property) = self.model.properties.get(name) else {
            // Of a device without a model everything is a property that it keeps.
            if self.model.properties.is_empty() {
                self.shown.insert(name.into(), value.clone());
            }
            return false;
        };
        if !property.access.is_taken() {
            return false;
        }
        if let Some(relative) = property.relative.clone() {
            self.step(&relative, value);
            return false;
        }
        if property.domain.takes(value).is_err() {
            return false;
        }
        if property.access.is_shown() {
            self.shown.insert(name.into(), value.clone());
            return false;
        }
        true
    }

    fn step(&mut self, relative: &Relative, value: &Value) {
        let target: &String = match relative {
            Relative::Adds(target) | Relative::Toggles(target) => target,
        };
        let (Some(property), Some(from)) =
            (self.model.properties.get(target), self.shown.get(target))
        else {
            return;
        };
        let to = match (relative, &property.domain) {
            (Relative::Adds(_), Domain::Number { min, max }) => from
                .number()
                .zip(value.number())
                .map(|(from, step)| Value::Float((from + step).clamp(*min, *max))),
            (Relative::Toggles(_), Domain::Choice(words)) => words
                .iter()
                .map(|word| Value::Text(word.clone()))
                .find(|word| word != from),
            (Relative::Toggles(_), Domain::Truth) => Some(Value::Bool(*from != Value::Bool(true))),
            (Relative::Adds(_) | Relative::Toggles(_), _) => None,
        };
        if let Some(to) = to {
            self.shown.insert(target.clone(), to);
        }
    }
}

fn first_of(property: &Property) -> Value {
    match &property.domain {
        Domain::Any => Value::Text(String::new()),
        Domain::Truth => Value::Bool(false),
        Domain::Choice(words) => Value::Text(words.first().cloned().unwrap_or_default()),
        Domain::Number { min, .. } => Value::Float(*min),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Position;
    use super::*;
    use crate::ids::EntityId;
    use crate::model::built_in;

    fn properties<const N: usize>(all: [(&str, Value); N]) -> Properties {
        all.into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect()
    }

    fn text(word: &str) -> Value {
        Value::Text(word.into())
    }

    fn device(model: &str) -> SimulatedDevice {
        let described = built_in(model).unwrap();
        SimulatedDevice::new(described.model, &described.safe_state.unwrap_or_default())
    }

    fn id(index: u64) -> EventId {
        EventId {
            source: EntityId::new("lights").unwrap(),
            position: Position::new(1, index, 0),
        }
    }

    #[test]
    fn a_light_shows_what_it_is_told_and_nothing_that_it_has_not() {
        let mut light = device("light");
        let on = properties([("state", text("ON")), ("brightness", Value::Integer(9))]);
        assert_eq!(light.carry_out(None, &on), CarriedOut::Changed);
        assert_eq!(light.carry_out(None, &on), CarriedOut::Unchanged);
        let nonsense = properties([("state", text("TOGGEL")), ("dose", Value::Integer(2))]);
        assert_eq!(light.carry_out(None, &nonsense), CarriedOut::Unchanged);
        assert_eq!(light.shown().get("state"), Some(&text("ON")));
        assert_eq!(light.shown().get("brightness"), Some(&Value::Integer(9)));
    }

    #[test]
    fn an_owner_that_was_replaced_is_not_obeyed() {
        let mut light = device("light");
        let on = properties([("state", text("ON"))]);
        let off = properties([("state", text("OFF"))]);
        let did = [(1, 4, &on), (2, 5, &off), (3, 4, &on), (1, 5, &on)]
            .map(|(index, epoch, command)| light.carry_out(Some((&id(index), epoch)), command));
        assert_eq!(
            did,
            [
                CarriedOut::Changed,
                CarriedOut::Changed,
                CarriedOut::Fenced,
                // The same command may be shown again in a later epoch.
                CarriedOut::Changed,
            ]
        );
    }
}
