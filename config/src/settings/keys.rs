//! Every setting: its key, its default and what it may be.

use std::net::SocketAddr;

use crate::values::parse_duration;

/// One setting.
pub(super) struct Key {
    /// Its path, joined by dots.
    pub(super) name: &'static str,
    /// Its value if no layer has one; `None` leaves it open.
    pub(super) default: Option<&'static str>,
    /// What it may be.
    pub(super) kind: Kind,
}

/// What a setting may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of these words.
    Word(&'static [&'static str]),
    /// A filter of diagnostic messages: a level, or levels by module.
    Filter,
    /// A directory.
    Directory,
    /// An IP address and a port.
    Listen,
    /// An address with one of these schemes, without credentials.
    Url(&'static [&'static str]),
    /// A name without control characters.
    Name,
    /// Where a secret is found.
    Secret,
    /// A span of time.
    Duration,
    /// True or false.
    Bool,
}

const fn key(name: &'static str, default: Option<&'static str>, kind: Kind) -> Key {
    Key {
        name,
        default,
        kind,
    }
}

/// All settings, in the order in which they are shown.
pub(super) const KEYS: &[Key] = &[
    key("log.level", Some("info"), Kind::Filter),
    key("log.format", Some("text"), Kind::Word(&["text", "json"])),
    key("directories.run", Some(".lamplighter"), Kind::Directory),
    key("directories.agents", None, Kind::Directory),
    key("directories.hosts", None, Kind::Directory),
    key("manager.listen", Some("127.0.0.1:7400"), Kind::Listen),
    key("store.url", None, Kind::Url(&["redis", "rediss"])),
    key("store.user", None, Kind::Name),
    key("store.password", None, Kind::Secret),
    key("broker.url", None, Kind::Url(&["mqtt", "mqtts"])),
    key("broker.user", None, Kind::Name),
    key("broker.password", None, Kind::Secret),
    key("autonomy_after", None, Kind::Duration),
    key("allow_inject", Some("false"), Kind::Bool),
];

/// The setting of a name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The name that was probably meant.
pub(super) fn meant(given: &str) -> Option<&'static str> {
    if given.chars().count() > 64 {
        return None;
    }
    let distances = KEYS
        .iter()
        .map(|key| (strsim::damerau_levenshtein(given, key.name), key.name));
    distances
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, name)| name)
}

impl Kind {
    /// Whether a value fits, or what is wrong with it and what to do.
    pub(super) fn check(self, value: &str) -> Result<(), (String, String)> {
        let bad = |why: &str, cure: &str| Err((why.to_owned(), cure.to_owned()));
        if value.chars().any(char::is_control) {
            return bad("holds a control character", "write it without");
        }
        match self {
            Self::Word(words) if words.contains(&value) => Ok(()),
            Self::Word(words) => bad("is not one of its words", &one_of(words)),
            Self::Filter if is_filter(value) => Ok(()),
            Self::Filter => bad(
                "is not a level",
                "write error, warn, info, debug or trace, or levels by module such as \
                 \"info,lamplighter=debug\"",
            ),
            Self::Directory | Self::Name if value.is_empty() => bad("is empty", "write a name"),
            Self::Directory if has_parent(value) => bad(
                "climbs out of its directory with `..`",
                "write the path from the root, or below the working directory",
            ),
            Self::Directory | Self::Name => Ok(()),
            Self::Listen if value.parse::<SocketAddr>().is_ok() => Ok(()),
            Self::Listen => bad(
                "is not an IP address and a port",
                "write it as 127.0.0.1:7400; port 0 takes any free one",
            ),
            Self::Url(schemes) => url(value, schemes),
            Self::Secret => match value.split_once(':') {
                Some(("env", name)) if !name.is_empty() => Ok(()),
                Some(("file", path)) if !path.is_empty() && !has_parent(path) => Ok(()),
                _ => bad("is not a place of a secret", SECRET_CURE),
            },
            Self::Duration if parse_duration(value).is_some_and(|span| !span.is_zero()) => Ok(()),
            Self::Duration => bad(
                "is not a duration",
                "write a number and one of us, ms, s, m, h, d, such as \"100ms\"",
            ),
            Self::Bool if matches!(value, "true" | "false") => Ok(()),
            Self::Bool => bad("is neither true nor false", "write true or false"),
        }
    }
}

/// How a secret may be given.
pub(super) const SECRET_CURE: &str = "a secret never stands in a file, variable or flag of ours: give the variable or file that \
     holds it, { env = \"NAME\" } or { file = \"PATH\" }";

fn url(value: &str, schemes: &[&str]) -> Result<(), (String, String)> {
    let rest = schemes
        .iter()
        .find_map(|scheme| value.strip_prefix(scheme)?.strip_prefix("://"));
    let cure = format!("write {}://host:port", schemes.join(":// or "));
    match rest {
        Some(rest)
            if rest
                .split('/')
                .next()
                .is_some_and(|host| host.contains('@')) =>
        {
            Err((
                "holds credentials in clear".to_owned(),
                "give `user` and `password` beside it, the password as { env = … } or { file = … }"
                    .to_owned(),
            ))
        }
        Some(rest) if !rest.is_empty() => Ok(()),
        Some(_) | None => Err(("is not an address of the right kind".to_owned(), cure)),
    }
}

fn one_of(words: &[&str]) -> String {
    format!("write one of {}", words.join(", "))
}

fn has_parent(path: &str) -> bool {
    path.split(['/', '\\']).any(|part| part == "..")
}

/// Levels, alone or by module: `info`, `warn,lamplighter=debug`.
fn is_filter(value: &str) -> bool {
    let is_level = |level: &str| {
        matches!(
            level.to_ascii_lowercase().as_str(),
            "off" | "error" | "warn" | "info" | "debug" | "trace"
        )
    };
    let is_module = |name: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        !name.is_empty() && name.chars().all(fits)
    };
    !value.is_empty()
        && value
            .split(',')
            .all(|part| match part.trim().split_once('=') {
                Some((module, level)) => is_module(module) && is_level(level),
                None => is_level(part.trim()),
            })
}
