//! The one namespace of ids: who declared which name first.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use lamplighter_policies::ids::{EntityId, ID_LENGTH_MAX};
use toml::Spanned;

use crate::diagnostics::{Code, Fault, Faults};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Server,
    Channel,
    Space,
    Appliance,
    Element,
    Binding,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "a server",
            Self::Channel => "a channel",
            Self::Space => "a space",
            Self::Appliance => "an appliance",
            Self::Element => "an element",
            Self::Binding => "a binding",
        })
    }
}

/// How names begin that nothing in a topology may have.
const RESERVED: &str = "lamplighter.";

/// Every declared name, ill-formed ones included, so that references to them are no faults too.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, (Kind, Range<usize>)>);

impl Names {
    /// Takes a name for one kind (V01); `None`, with a fault, if it cannot be taken.
    pub(crate) fn declare(
        &mut self,
        name: &Spanned<String>,
        kind: Kind,
        faults: &mut Faults,
    ) -> Option<EntityId> {
        let id = entity_id(name, faults);
        let text = name.get_ref();
        if let Some((other, place)) = self.0.get(text) {
            let reason = format!("`{text}` is already the name of {other}");
            faults.add(
                Fault::new(Code::V01, name.span(), reason)
                    .label("declared again")
                    .also(place.clone(), "first declared here")
                    .cure("one name stands for one thing; rename one of the two"),
            );
            return None;
        }
        self.0.insert(text.clone(), (kind, name.span()));
        id
    }

    /// What a name stands for and where it was declared.
    pub(crate) fn find(&self, name: &str) -> Option<(Kind, Range<usize>)> {
        self.0.get(name).cloned()
    }

    /// All names of some kinds.
    pub(crate) fn of<'n>(&'n self, kinds: &'n [Kind]) -> impl Iterator<Item = &'n str> {
        self.0
            .iter()
            .filter(|(_, (kind, _))| kinds.contains(kind))
            .map(|(name, _)| name.as_str())
    }
}

/// A name as an id (V01).
pub(crate) fn entity_id(name: &Spanned<String>, faults: &mut Faults) -> Option<EntityId> {
    let text = name.get_ref();
    match EntityId::new(text) {
        Ok(_) if text.starts_with(RESERVED) => {
            let reason =
                format!("`{text}` is reserved: the manager keeps its journal under such names");
            faults.add(
                Fault::new(Code::V01, name.span(), reason)
                    .label("reserved")
                    .cure(format!(
                        "choose a name that does not begin with `{RESERVED}`"
                    )),
            );
            None
        }
        Ok(id) => Some(id),
        Err(fault) => {
            let shown: String = text.chars().take(ID_LENGTH_MAX + 1).collect();
            let reason = format!("{shown:?} cannot be an id: {fault}");
            let mut fault = Fault::new(Code::V01, name.span(), reason).label("not an id");
            let better: String = text
                .to_lowercase()
                .chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() || "._-".contains(c) {
                        c
                    } else {
                        '-'
                    }
                })
                .take(ID_LENGTH_MAX)
                .collect();
            let better = better.trim_start_matches(['.', '_', '-']);
            fault = if EntityId::new(better).is_ok() {
                fault.cure(format!("`{better}` would be one"))
            } else {
                fault.cure("write a name such as `lamp-1`")
            };
            faults.add(fault);
            None
        }
    }
}
