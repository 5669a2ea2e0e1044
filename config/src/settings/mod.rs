//! Settings of a process in layers: defaults, file, variables, flags; the later layer wins.
//!
//! The layers are merged by the `config` crate. What it cannot say about a mistake (the line, the
//! variable's name) is said here: every value is checked in its own layer, where its place is
//! known, and carries that place through the merge.

mod keys;
mod layers;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, Value, ValueKind};
use lamplighter_policies::model::{Credentials, SecretSource};

pub use layers::{Layers, VARIABLE_PREFIX};

use crate::diagnostics::Diagnostics;
use crate::values::parse_duration;
use keys::KEYS;

/// The file that is read if none is named, in the working directory.
pub const FILE_NAME: &str = "lamplighter.toml";

/// The settings of a process. What a topology says too, these override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which diagnostic messages are written: a level, or levels by module.
    pub log_level: String,
    /// How they are written.
    pub log_format: LogFormat,
    /// Where a run keeps its files; the directories of agents and hosts lie inside by default.
    pub run_directory: PathBuf,
    /// Where fog agents keep theirs.
    pub agents_directory: PathBuf,
    /// Where hosts of elements keep theirs.
    pub hosts_directory: PathBuf,
    /// Where the manager listens for agents. Port 0 is any free one.
    pub manager_listen: SocketAddr,
    /// The store's address, if other than the topology says.
    pub store_url: Option<String>,
    /// Who we are to the store.
    pub store_credentials: Credentials,
    /// The broker's address, if other than the topology says.
    pub broker_url: Option<String>,
    /// Who we are to the broker.
    pub broker_credentials: Credentials,
    /// How long an agent waits for the manager, if other than the topology says.
    pub autonomy_after: Option<Duration>,
    /// Whether failures may be injected into this process.
    pub allow_inject: bool,
}

/// How diagnostic messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings and where each came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    origins: Vec<Origin>,
}

impl Loaded {
    /// Every setting in a fixed order, with its value and where it came from.
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }
}

/// Where the value of one setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The setting, parts joined by dots.
    pub key: &'static str,
    /// Its value as text, empty if it is left open; of a secret, the place where it is found.
    pub value: String,
    /// `default`, `FILE:LINE`, the variable's name, or `flag KEY`.
    pub place: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<20} {:<28} {}", self.key, self.value, self.place)
    }
}

/// A value that a variable or flag must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFault {
    /// The variable's name, or the flag.
    pub place: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub cure: String,
}

/// Everything that is wrong with the settings; nothing was started with them.
#[derive(Debug, Default)]
pub struct SettingsError {
    /// What is wrong with the file.
    pub file: Option<Box<Diagnostics>>,
    /// What is wrong elsewhere.
    pub faults: Vec<SettingFault>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            f.write_str(&file.render(false))?;
        }
        for SettingFault {
            place,
            reason,
            cure,
        } in &self.faults
        {
            writeln!(f, "error: {place}: {reason}\n  = cure: {cure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Reads all layers and merges them.
    ///
    /// # Errors
    /// Everything that is wrong in any of them.
    pub fn load(layers: &Layers) -> Result<Loaded, SettingsError> {
        let mut error = SettingsError::default();
        let (path, is_asked_for) = match &layers.file {
            Some(path) => (path.as_path(), true),
            None => (Path::new(FILE_NAME), false),
        };
        let file = layers::file(path, is_asked_for, &mut error);
        let variables = layers::variables(layers.variables.iter().cloned(), &mut error);
        let flags = layers::flags(&layers.flags, &mut error);
        let merged = Config::builder()
            .add_source(layers::defaults())
            .add_source(file)
            .add_source(variables)
            .add_source(flags)
            .build();
        match merged {
            Ok(merged) if error.file.is_none() && error.faults.is_empty() => Ok(taken(&merged)),
            Ok(_) => Err(error),
            Err(found) => {
                error.faults.push(SettingFault {
                    place: layers.to_string(),
                    reason: found.to_string(),
                    cure: "set each setting once in each layer".to_owned(),
                });
                Err(error)
            }
        }
    }
}

/// The merged values, which were all checked in their layers.
fn taken(merged: &Config) -> Loaded {
    let origins: Vec<_> = KEYS
        .iter()
        .map(|key| match find(&merged.cache, key.name) {
            Some(value) => Origin {
                key: key.name,
                place: value.origin().unwrap_or("default").to_owned(),
                value: value.clone().into_string().unwrap_or_default(),
            },
            None => Origin {
                key: key.name,
                value: String::new(),
                place: "default".to_owned(),
            },
        })
        .collect();
    let text = |key: &str| {
        let origin = origins.iter().find(|origin| origin.key == key);
        origin
            .map(|origin| origin.value.clone())
            .filter(|value| !value.is_empty())
    };
    let run_directory = PathBuf::from(text("directories.run").unwrap_or_default());
    let directory = |key: &str, name: &str| match text(key) {
        Some(path) => PathBuf::from(path),
        None => run_directory.join(name),
    };
    let credentials = |user: &str, password: &str| Credentials {
        user: text(user),
        password: text(password).as_deref().and_then(source_of_secret),
    };
    let settings = Settings {
        log_level: text("log.level").unwrap_or_default(),
        log_format: match text("log.format").as_deref() {
            Some("json") => LogFormat::Json,
            Some(_) | None => LogFormat::Text,
        },
        agents_directory: directory("directories.agents", "agents"),
        hosts_directory: directory("directories.hosts", "hosts"),
        manager_listen: text("manager.listen")
            .and_then(|address| address.parse().ok())
            .expect("it has a default and was checked in its layer"),
        store_url: text("store.url"),
        store_credentials: credentials("store.user", "store.password"),
        broker_url: text("broker.url"),
        broker_credentials: credentials("broker.user", "broker.password"),
        autonomy_after: text("autonomy_after").as_deref().and_then(parse_duration),
        allow_inject: text("allow_inject").as_deref() == Some("true"),
        run_directory,
    };
    Loaded { settings, origins }
}

/// The value at a path of keys. `Config::get` would lose where it came from.
fn find<'v>(root: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(root, |value, key| {
        if let ValueKind::Table(table) = &value.kind {
            table.get(key)
        } else {
            None
        }
    })
}

fn source_of_secret(value: &str) -> Option<SecretSource> {
    match value.split_once(':')? {
        ("env", name) => Some(SecretSource::Env(name.to_owned())),
        ("file", path) => Some(SecretSource::File(path.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
