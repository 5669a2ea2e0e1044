//! Secrets: where they are found, and a value that does not show itself.

use std::fmt;

use lamplighter_policies::model::SecretSource;

/// The longest secret that is read from a file, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret in memory. Its `Debug` says nothing about it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, to hand to the one who needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not there; set it and start again.
    #[error(
        "the secret is expected in the variable {name}, which is not set; set it and try again"
    )]
    NotSet {
        /// The variable's name.
        name: String,
    },
    /// The file cannot be read.
    #[error("the secret is expected in the file {path}, which cannot be read: {source}")]
    Unreadable {
        /// The file's path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is something, and it is no secret: empty, too long or not text.
    #[error("the secret in {place} is {why}; write it as one line of text")]
    Unusable {
        /// The variable or file.
        place: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Reads a secret from where it is found. The end of the line in a file is not part of it.
///
/// # Errors
/// If it is not there or is no secret.
pub fn read_secret(source: &SecretSource) -> Result<Secret, SecretError> {
    let (place, text) = match source {
        SecretSource::Env(name) => {
            let value = std::env::var_os(name).ok_or(SecretError::NotSet { name: name.clone() })?;
            (format!("the variable {name}"), value.into_string().ok())
        }
        SecretSource::File(path) => (format!("the file {path}"), read_file(path)?),
    };
    let unusable = |why| SecretError::Unusable {
        place: place.clone(),
        why,
    };
    let text = text.ok_or_else(|| unusable("not text in UTF-8, or too long"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    match text {
        "" => Err(unusable("empty")),
        _ => Ok(Secret(text.to_owned())),
    }
}

fn read_file(path: &str) -> Result<Option<String>, SecretError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| SecretError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    let fits = bytes.len() as u64 <= SECRET_BYTES_MAX;
    Ok(String::from_utf8(bytes).ok().filter(|_| fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_its_file_and_does_not_show_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        let secret = read_secret(&SecretSource::File(path.display().to_string())).unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn a_secret_that_is_not_there_says_where_it_was_expected() {
        let name = "LAMPLIGHTER_TEST_VARIABLE_THAT_NOBODY_SETS";
        let error = read_secret(&SecretSource::Env(name.to_owned())).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        let error = read_secret(&SecretSource::File("/nowhere/at/all".to_owned())).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }

    #[test]
    fn an_empty_secret_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "\n").unwrap();
        let error = read_secret(&SecretSource::File(path.display().to_string())).unwrap_err();
        assert!(matches!(error, SecretError::Unusable { .. }), "{error}");
    }
}
