//! Names of things: one namespace over servers, channels, appliances, spaces, elements, bindings.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most characters an id may have.
pub const ID_LENGTH_MAX: usize = 63;

/// The name of an entity or binding: `[a-z0-9][a-z0-9._-]{0,62}`, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(Arc<str>);

/// A name that cannot be an id, with what is wrong about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// It has no characters.
    #[error("an id must not be empty")]
    Empty,
    /// It is longer than [`ID_LENGTH_MAX`].
    #[error("an id has at most {ID_LENGTH_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// It starts with something other than a lower-case letter or digit.
    #[error("an id starts with a letter a-z or a digit, not with {0:?}")]
    Start(char),
    /// It holds a character outside the allowed set.
    #[error("an id holds a-z, 0-9, '.', '_' and '-' only, not {0:?}")]
    Character(char),
}

impl EntityId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// The first rule that the name breaks.
    pub fn new(name: &str) -> Result<Self, InvalidId> {
        let first = name.chars().next().ok_or(InvalidId::Empty)?;
        let length = name.chars().count();
        if length > ID_LENGTH_MAX {
            return Err(InvalidId::TooLong(length));
        }
        if !(first.is_ascii_lowercase() || first.is_ascii_digit()) {
            return Err(InvalidId::Start(first));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        match name.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(InvalidId::Character(c)),
            None => Ok(Self(Arc::from(name))),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for EntityId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::str::FromStr for EntityId {
    type Err = InvalidId;
    fn from_str(name: &str) -> Result<Self, InvalidId> {
        Self::new(name)
    }
}

impl Serialize for EntityId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EntityId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).map_err(|fault| serde::de::Error::custom(fault.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_or_refused_with_the_rule_it_breaks() {
        let long = "a".repeat(64);
        let cases = [
            ("lamp", Ok("lamp")),
            ("0x0017.a_b-c", Ok("0x0017.a_b-c")),
            ("", Err(InvalidId::Empty)),
            (long.as_str(), Err(InvalidId::TooLong(64))),
            ("-lamp", Err(InvalidId::Start('-'))),
            ("../lamp", Err(InvalidId::Start('.'))),
            ("lamp/x", Err(InvalidId::Character('/'))),
            ("lAmp", Err(InvalidId::Character('A'))),
        ];
        for (name, expected) in cases {
            assert_eq!(
                EntityId::new(name).as_ref().map(EntityId::as_str),
                expected.as_ref().copied(),
                "{name}"
            );
        }
    }
}
