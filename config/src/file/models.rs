//! `[models]` as written: what devices of a kind show and take.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use lamplighter_policies::model::{
    Access, ActuationClass, Domain, Evidence, Relative, Reversion, Value,
};
use toml::Spanned;

use super::Reference;
use super::appliances::CLASS;
use super::infrastructure::WORDS_MAX;
use crate::diagnostics::{Code, Fault, Faults};
use crate::reader::{Item, Table, entries};
use crate::values::{
    VALIDITY_MAX, boolean, choice, duration, list, located, number, text, tree, tree_table,
};

/// The furthest from nothing that a bound of a property may lie: beyond it numbers of a report are
/// not told from their neighbours.
const NUMBER_MAX: f64 = 9_007_199_254_740_992.0;

const ACCESS: &[(&str, Access)] = &[
    ("shown", Access::Shown),
    ("taken", Access::Taken),
    ("both", Access::Both),
];

#[derive(Clone, Copy)]
enum ValuesWord {
    Any,
    Truth,
}

const VALUES: &[(&str, ValuesWord)] = &[("any", ValuesWord::Any), ("truth", ValuesWord::Truth)];

/// A device model of which what it extends is still a name.
#[derive(Debug)]
pub(crate) struct ModelWritten {
    /// Whether it was read without a fault, so that what it says can be judged as a whole.
    pub(crate) is_whole: bool,
    pub(crate) extends: Option<Reference>,
    pub(crate) properties: BTreeMap<String, PropertyWritten>,
    pub(crate) other: Option<ActuationClass>,
    pub(crate) evidence: Option<Spanned<Evidence>>,
    pub(crate) answers: Option<Spanned<bool>>,
    pub(crate) safe_state: Option<Spanned<BTreeMap<String, Value>>>,
}

/// A property; what is left out follows from the rest of its model.
#[derive(Clone, Debug)]
pub(crate) struct PropertyWritten {
    /// The place of its name.
    pub(crate) place: Range<usize>,
    pub(crate) capability: Option<String>,
    pub(crate) access: Option<Access>,
    pub(crate) domain: Option<Domain>,
    pub(crate) class: Option<ActuationClass>,
    pub(crate) relative: Option<Relative>,
    pub(crate) reverts: Option<Reversion>,
    pub(crate) accumulates: bool,
}

pub(super) fn model(item: &Item<'_>, faults: &mut Faults) -> Option<ModelWritten> {
    let before = faults.count();
    let mut table = Table::of(item, faults)?;
    let mut model = ModelWritten {
        is_whole: false,
        extends: table.optional("extends", located(text)),
        properties: table.optional("properties", properties).unwrap_or_default(),
        other: table.optional("other", choice(CLASS)),
        evidence: table.optional("evidence", located(evidence)),
        answers: table.optional("answers", located(boolean)),
        safe_state: table.optional("safe_state", located(tree_table)),
    };
    table.finish();
    model.is_whole = faults.count() == before;
    Some(model)
}

fn properties(item: &Item<'_>, faults: &mut Faults) -> Option<BTreeMap<String, PropertyWritten>> {
    let count = item.value.as_table().map_or(0, |table| table.len());
    if count > WORDS_MAX {
        let reason = format!("`{}` has {count} entries, at most {WORDS_MAX}", item.path);
        let fault = Fault::new(Code::F06, item.place.clone(), reason);
        faults.add(fault.cure("keep those that the application uses"));
        return None;
    }
    let mut properties = BTreeMap::new();
    entries(item, faults, |name, item, faults| {
        if let Some(property) = property(name.span(), item, faults) {
            properties.insert(name.into_inner(), property);
        }
    });
    Some(properties)
}

fn property(place: Range<usize>, item: &Item<'_>, faults: &mut Faults) -> Option<PropertyWritten> {
    let mut table = Table::of(item, faults)?;
    let adds = table.optional("adds", text);
    let toggles = table.optional("toggles", text);
    if let (Some(adds), Some(_)) = (table.place_of("adds"), table.place_of("toggles")) {
        let reason = format!("`{}` both adds and toggles", item.path);
        table.fault(Fault::new(Code::F05, adds, reason).cure("keep one of `adds` and `toggles`"));
    }
    let property = PropertyWritten {
        place,
        capability: table.optional("capability", text),
        access: table.optional("access", choice(ACCESS)),
        domain: table.optional("values", values),
        class: table.optional("class", choice(CLASS)),
        relative: adds.map(Relative::Adds).or(toggles.map(Relative::Toggles)),
        reverts: table.optional("reverts", reversion),
        accumulates: table.optional("accumulates", boolean).unwrap_or(false),
    };
    table.finish();
    Some(property)
}

/// `"any"`, `"truth"`, a list of words, or `{ min = …, max = … }`.
fn values(item: &Item<'_>, faults: &mut Faults) -> Option<Domain> {
    if item.value.is_array() {
        return list(WORDS_MAX, text)(item, faults).map(Domain::Choice);
    }
    if item.value.is_table() {
        let mut table = Table::of(item, faults)?;
        let min = table.required("min", number(-NUMBER_MAX..=NUMBER_MAX));
        let max = table.required("max", number(-NUMBER_MAX..=NUMBER_MAX));
        table.finish();
        return Some(Domain::Number {
            min: min?,
            max: max?,
        });
    }
    if item.value.is_str() {
        return choice(VALUES)(item, faults).map(|word| match word {
            ValuesWord::Any => Domain::Any,
            ValuesWord::Truth => Domain::Truth,
        });
    }
    let fault = item.wrong_type("a domain");
    faults.add(fault.cure("write \"any\", \"truth\", [\"ON\", \"OFF\"] or { min = 0, max = 254 }"));
    None
}

fn reversion(item: &Item<'_>, faults: &mut Faults) -> Option<Reversion> {
    let mut table = Table::of(item, faults)?;
    let to = table.required("to", tree);
    let after = table.optional("after", duration(Duration::ZERO..=VALIDITY_MAX));
    table.finish();
    Some(Reversion {
        to: to?,
        after: after.unwrap_or_default(),
    })
}

/// `{ counter = "…" }` or `{ last_command = "…" }`.
fn evidence(item: &Item<'_>, faults: &mut Faults) -> Option<Evidence> {
    let mut table = Table::of(item, faults)?;
    let counter = table.optional("counter", text);
    let last = table.optional("last_command", text);
    if table.place_of("counter").is_some() == table.place_of("last_command").is_some() {
        let reason = format!("`{}` needs one of `counter` and `last_command`", item.path);
        table.fault(Fault::new(Code::F05, item.place.clone(), reason).cure(
            "name the property that counts what was carried out, or the one that shows the \
             identity of the last command",
        ));
    }
    table.finish();
    counter
        .map(Evidence::Counter)
        .or(last.map(Evidence::LastCommand))
}
