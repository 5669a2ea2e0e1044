//! What admits to the control plane: a token within a machine, a certificate off it.

use std::io;
use std::path::{Path, PathBuf};

use crate::transport::tls::{Identity, Security};

/// How the two ends of the control plane know each other. Both must use the same.
#[derive(Clone, Debug)]
pub enum Admission {
    /// A secret that both have read from a file; on loopback only.
    Token(Token),
    /// A certificate of the application's authority at each end; who a peer is, stands in there.
    Certificate(Identity),
}

impl Admission {
    /// How the connections are protected.
    #[must_use]
    pub fn security(&self) -> Security {
        match self {
            Self::Token(_) => Security::LoopbackOnly,
            Self::Certificate(identity) => Security::MutualTls(identity.clone()),
        }
    }

    /// What is said in the hello. A certificate needs no secret beside it.
    pub(super) fn shown(&self) -> &str {
        match self {
            Self::Token(token) => token.reveal(),
            Self::Certificate(_) => "",
        }
    }
}

/// The secret that admits to the control plane of one application.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A token's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read or written.
    #[error("the token file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read it, so it is no secret.
    #[error("the token file {path} may be read by others; run: chmod 600 {path}")]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
}

impl Token {
    /// Makes a new secret and writes it to `path`, for this user only.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<Self, TokenError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let fault = |source| TokenError::File {
            path: path.to_owned(),
            source,
        };
        let token = Self(format!(
            "{:032x}{:032x}",
            rand::random::<u128>(),
            rand::random::<u128>()
        ));
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            Ok(()) | Err(_) => {}
        }
        let mut options = std::fs::File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(fault)?;
        file.write_all(token.0.as_bytes()).map_err(fault)?;
        Ok(token)
    }

    /// Reads the secret that was written to `path`.
    ///
    /// # Errors
    /// The file cannot be read, or others can read it too.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        use std::os::unix::fs::PermissionsExt;
        let fault = |source| TokenError::File {
            path: path.to_owned(),
            source,
        };
        let mode = std::fs::metadata(path).map_err(fault)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(TokenError::Exposed {
                path: path.to_owned(),
            });
        }
        let text = std::fs::read_to_string(path).map_err(fault)?;
        Ok(Self(text.trim().to_owned()))
    }

    /// A secret that was told by whoever knows it.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The secret, to be sent to the peer that knows it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the secret, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn admits(&self, other: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), other.as_bytes());
        let differences = own.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
        own.len() == other.len() && differences == 0
    }
}
