//! The identity of an event: where in its source's log it came from.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;

/// A place in an element's output: the log position of the input that caused it, and which output
/// of that input it was.
///
/// It comes from the log, not from the process, so an output that replay makes again is recognised
/// as the same. Ordered by lineage, then index, then `k`. The default is "before everything".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Rises only when part of the log was lost, so that its indices may mean other inputs.
    #[serde(rename = "l")]
    pub lineage: u32,
    /// The index of the causing input in its element's log; the first is 1.
    #[serde(rename = "i")]
    pub index: u64,
    /// Counts the outputs of one input; the first is 0.
    pub k: u32,
}

impl Position {
    /// The place of output `k` of input `index`.
    #[must_use]
    pub fn new(lineage: u32, index: u64, k: u32) -> Self {
        Self { lineage, index, k }
    }
}

/// The identity of an event, equal in every run and every copy of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId {
    /// The element or appliance it came from.
    #[serde(rename = "s")]
    pub source: EntityId,
    /// Where in the source's history.
    #[serde(rename = "p")]
    pub position: Position,
}

/// Text that is not the identity of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the identity of an event is its source, a slash, and three numbers with dots between them"
)]
pub struct NoEventId;

impl core::str::FromStr for EventId {
    type Err = NoEventId;

    fn from_str(text: &str) -> Result<Self, NoEventId> {
        let (source, position) = text.rsplit_once('/').ok_or(NoEventId)?;
        let mut numbers = position.split('.');
        let mut next = || numbers.next().ok_or(NoEventId);
        let (lineage, index, k) = (next()?, next()?, next()?);
        if numbers.next().is_some() {
            return Err(NoEventId);
        }
        let position = Position::new(
            lineage.parse().map_err(|_| NoEventId)?,
            index.parse().map_err(|_| NoEventId)?,
            k.parse().map_err(|_| NoEventId)?,
        );
        Ok(Self {
            source: EntityId::new(source).map_err(|_| NoEventId)?,
            position,
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { lineage, index, k } = self.position;
        write!(f, "{}/{lineage}.{index}.{k}", self.source)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn an_identity_survives_its_text_and_nothing_else_is_one() {
        let id = EventId {
            source: EntityId::new("hall.lights").unwrap(),
            position: Position::new(2, 40, 1),
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            "lights",
            "lights/1.2",
            "lights/1.2.3.4",
            "lights/a.2.3",
            "/1.2.3",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(NoEventId), "{text}");
        }
    }
}
