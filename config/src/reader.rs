//! A parsed file read key by key: whatever does not fit is a fault, and reading goes on.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostics::{Code, Fault, Faults};

/// A value of the file and the path of keys to it.
#[derive(Clone)]
pub(crate) struct Item<'d> {
    /// The value.
    pub(crate) value: &'d DeValue<'d>,
    /// Its place.
    pub(crate) place: Range<usize>,
    /// Its keys, joined by dots.
    pub(crate) path: String,
}

impl<'d> Item<'d> {
    /// The fault of having a value of the wrong type.
    pub(crate) fn wrong_type(&self, needed: impl fmt::Display) -> Fault {
        let given = match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let reason = format!("`{}` is {given}, not {needed}", self.path);
        Fault::new(Code::F03, self.place.clone(), reason).cure(format!("write {needed} here"))
    }

    /// The fault of having a value that is not allowed.
    pub(crate) fn not_allowed(&self, why: impl fmt::Display, cure: impl AsRef<str>) -> Fault {
        Fault::new(
            Code::F05,
            self.place.clone(),
            format!("`{}` {why}", self.path),
        )
        .cure(cure)
    }

    /// Something inside this value.
    pub(crate) fn child(&self, key: impl fmt::Display, value: &'d Spanned<DeValue<'d>>) -> Self {
        Self {
            value: value.get_ref(),
            place: value.span(),
            path: if self.path.is_empty() {
                key.to_string()
            } else {
                format!("{}.{key}", self.path)
            },
        }
    }
}

/// A table that is read key by key; what nobody asked for is a fault in the end.
pub(crate) struct Table<'d, 'f> {
    item: Item<'d>,
    table: &'d DeTable<'d>,
    faults: &'f mut Faults,
    known: Vec<&'static str>,
}

impl<'d, 'f> Table<'d, 'f> {
    /// Reads an item as a table; `None`, with a fault, if it is none.
    pub(crate) fn of(item: &Item<'d>, faults: &'f mut Faults) -> Option<Self> {
        match item.value.as_table() {
            Some(table) => Some(Self {
                item: item.clone(),
                table,
                faults,
                known: Vec::new(),
            }),
            None => {
                faults.add(item.wrong_type("a table"));
                None
            }
        }
    }

    /// The value of a key, if it is there and good.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Item<'d>, &mut Faults) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let item = self.find(key)?;
        read(&item, self.faults)
    }

    /// The value of a key that must be there; `None`, with a fault, if it is not or is bad.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Item<'d>, &mut Faults) -> Option<T>,
    ) -> Option<T> {
        if self.find(key).is_none() {
            self.missing(key);
        }
        self.optional(key, read)
    }

    /// The place of a key's value, for faults that other values explain.
    pub(crate) fn place_of(&self, key: &str) -> Option<Range<usize>> {
        self.find(key).map(|item| item.place)
    }

    /// The place of the whole table: its header, or its braces.
    pub(crate) fn place(&self) -> Range<usize> {
        self.item.place.clone()
    }

    /// Adds a fault found while reading.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.faults.add(fault);
    }

    /// Says that a key must be there and is not.
    pub(crate) fn missing(&mut self, key: &str) {
        let reason = match self.item.path.as_str() {
            "" => format!("the file has no `{key}`"),
            path => format!("`{path}` has no `{key}`"),
        };
        self.faults.add(
            Fault::new(Code::F04, self.place(), reason).cure(format!("write `{key}` into it")),
        );
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(mut self) {
        self.known.sort_unstable();
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let reason = match self.item.path.as_str() {
                "" => format!("`{name}` is not a key of a topology"),
                path => format!("`{name}` is not a key of `{path}`"),
            };
            let cure = match self.faults.meant(name, self.known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the keys are {}", quoted(&self.known)),
            };
            let fault = Fault::new(Code::F02, key.span(), reason);
            self.faults.add(fault.label("unknown key").cure(cure));
        }
    }

    fn find(&self, key: &str) -> Option<Item<'d>> {
        let (_, value) = self.table.get_key_value(key)?;
        Some(self.item.child(key, value))
    }
}

/// Reads every entry of a table whose keys the author chooses, in the order of the file.
pub(crate) fn entries<'d>(
    item: &Item<'d>,
    faults: &mut Faults,
    mut read: impl FnMut(Spanned<String>, &Item<'d>, &mut Faults),
) {
    let Some(table) = item.value.as_table() else {
        faults.add(item.wrong_type("a table"));
        return;
    };
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let name = Spanned::new(key.span(), key.get_ref().to_string());
        read(name, &item.child(key.get_ref(), value), faults);
    }
}

/// Names as a list in a sentence.
pub(crate) fn quoted(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => String::from("none"),
    }
}
