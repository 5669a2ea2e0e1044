//! What an appliance can do, and whether another can do as much: functional equivalence (paper,
//! 4.2.4, footnote 2).

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::model::{ActuationClass, Appliance, Domain, Property};

/// What an appliance can do, by the name of the capability.
pub type Capabilities = BTreeMap<String, Capability>;

/// Capabilities whose numbers are a share of the device's own full range: 127 of 254 and 50 of 100
/// are the same light. All other numbers are amounts, with one unit everywhere.
const SHARES: [&str; 9] = [
    "brightness",
    "dim",
    "fan-speed",
    "level",
    "position",
    "saturation",
    "speed",
    "tilt",
    "volume",
];

/// One thing that an appliance can do.
#[derive(Clone, Debug, PartialEq)]
pub struct Capability {
    /// Whether commands may name it.
    pub taken: bool,
    /// Whether reports name it.
    pub shown: bool,
    /// Its values; `None` where only its name is known, which stands for any value.
    pub domain: Option<Domain>,
    /// What repeating a command to it does.
    pub class: ActuationClass,
}

/// Why one appliance cannot do what another could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It does not have the capability.
    Missing(String),
    /// It has it, the other way: it only shows what is to be set, or the reverse.
    Access(String),
    /// It has it, with too few values.
    Values(String),
    /// Nothing is asked of it, which everything could do: nobody knows what is needed.
    Nothing,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "it has no {name}"),
            Self::Access(name) => write!(f, "its {name} goes the other way"),
            Self::Values(name) => write!(f, "its {name} has too few values"),
            Self::Nothing => f.write_str("nobody knows what is needed"),
        }
    }
}

/// All that an appliance can do: the capabilities of its model, and its functions where the model does
/// not say more.
#[must_use]
pub fn capabilities(appliance: &Appliance) -> Capabilities {
    let mut all = Capabilities::new();
    // A relative command is another way to say what an absolute property stands for.
    let absolute = |property: &&Property| property.relative.is_none();
    let properties = appliance.model.properties.values().filter(absolute);
    for property in properties.filter(|property| !property.capability.is_empty()) {
        let taken = property.access.is_taken();
        let capability = Capability {
            taken,
            shown: property.access.is_shown(),
            domain: Some(property.domain.clone()),
            class: property.class,
        };
        match all.entry(property.capability.clone()) {
            Entry::Vacant(place) => {
                place.insert(capability);
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.shown |= capability.shown;
                // Where one property takes and another only shows, what is taken says which values.
                if taken && !known.taken {
                    known.taken = true;
                    known.domain = capability.domain;
                    known.class = capability.class;
                }
            }
        }
    }
    for function in &appliance.functions {
        all.entry(function.clone()).or_insert(Capability {
            taken: appliance.role.acts(),
            shown: appliance.role.senses(),
            domain: None,
            class: appliance.class,
        });
    }
    all
}

/// What the application uses of an appliance; all that it has unless the topology says.
#[must_use]
pub fn needed(appliance: &Appliance) -> Capabilities {
    let all = capabilities(appliance);
    let Some(needs) = &appliance.substitution.needs else {
        return all;
    };
    let by_name = |name: &String| {
        let unknown = Capability {
            taken: appliance.role.acts(),
            shown: false,
            domain: None,
            class: appliance.class,
        };
        (name.clone(), all.get(name).cloned().unwrap_or(unknown))
    };
    needs.iter().map(by_name).collect()
}

/// Whether what is offered contains what is needed. Nothing provides for an empty need: a device of
/// which nothing is known would otherwise be replaced by anything.
#[must_use]
pub fn provides(
    offered: &Capabilities,
    needed: &Capabilities,
    tolerance: &BTreeMap<String, f64>,
) -> bool {
    missing(offered, needed, tolerance).is_empty()
}

/// What is needed and not offered. `tolerance` says by capability how far a bound may be off.
#[must_use]
pub fn missing(
    offered: &Capabilities,
    needed: &Capabilities,
    tolerance: &BTreeMap<String, f64>,
) -> Vec<Lack> {
    if needed.is_empty() {
        return alloc::vec![Lack::Nothing];
    }
    let lack = |(name, needed): (&String, &Capability)| {
        let Some(offered) = offered.get(name) else {
            return Some(Lack::Missing(name.clone()));
        };
        if (needed.taken && !offered.taken) || (needed.shown && !offered.shown && !needed.taken) {
            return Some(Lack::Access(name.clone()));
        }
        let tolerance = tolerance.get(name).copied().unwrap_or(0.0);
        let fits = match (&offered.domain, &needed.domain) {
            (None, _) | (_, None) => true,
            (Some(offered), Some(needed)) => contains(name, offered, needed, tolerance),
        };
        (!fits).then(|| Lack::Values(name.clone()))
    };
    needed.iter().filter_map(lack).collect()
}

/// Whether a number of this capability is a share of the full range.
pub(super) fn is_share(capability: &str) -> bool {
    SHARES.contains(&capability)
}

/// Whether two words mean the same to devices.
pub(super) fn is_same_word(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// Whether words say on or off, as devices say them.
pub(super) fn truth_of(word: &str) -> Option<bool> {
    const TRUE: [&str; 5] = ["on", "true", "yes", "open", "1"];
    const FALSE: [&str; 6] = ["off", "false", "no", "close", "closed", "0"];
    let is_among = |words: &[&str]| words.iter().any(|known| is_same_word(known, word));
    match (is_among(&TRUE), is_among(&FALSE)) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

fn contains(capability: &str, offered: &Domain, needed: &Domain, tolerance: f64) -> bool {
    match (offered, needed) {
        (Domain::Any, _) | (Domain::Truth, Domain::Truth) => true,
        (Domain::Choice(offered), Domain::Choice(needed)) => needed
            .iter()
            .all(|word| offered.iter().any(|known| is_same_word(known, word))),
        (
            Domain::Number { min, max },
            Domain::Number {
                min: low,
                max: high,
            },
        ) => is_share(capability) || (*min <= low + tolerance && *max >= high - tolerance),
        (Domain::Truth, Domain::Choice(words)) => words.iter().all(|word| truth_of(word).is_some()),
        (Domain::Choice(words), Domain::Truth) => [true, false]
            .iter()
            .all(|truth| words.iter().any(|word| truth_of(word) == Some(*truth))),
        (Domain::Truth | Domain::Choice(_) | Domain::Number { .. }, Domain::Any)
        | (Domain::Truth | Domain::Choice(_), Domain::Number { .. })
        | (Domain::Number { .. }, Domain::Truth | Domain::Choice(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn of(name: &str, domain: impl Into<Option<Domain>>) -> Capabilities {
        let capability = Capability {
            taken: true,
            shown: true,
            domain: domain.into(),
            class: ActuationClass::Set,
        };
        [(name.to_string(), capability)].into()
    }

    fn number(min: f64, max: f64) -> Domain {
        Domain::Number { min, max }
    }

    fn words(words: &[&str]) -> Domain {
        Domain::Choice(words.iter().map(ToString::to_string).collect())
    }

    fn lacks(offered: &Capabilities, needed: &Capabilities, tolerance: f64) -> Vec<Lack> {
        let name = needed.keys().next().cloned().unwrap_or_default();
        missing(offered, needed, &[(name, tolerance)].into())
    }

    #[test]
    fn nothing_provides_for_a_device_of_which_nothing_is_known() {
        let lamp = of("on-off", words(&["ON", "OFF"]));
        assert_eq!(lacks(&lamp, &Capabilities::new(), 0.0), [Lack::Nothing]);
        assert!(!provides(&lamp, &Capabilities::new(), &BTreeMap::new()));
        assert!(!provides(&Capabilities::new(), &lamp, &BTreeMap::new()));
    }

    #[test]
    fn a_bulb_that_is_three_mired_short_provides_only_within_a_tolerance() {
        let name = "color-temperature";
        let (lamp, go) = (
            of(name, number(153.0, 500.0)),
            of(name, number(150.0, 500.0)),
        );
        assert_eq!(lacks(&go, &lamp, 0.0), []);
        assert_eq!(lacks(&lamp, &go, 0.0), [Lack::Values(name.into())]);
        assert_eq!(lacks(&lamp, &go, 20.0), []);
    }

    #[test]
    fn a_share_of_the_full_range_is_the_same_on_every_scale_and_an_amount_is_not() {
        let cases = [
            ("brightness", vec![]),
            ("setpoint", vec![Lack::Values("setpoint".into())]),
        ];
        for (name, expected) in cases {
            let (percent, byte) = (of(name, number(0.0, 100.0)), of(name, number(0.0, 254.0)));
            assert_eq!(lacks(&percent, &byte, 0.0), expected, "{name}");
        }
    }

    #[test]
    fn words_are_compared_as_devices_say_them() {
        let name = "on-off";
        let (upper, lower) = (
            of(name, words(&["ON", "OFF"])),
            of(name, words(&["on", "off", "toggle"])),
        );
        assert_eq!(lacks(&lower, &upper, 0.0), []);
        assert_eq!(lacks(&upper, &lower, 0.0), [Lack::Values(name.into())]);
        let truth = of(name, Domain::Truth);
        assert_eq!(lacks(&truth, &upper, 0.0), []);
        assert_eq!(lacks(&upper, &truth, 0.0), []);
    }

    #[test]
    fn what_is_only_named_is_of_any_value() {
        let name = "on-off";
        let (named, exact) = (of(name, None), of(name, words(&["ON", "OFF"])));
        assert_eq!(lacks(&named, &exact, 0.0), []);
        assert_eq!(lacks(&exact, &named, 0.0), []);
        assert_eq!(
            lacks(&of("sound", None), &named, 0.0),
            [Lack::Missing(name.into())]
        );
    }

    #[test]
    fn a_device_that_only_shows_does_not_provide_for_one_that_is_set() {
        let mut shows = of("setpoint", number(5.0, 30.0));
        let takes = shows.clone();
        shows.get_mut("setpoint").unwrap().taken = false;
        assert_eq!(
            lacks(&shows, &takes, 0.0),
            [Lack::Access("setpoint".into())]
        );
        assert_eq!(lacks(&takes, &shows, 0.0), []);
    }
}
