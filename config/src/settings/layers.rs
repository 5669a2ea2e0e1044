//! The layers that settings come from, each value with the place it was given at.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Map, Source, Value, ValueKind};
use lamplighter_policies::model::SecretSource;
use toml::de::{DeTable, DeValue};

use super::keys::{KEYS, Kind, SECRET_CURE, find, meant};
use super::{SettingFault, SettingsError};
use crate::diagnostics::{Code, Fault, Faults};
use crate::file::{FILE_BYTES_MAX, syntax_fault, too_large};
use crate::reader::Item;
use crate::render::printable;
use crate::values::{boolean, secret, text};

/// What every variable that sets something starts with.
pub const VARIABLE_PREFIX: &str = "LAMPLIGHTER_";

/// What stands between the parts of a key in a variable's name.
const VARIABLE_SEPARATOR: &str = "__";

/// Values of one layer: key, value, place.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer(Vec<(String, String, String)>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        let values = self.0.iter().map(|(key, value, place)| {
            let kind = ValueKind::String(value.clone());
            (key.clone(), Value::new(Some(place), kind))
        });
        Ok(values.collect())
    }
}

/// The values that hold when nobody says otherwise.
pub(super) fn defaults() -> Layer {
    let defaults = KEYS.iter().filter_map(|key| {
        let value = key.default?;
        Some((key.name.to_owned(), value.to_owned(), "default".to_owned()))
    });
    Layer(defaults.collect())
}

/// The values of a file. One that nobody asked for by name may be missing.
pub(super) fn file(path: &Path, is_asked_for: bool, error: &mut SettingsError) -> Layer {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(found) if found.kind() == std::io::ErrorKind::NotFound && !is_asked_for => {
            return Layer::default();
        }
        Err(found) => {
            error.faults.push(SettingFault {
                place: printable(&name),
                reason: format!("the settings cannot be read: {found}"),
                cure: "check the path and who may read it".to_owned(),
            });
            return Layer::default();
        }
    };
    let mut faults = Faults::default();
    let found = read(&text, &mut faults);
    let diagnostics = faults.diagnostics(&name, &text, true);
    let layer = found.into_iter().map(|(key, value, at)| {
        let (line, _) = diagnostics.line_and_column(at);
        (key, value, format!("{}:{line}", printable(&name)))
    });
    let layer = Layer(layer.collect());
    error.file = (!diagnostics.is_empty()).then(|| Box::new(diagnostics));
    layer
}

/// The known keys of a text, each with the byte where its value starts.
fn read(text: &str, faults: &mut Faults) -> Vec<(String, String, usize)> {
    if text.len() > FILE_BYTES_MAX {
        faults.add(too_large());
        return Vec::new();
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        faults.add(syntax_fault(error));
    }
    let root = DeValue::Table(root.into_inner());
    let mut found = Vec::new();
    if errors.is_empty() {
        let item = Item {
            value: &root,
            place: 0..0,
            path: String::new(),
        };
        walk(&item, faults, &mut found);
    }
    found
}

/// Goes down as deep as there are keys, which is two levels.
fn walk(item: &Item<'_>, faults: &mut Faults, found: &mut Vec<(String, String, usize)>) {
    let Some(table) = item.value.as_table() else {
        return;
    };
    for (key, value) in table {
        let child = item.child(key.get_ref(), value);
        let path = child.path.clone();
        let is_section = KEYS.iter().any(|key| {
            key.name
                .split_once('.')
                .is_some_and(|(section, _)| section == path)
        });
        if let Some(key) = find(&path) {
            if let Some(text) = written(&child, key.kind, faults) {
                found.push((path, text, child.place.start));
            }
        } else if is_section && child.value.is_table() {
            walk(&child, faults, found);
        } else if is_section {
            faults.add(child.wrong_type("a table"));
        } else {
            let fault = Fault::new(
                Code::F02,
                key.span(),
                format!("there is no setting `{path}`"),
            );
            faults.add(fault.label("unknown key").cure(unknown_cure(&path)));
        }
    }
}

/// A value as text, if it is good.
fn written(item: &Item<'_>, kind: Kind, faults: &mut Faults) -> Option<String> {
    let value = match kind {
        Kind::Bool => boolean(item, faults)?.to_string(),
        Kind::Secret => match secret(item, faults)? {
            SecretSource::Env(name) => format!("env:{name}"),
            SecretSource::File(path) => format!("file:{path}"),
        },
        Kind::Word(_)
        | Kind::Filter
        | Kind::Directory
        | Kind::Listen
        | Kind::Url(_)
        | Kind::Name
        | Kind::Duration => text(item, faults)?,
    };
    match kind.check(&value) {
        Ok(()) => Some(value),
        Err((why, cure)) => {
            faults.add(item.not_allowed(why, cure));
            None
        }
    }
}

/// The values of variables named `LAMPLIGHTER_…`.
pub(super) fn variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    error: &mut SettingsError,
) -> Layer {
    let mut layer = Layer::default();
    let mut sorted: Vec<_> = variables.into_iter().collect();
    sorted.sort();
    for (name, value) in sorted {
        // A name that is not text is not one of ours.
        let Ok(name) = name.into_string() else {
            continue;
        };
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else {
            continue;
        };
        let key = rest.to_lowercase().replace(VARIABLE_SEPARATOR, ".");
        match value.into_string() {
            Ok(value) => layer.take(key, value, name, error),
            Err(_) => error.faults.push(SettingFault {
                place: printable(&name),
                reason: "its value is not text in UTF-8".to_owned(),
                cure: "set it to text, or unset it".to_owned(),
            }),
        }
    }
    layer
}

/// The values of flags `key=value`.
pub(super) fn flags(flags: &[String], error: &mut SettingsError) -> Layer {
    let mut layer = Layer::default();
    for flag in flags {
        match flag.split_once('=') {
            Some((key, value)) => {
                let place = format!("flag {}", key.trim());
                layer.take(key.trim().to_owned(), value.to_owned(), place, error);
            }
            None => error.faults.push(SettingFault {
                place: format!("flag {}", printable(flag)),
                reason: "it sets nothing".to_owned(),
                cure: "write KEY=VALUE, such as log.level=debug".to_owned(),
            }),
        }
    }
    layer
}

impl Layer {
    fn take(&mut self, key: String, value: String, place: String, error: &mut SettingsError) {
        let mut refuse = |reason: String, cure: String| {
            error.faults.push(SettingFault {
                place: printable(&place),
                reason: printable(&reason),
                cure: printable(&cure),
            });
        };
        // A secret is given by where it is found: one more part of the key.
        let inner = key
            .rsplit_once('.')
            .filter(|(_, last)| matches!(*last, "env" | "file"))
            .and_then(|(parent, last)| Some((find(parent)?, format!("{last}:{value}"))))
            .filter(|(setting, _)| setting.kind == Kind::Secret);
        let (setting, value) = match (inner, find(&key)) {
            (Some(inner), _) => inner,
            (None, Some(setting)) if setting.kind == Kind::Secret => {
                let reason = format!("`{key}` is a secret in clear");
                return refuse(reason, SECRET_CURE.to_owned());
            }
            (None, Some(setting)) => (setting, value),
            (None, None) => {
                return refuse(format!("there is no setting `{key}`"), unknown_cure(&key));
            }
        };
        match setting.kind.check(&value) {
            Ok(()) => self.0.push((setting.name.to_owned(), value, place)),
            Err((why, cure)) => refuse(format!("`{key}` {why}"), cure),
        }
    }
}

fn unknown_cure(key: &str) -> String {
    match meant(key) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
            format!("the settings are {}", names.join(", "))
        }
    }
}

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The file given by name, which must be there; `None` is `lamplighter.toml` in the working
    /// directory, which need not be.
    pub file: Option<PathBuf>,
    /// The environment; those of other names are ignored.
    pub variables: Vec<(OsString, OsString)>,
    /// Flags of the form `key=value`; the last of several wins.
    pub flags: Vec<String>,
}

impl Layers {
    /// The environment of this process, the file and flags as given.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<String>) -> Self {
        Self {
            file,
            variables: std::env::vars_os().collect(),
            flags,
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or(Path::new(super::FILE_NAME));
        write!(
            f,
            "defaults, {}, {VARIABLE_PREFIX}…, flags",
            printable(&file.display().to_string())
        )
    }
}
