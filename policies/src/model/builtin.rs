//! The device models that are there without being written, with the properties and words of
//! zigbee2mqtt where it has them (paper, 4.2.4).
//!
//! A model is the most that a device of its kind has: an appliance says by its `functions` which of
//! it is there. Classes are those of what a command does when it is repeated: a lock is set to a
//! state like a lamp, and what must not last in it is the validity of the command, at the end of
//! which it reverts; a dose, a sheet of paper and a sound cannot be taken back.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::time::Duration;

use super::device::{Access, DeviceModel, Domain, Evidence, Property, Relative, Reversion};
use super::infrastructure::ActuationClass;
use super::value::Value;

/// The names of all built-in models, in the order of the alphabet.
pub const BUILT_IN: [&str; 8] = [
    "light",
    "lock",
    "printer",
    "pump",
    "siren",
    "speaker",
    "switch",
    "thermostat",
];

/// A device model and the command that leaves such a device harmless.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Described {
    /// What it shows and takes.
    pub model: DeviceModel,
    /// The command that leaves it harmless; `None` if no command does.
    pub safe_state: Option<BTreeMap<String, Value>>,
}

/// A built-in model by its name; `None` if there is none of that name.
#[must_use]
pub fn built_in(name: &str) -> Option<Described> {
    let (sketch, safe) = match name {
        "light" => (light(), Some(("state", word("OFF")))),
        "lock" => (lock(), Some(("state", word("LOCK")))),
        "printer" => (printer(), None),
        "pump" => (pump(), None),
        "siren" => (siren(), Some(("alarm", word("OFF")))),
        "speaker" => (speaker(), None),
        "switch" => (switch(), Some(("state", word("OFF")))),
        "thermostat" => (
            thermostat(),
            Some(("occupied_heating_setpoint", Value::Integer(16))),
        ),
        _ => return None,
    };
    let safe_state = safe.map(|(property, value)| [(property.to_string(), value)].into());
    let model = DeviceModel {
        name: name.to_string(),
        ..sketch
    };
    Some(Described { model, safe_state })
}

/// On and off, brightness, colour temperature in mired and colour, absolute and in steps. An effect
/// blinks at every command.
fn light() -> DeviceModel {
    model(
        ActuationClass::Set,
        true,
        [
            ("state", both("on-off", on_or_off())),
            ("brightness", both("brightness", number(0.0, 254.0))),
            ("brightness_step", step("brightness", "brightness", 254.0)),
            ("color_temp", both("color_temp", number(153.0, 500.0))),
            ("color_temp_step", step("color_temp", "color_temp", 347.0)),
            ("color", both("color", Domain::Any)),
            (
                "effect",
                taken("effect", Domain::Any, ActuationClass::Irreversible),
            ),
        ],
    )
}

/// A relay or plug.
fn switch() -> DeviceModel {
    let state = both("on-off", on_or_off());
    model(ActuationClass::Set, true, [("state", state)])
}

/// A door lock: an `UNLOCK` holds as long as it is valid, then the door is locked again. A command
/// that the model does not know is not repeated.
fn lock() -> DeviceModel {
    let state = Property {
        reverts: Some(Reversion {
            to: word("LOCK"),
            after: Duration::ZERO,
        }),
        ..both("lock", words(&["LOCK", "UNLOCK"]))
    };
    let lock_state = words(&["locked", "unlocked", "not_fully_locked"]);
    model(
        ActuationClass::Irreversible,
        true,
        [
            ("state", state),
            ("lock_state", shown("lock-state", lock_state)),
        ],
    )
}

/// A radiator valve or room thermostat, in degrees Celsius.
fn thermostat() -> DeviceModel {
    model(
        ActuationClass::Set,
        true,
        [
            (
                "occupied_heating_setpoint",
                both("setpoint", number(5.0, 30.0)),
            ),
            (
                "system_mode",
                both("heating-mode", words(&["off", "heat", "auto"])),
            ),
            (
                "local_temperature",
                shown("temperature", number(-50.0, 100.0)),
            ),
            (
                "running_state",
                shown("running-state", words(&["idle", "heat"])),
            ),
        ],
    )
}

/// A loudspeaker: every `play` sounds, the volume in per cent is a state. It answers nobody.
fn speaker() -> DeviceModel {
    let play = Property {
        accumulates: true,
        ..taken("sound", Domain::Any, ActuationClass::Irreversible)
    };
    model(
        ActuationClass::Irreversible,
        false,
        [
            ("play", play),
            ("volume", both("volume", number(0.0, 100.0))),
        ],
    )
}

/// A siren: better twice than never.
fn siren() -> DeviceModel {
    let alarm = Property {
        class: ActuationClass::Alarm,
        ..both("alarm", on_or_off())
    };
    model(ActuationClass::Alarm, true, [("alarm", alarm)])
}

/// A pump that gives doses and counts them: by the count a dose in flight is known to be given.
fn pump() -> DeviceModel {
    let dose = Property {
        accumulates: true,
        ..taken("dose", number(0.0, 1e6), ActuationClass::Irreversible)
    };
    DeviceModel {
        evidence: Some(Evidence::Counter("doses".to_string())),
        ..model(
            ActuationClass::Irreversible,
            true,
            [
                ("dose", dose),
                ("doses", shown("dose", number(0.0, COUNT_MAX))),
            ],
        )
    }
}

/// A printer that shows the identity of the last job it printed.
fn printer() -> DeviceModel {
    let print = Property {
        accumulates: true,
        ..taken("print", Domain::Any, ActuationClass::Irreversible)
    };
    DeviceModel {
        evidence: Some(Evidence::LastCommand("job".to_string())),
        ..model(
            ActuationClass::Irreversible,
            true,
            [("print", print), ("job", shown("print", Domain::Any))],
        )
    }
}

/// The greatest count that a number of a report still tells from the next one.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

fn model<const N: usize>(
    other: ActuationClass,
    answers: bool,
    properties: [(&str, Property); N],
) -> DeviceModel {
    let named = properties.map(|(name, property)| (name.to_string(), property));
    DeviceModel {
        name: String::new(),
        properties: named.into(),
        other,
        evidence: None,
        answers,
    }
}

fn property(capability: &str, access: Access, domain: Domain, class: ActuationClass) -> Property {
    Property {
        capability: capability.to_string(),
        access,
        domain,
        class,
        relative: None,
        reverts: None,
        accumulates: false,
    }
}

fn both(capability: &str, domain: Domain) -> Property {
    property(capability, Access::Both, domain, ActuationClass::Set)
}

fn shown(capability: &str, domain: Domain) -> Property {
    property(capability, Access::Shown, domain, ActuationClass::Set)
}

fn taken(capability: &str, domain: Domain, class: ActuationClass) -> Property {
    property(capability, Access::Taken, domain, class)
}

/// A command that adds to a number, at most the whole of its range.
fn step(capability: &str, of: &str, most: f64) -> Property {
    Property {
        relative: Some(Relative::Adds(of.to_string())),
        ..taken(capability, number(-most, most), ActuationClass::Delta)
    }
}

fn on_or_off() -> Domain {
    words(&["ON", "OFF"])
}

fn words(words: &[&str]) -> Domain {
    Domain::Choice(words.iter().map(ToString::to_string).collect())
}

fn number(min: f64, max: f64) -> Domain {
    Domain::Number { min, max }
}

fn word(word: &str) -> Value {
    Value::Text(word.to_string())
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn every_built_in_model_is_there_and_none_contradicts_itself() {
        for name in BUILT_IN {
            let described = built_in(name).unwrap();
            assert_eq!(described.model.name, name);
            assert_eq!(described.model.flaws(), Vec::new(), "{name}");
            let safe = described.safe_state.unwrap_or_default();
            assert_eq!(described.model.misfits(&safe), Vec::new(), "{name}");
        }
        assert_eq!(built_in("toaster"), None);
    }

    #[test]
    fn the_classes_are_those_of_what_repeating_does() {
        use ActuationClass::{Alarm, Delta, Irreversible, Set};
        let cases = [
            ("light", "state", Set),
            ("light", "brightness_step", Delta),
            ("light", "effect", Irreversible),
            ("light", "power_on_behavior", Set),
            ("switch", "state", Set),
            ("lock", "state", Set),
            ("lock", "pin_code", Irreversible),
            ("thermostat", "occupied_heating_setpoint", Set),
            ("speaker", "play", Irreversible),
            ("speaker", "volume", Set),
            ("siren", "alarm", Alarm),
            ("pump", "dose", Irreversible),
            ("printer", "print", Irreversible),
        ];
        for (name, property, class) in cases {
            let model = built_in(name).unwrap().model;
            assert_eq!(model.class_of(property), class, "{name} {property}");
        }
    }
}
