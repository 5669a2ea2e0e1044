//! The device model: what an appliance shows, what it takes, and what repeating that does (paper,
//! 4.2.4, the functional specification of devices).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::infrastructure::ActuationClass;
use super::value::Value;
use crate::ids::EntityId;

/// What an appliance is: a built-in model or one of the topology.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceModel {
    /// Its name, such as "light"; empty if none was given.
    pub name: String,
    /// What it shows and takes, by the name that stands in its messages.
    pub properties: BTreeMap<String, Property>,
    /// The class of commands to properties that are not listed.
    pub other: ActuationClass,
    /// How it shows that a command which must not be repeated was carried out; `None` if it cannot.
    pub evidence: Option<Evidence>,
    /// Whether it answers when asked what it shows.
    pub answers: bool,
}

/// One property of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Property {
    /// The capability it stands for towards others, such as "on-off" or "brightness".
    pub capability: String,
    /// Whether it is shown, taken, or both.
    pub access: Access,
    /// Which values it has.
    pub domain: Domain,
    /// What repeating a command to it does.
    pub class: ActuationClass,
    /// For a command that is relative: what it changes, and how.
    pub relative: Option<Relative>,
    /// What it returns to when the validity of its last command ends.
    pub reverts: Option<Reversion>,
    /// Whether each event counts by itself, as doses do, and none overrides another.
    pub accumulates: bool,
}

/// Which way a property goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// The device shows it.
    Shown,
    /// The device takes it.
    Taken,
    /// Both.
    Both,
}

/// Which values a property has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Domain {
    /// Any.
    #[default]
    Any,
    /// True or false.
    Truth,
    /// One of these words.
    Choice(Vec<String>),
    /// A number within these bounds, both included.
    Number {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
}

/// How a relative command changes a property.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relative {
    /// Its value is added to that of the named property.
    Adds(String),
    /// The named property takes the other of its two values, whatever the command's own value.
    Toggles(String),
}

/// What a property returns to when the validity of its last command ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reversion {
    /// The value.
    pub to: Value,
    /// How long after the end of the validity.
    pub after: Duration,
}

/// How a device shows that a command was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The named property counts the commands carried out.
    Counter(String),
    /// The named property shows the identity of the last command carried out.
    LastCommand(String),
}

/// By which signals an appliance is known to be there (paper, 4.2.2). Each is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// It speaks at least this often.
    pub silent_after: Option<Duration>,
    /// It answers when it is asked.
    pub probe: Option<Probe>,
    /// A topic on which it, or somebody for it, says whether it is there.
    pub availability: Option<String>,
    /// A topic on which its bridge says whether the bridge is there.
    pub bridge: Option<String>,
    /// How long a bad signal must last before it counts.
    pub debounce: Duration,
}

/// Asking an appliance whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// How often.
    pub every: Duration,
    /// How long the answer may take.
    pub within: Duration,
}

/// Who may take the place of an appliance that failed (paper, 4.2.4).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Substitution {
    /// Who may.
    pub with: Candidates,
    /// The capabilities that the application uses of it; `None` is all that it has.
    pub needs: Option<BTreeSet<String>>,
    /// The spaces in which a substitute may be, besides its own.
    pub spaces: BTreeSet<EntityId>,
    /// By capability, how far a number may be off where the substitute's range is smaller.
    pub tolerance: BTreeMap<String, f64>,
    /// What becomes of the substitute when it is back.
    pub on_return: OnReturn,
    /// What it is for, such as "main-light". Where given, a substitute must be for the same.
    pub purpose: Option<String>,
    /// Whether it is there only to take the place of others.
    pub spare: bool,
}

/// Who may take the place of an appliance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Candidates {
    /// Whoever provides what is needed.
    #[default]
    Auto,
    /// Only these, the first that can.
    Only(Vec<EntityId>),
    /// Nobody.
    Nobody,
}

/// What becomes of a substitute when the original is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnReturn {
    /// It stays; the original is a spare from now on.
    #[default]
    Stay,
    /// It gives the place back.
    GiveBack,
}

impl Access {
    /// Whether commands may name it.
    #[must_use]
    pub fn is_taken(self) -> bool {
        match self {
            Self::Taken | Self::Both => true,
            Self::Shown => false,
        }
    }

    /// Whether reports may name it.
    #[must_use]
    pub fn is_shown(self) -> bool {
        match self {
            Self::Shown | Self::Both => true,
            Self::Taken => false,
        }
    }
}

impl DeviceModel {
    /// A device of which nothing is known but what repeating its commands does.
    #[must_use]
    pub fn unknown(other: ActuationClass) -> Self {
        Self {
            other,
            ..Self::default()
        }
    }

    /// What repeating a command to this property does.
    #[must_use]
    pub fn class_of(&self, property: &str) -> ActuationClass {
        self.properties
            .get(property)
            .map_or(self.other, |property| property.class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_the_model_does_not_list_is_of_the_class_given_for_others() {
        let model = DeviceModel::unknown(ActuationClass::Keyed);
        assert_eq!(model.class_of("dose"), ActuationClass::Keyed);
        assert_eq!(
            DeviceModel::default().class_of("dose"),
            ActuationClass::Irreversible
        );
    }
}
