//! The topology as the drill needs it: another store or broker, and times shortened to its speed.

use std::fmt;
use std::str::FromStr;

use toml::{Table, Value};

/// The most that an evening can be shortened: beyond it, repairs take longer than the gaps between
/// events, and the house would rightly do something else.
pub const SPEED_MAX: f64 = 20.0;

/// Where the state is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The store that the manager serves.
    Embedded,
    /// A Redis server that is started for the house.
    Redis,
}

/// What carries the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broker {
    /// The broker inside the same binary.
    Embedded,
    /// A Mosquitto that is started for the house.
    Mosquitto,
}

/// What the drill changes in a topology.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptation {
    /// Where the state is saved.
    pub store: Store,
    /// What carries the events.
    pub broker: Broker,
    /// By what all spans of the evening are divided; above 0, at most [`SPEED_MAX`].
    pub speed: f64,
}

/// A name that stands for no store or broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {name:?}; there are {known}")]
pub struct UnknownChoice {
    what: &'static str,
    name: String,
    known: &'static str,
}

/// Why a topology cannot be adapted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topology cannot be adapted: {0}")]
pub struct AdaptationError(String);

impl Adaptation {
    /// Applies the changes to a topology.
    ///
    /// # Errors
    /// `text` is not TOML, or its tables are not where a topology has them.
    pub fn apply(&self, text: &str) -> Result<String, AdaptationError> {
        let mut topology: Table = text
            .parse()
            .map_err(|fault| AdaptationError(format!("{fault}")))?;
        topology.insert("store".into(), self.store.table().into());
        topology.insert("broker".into(), self.broker.table().into());
        let elements = topology
            .get_mut("elements")
            .and_then(Value::as_table_mut)
            .ok_or_else(|| AdaptationError("it has no [elements]".into()))?;
        for (_, element) in elements.iter_mut() {
            if let Some(state) = element.get_mut("state").and_then(Value::as_table_mut) {
                self.shorten(state);
            }
        }
        toml::to_string(&topology).map_err(|fault| AdaptationError(format!("{fault}")))
    }

    /// Divides every span of a state, which is known by its unit.
    fn shorten(&self, state: &mut Table) {
        for (_, value) in state.iter_mut().filter(|(field, _)| field.ends_with("_ms")) {
            if let Some(span) = value.as_integer() {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_precision_loss,
                    reason = "a span of the house is some seconds"
                )]
                let shortened = (span as f64 / self.speed).round() as i64;
                *value = Value::Integer(shortened);
            }
        }
    }
}

impl Store {
    fn table(self) -> Table {
        match self {
            Self::Embedded => kind("embedded"),
            Self::Redis => {
                let mut table = kind("redis");
                table.insert("managed".into(), true.into());
                table
            }
        }
    }
}

impl Broker {
    fn table(self) -> Table {
        kind(&self.to_string())
    }
}

fn kind(name: &str) -> Table {
    Table::from_iter([("kind".to_owned(), Value::from(name))])
}

impl FromStr for Store {
    type Err = UnknownChoice;

    fn from_str(name: &str) -> Result<Self, UnknownChoice> {
        match name {
            "embedded" => Ok(Self::Embedded),
            "redis" => Ok(Self::Redis),
            _ => Err(UnknownChoice {
                what: "store",
                name: name.to_owned(),
                known: "embedded and redis",
            }),
        }
    }
}

impl FromStr for Broker {
    type Err = UnknownChoice;

    fn from_str(name: &str) -> Result<Self, UnknownChoice> {
        match name {
            "embedded" => Ok(Self::Embedded),
            "mosquitto" => Ok(Self::Mosquitto),
            _ => Err(UnknownChoice {
                what: "broker",
                name: name.to_owned(),
                known: "embedded and mosquitto",
            }),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
        })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Mosquitto => "mosquitto",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_topology_gets_the_store_the_broker_and_shorter_spans_and_keeps_the_rest() {
        let shipped: Table = include_str!("../../smart-home.toml").parse().unwrap();
        let adapted = Adaptation {
            store: Store::Redis,
            broker: Broker::Mosquitto,
            speed: 4.0,
        };
        let adapted: Table = adapted
            .apply(include_str!("../../smart-home.toml"))
            .unwrap()
            .parse()
            .unwrap();

        let mut expected = shipped.clone();
        expected["store"] = toml::toml! { kind = "redis"
        managed = true }
        .into();
        expected["broker"] = toml::toml! { kind = "mosquitto" }.into();
        for (element, field, span) in [
            ("orchestrator", "hold_ms", 1_250),
            ("fibaro-adapter", "presence_ms", 2_000),
            ("sound-player", "alarm_ms", 750),
            ("awox-actuate", "glow_ms", 500),
        ] {
            expected["elements"][element]["state"][field] = Value::Integer(span);
        }
        assert_eq!(adapted, expected);
    }

    #[test]
    fn what_is_not_a_topology_is_refused() {
        let adaptation = Adaptation {
            store: Store::Embedded,
            broker: Broker::Embedded,
            speed: 1.0,
        };
        assert!(adaptation.apply("[elements").is_err());
        assert_eq!(
            adaptation.apply("a = 1"),
            Err(AdaptationError("it has no [elements]".into()))
        );
    }

    #[test]
    fn a_choice_is_known_by_its_name_or_refused_with_the_names_there_are() {
        assert_eq!("redis".parse(), Ok(Store::Redis));
        assert_eq!("mosquitto".parse(), Ok(Broker::Mosquitto));
        let fault = "mongodb".parse::<Store>().unwrap_err().to_string();
        assert_eq!(
            fault,
            "there is no store \"mongodb\"; there are embedded and redis"
        );
    }
}
