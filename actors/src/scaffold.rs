//! `lamplighter new NAME`: the files of an application that builds and passes its own tests.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lamplighter_policies::ids::{EntityId, InvalidId};

/// Each file of a new application, with `{name}` and `{dependency}` where those belong.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("scaffold/manifest.toml")),
    ("src/main.rs", include_str!("scaffold/main.rs")),
    ("topology.toml", include_str!("scaffold/topology.toml")),
    ("README.md", include_str!("scaffold/README.md")),
    (".gitignore", include_str!("scaffold/gitignore")),
];

/// Names that cargo refuses or warns of, and our own: a program of that name could not be built.
const TAKEN: [&str; 60] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "lamplighter",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "yield",
];

/// Where a new application takes Lamplighter from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The folder of the crate `lamplighter`.
    Path(PathBuf),
    /// A version requirement on the crates' registry.
    Version(String),
}

/// Why there is no new application; nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// The name cannot be an id.
    #[error("an application cannot be called {name:?}: {source}")]
    Name {
        /// As it was given.
        name: String,
        /// The rule that it breaks.
        source: InvalidId,
    },
    /// The name is an id, but no crate can have it.
    #[error("an application cannot be called {name:?}: {reason}; choose another name")]
    NotACrate {
        /// As it was given.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// Something of that name is there already; it was not touched.
    #[error("{} is there already; choose another name, or another folder", path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes a new application into the folder `name` inside `parent`, and returns that folder.
///
/// ```
/// use lamplighter::scaffold::{Source, create};
///
/// let parent = tempfile::tempdir()?;
/// let folder = create("greenhouse", parent.path(), &Source::Version("0.1".into()))?;
/// assert!(folder.join("src/main.rs").is_file());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ScaffoldError`]; what is there already is never written over.
pub fn create(name: &str, parent: &Path, source: &Source) -> Result<PathBuf, ScaffoldError> {
    check(name)?;
    let folder = parent.join(name);
    fs::create_dir(&folder).map_err(|source| {
        let path = folder.clone();
        if source.kind() == io::ErrorKind::AlreadyExists {
            ScaffoldError::Exists { path }
        } else {
            ScaffoldError::Write { path, source }
        }
    })?;
    match write_all(&folder, name, source) {
        Ok(()) => Ok(folder),
        Err(fault) => {
            // The folder is ours: creating it would have failed if it had been there. Half an
            // application helps nobody, and the fault that is reported is the one that matters.
            drop(fs::remove_dir_all(&folder));
            Err(fault)
        }
    }
}

/// A name must do for the application's id, for a crate, and for a folder.
fn check(name: &str) -> Result<(), ScaffoldError> {
    EntityId::new(name).map_err(|source| ScaffoldError::Name {
        name: name.to_string(),
        source,
    })?;
    let refused = |reason| {
        Err(ScaffoldError::NotACrate {
            name: name.to_string(),
            reason,
        })
    };
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return refused("the name of a crate starts with a letter");
    }
    if name.contains('.') {
        return refused("the name of a crate has no '.'");
    }
    if TAKEN.contains(&name) {
        return refused("Rust keeps that name for itself");
    }
    Ok(())
}

fn write_all(folder: &Path, name: &str, source: &Source) -> Result<(), ScaffoldError> {
    let dependency = match source {
        Source::Path(path) => {
            let path = path.canonicalize().map_err(|source| ScaffoldError::Write {
                path: path.clone(),
                source,
            })?;
            format!("{{ path = {} }}", quoted(&path.to_string_lossy()))
        }
        Source::Version(version) => quoted(version),
    };
    for (file, template) in FILES {
        let path = folder.join(file);
        let text = template
            .replace("{name}", name)
            .replace("{dependency}", &dependency);
        write(&path, &text).map_err(|source| ScaffoldError::Write { path, source })?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::create_new(path)?.write_all(text.as_bytes())
}

/// A TOML string: what could end or bend it is escaped.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_has_its_name_and_its_source_in_its_files() {
        let parent = tempfile::tempdir().unwrap();
        let source = Source::Version("0.1".into());

        let folder = create("greenhouse", parent.path(), &source).unwrap();

        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some("greenhouse"));
        assert_eq!(
            manifest["dependencies"]["lamplighter"].as_str(),
            Some("0.1")
        );
        let checked = lamplighter_config::load(&folder.join("topology.toml")).unwrap();
        assert_eq!(checked.topology.application.name.as_str(), "greenhouse");
        assert!(
            checked.warnings.is_empty(),
            "{}",
            checked.warnings.render(false)
        );
    }

    #[test]
    fn a_source_with_strange_characters_stays_one_string() {
        let parent = tempfile::tempdir().unwrap();
        let strange = parent.path().join("a \"b\\ c");
        fs::create_dir(&strange).unwrap();
        let source = Source::Path(strange.clone());

        let folder = create("greenhouse", parent.path(), &source).unwrap();

        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let path = manifest["dependencies"]["lamplighter"]["path"].as_str();
        assert_eq!(path, strange.canonicalize().unwrap().to_str());
    }

    #[test]
    fn what_is_there_already_is_not_touched() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("greenhouse"), "mine").unwrap();

        let refused = create("greenhouse", parent.path(), &Source::Version("0.1".into()));

        assert!(
            matches!(refused, Err(ScaffoldError::Exists { .. })),
            "{refused:?}"
        );
        assert_eq!(
            fs::read_to_string(parent.path().join("greenhouse")).unwrap(),
            "mine"
        );
    }

    #[test]
    fn nothing_is_left_of_an_application_that_could_not_be_written() {
        let parent = tempfile::tempdir().unwrap();
        let source = Source::Path(parent.path().join("not-there"));

        let refused = create("greenhouse", parent.path(), &source);

        assert!(
            matches!(refused, Err(ScaffoldError::Write { .. })),
            "{refused:?}"
        );
        assert!(!parent.path().join("greenhouse").exists());
    }

    #[test]
    fn a_name_that_no_crate_can_have_is_refused_with_the_reason() {
        let cases = [
            (
                "",
                "an application cannot be called \"\": an id must not be empty",
            ),
            (
                "../up",
                "an application cannot be called \"../up\": an id starts with a letter a-z or a digit, not with '.'",
            ),
            (
                "7up",
                "an application cannot be called \"7up\": the name of a crate starts with a letter; choose another name",
            ),
            (
                "a.b",
                "an application cannot be called \"a.b\": the name of a crate has no '.'; choose another name",
            ),
            (
                "match",
                "an application cannot be called \"match\": Rust keeps that name for itself; choose another name",
            ),
        ];
        let parent = tempfile::tempdir().unwrap();
        for (name, reason) in cases {
            let refused = create(name, parent.path(), &Source::Version("0.1".into()));
            assert_eq!(refused.unwrap_err().to_string(), reason);
        }
    }
}
