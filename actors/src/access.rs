//! How the stable store of an application is reached, by its hosts and by an operator's commands.
//!
//! The manager leaves what commands need in its run directory, in a file that only its user reads: it
//! may hold the store's password.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Durability, Topology};
use lamplighter_runtime::message_pack::{self, MessagePackError};
use lamplighter_runtime::store::StoreError;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::redis::{Durability as RedisDurability, RedisSettings, RedisStore};
use lamplighter_runtime::store::served::{Address, Served, Token};
use lamplighter_runtime::transport::tls::Security;
use serde::{Deserialize, Serialize};

use crate::spec::StoreAccess;

/// Its name in a run directory.
pub(crate) const ACCESS_FILE: &str = "application.access";

/// What runs in a run directory, or ran there last, and how its store is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) topology: Topology,
    pub(crate) store: StoreAccess,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("{path} may be read by others, and may hold a password; run: chmod 600 {path}")]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("{path} was written by another version ({reason}); start the application again")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        reason: MessagePackError,
    },
}

impl Access {
    /// Writes it into `directory` in place of what is there, for this user only.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), AccessError> {
        let path = directory.join(ACCESS_FILE);
        let fault = |source| AccessError::File {
            path: path.clone(),
            source,
        };
        let mut bytes = Vec::new();
        message_pack::encode_into(&mut bytes, self).map_err(|reason| AccessError::Foreign {
            path: path.clone(),
            reason,
        })?;
        // A temporary file is its user's alone from the first instant on.
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(fault)?;
        file.write_all(&bytes).map_err(fault)?;
        file.persist(&path).map_err(|error| fault(error.error))?;
        Ok(())
    }

    /// Reads it; `None` if nothing has ever run in `directory`.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, AccessError> {
        let path = directory.join(ACCESS_FILE);
        let fault = |source| AccessError::File {
            path: path.clone(),
            source,
        };
        let metadata = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            outcome => outcome.map_err(fault)?,
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(AccessError::Exposed { path });
        }
        let bytes = std::fs::read(&path).map_err(fault)?;
        message_pack::decode(&bytes)
            .map(Some)
            .map_err(|reason| AccessError::Foreign { path, reason })
    }
}

impl StoreAccess {
    /// Connects to the store of `application`; `security` protects the way to one that is served.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it is out of reach at present, [`StoreError::Refused`] with the
    /// cure if it must not be used.
    pub async fn connect(
        &self,
        application: &EntityId,
        security: &Security,
    ) -> Result<AnyStore, StoreError> {
        match self {
            Self::Served { address, token } => {
                let address: Address = address.parse().map_err(|error| StoreError::Refused {
                    attempted: "connecting to the store".into(),
                    reason: format!("{error}"),
                    cure: "start the application again".into(),
                })?;
                let served = Served::connect(address, Token::new(token), security.clone()).await;
                served.map(AnyStore::Served)
            }
            Self::Redis { .. } => {
                let settings = self.redis_settings(application);
                let settings = settings.expect("it is an access to Redis");
                RedisStore::connect(settings).await.map(AnyStore::Redis)
            }
        }
    }

    /// The address of a store that is served over TCP.
    pub(crate) fn tcp(&self) -> Option<IpAddr> {
        match self {
            Self::Served { address, .. } => match address.parse() {
                Ok(Address::Tcp(address)) => Some(address.ip()),
                Ok(Address::Unix(_)) | Err(_) => None,
            },
            Self::Redis { .. } => None,
        }
    }

    /// How a Redis server is reached; `None` for an embedded store.
    pub(crate) fn redis_settings(&self, application: &EntityId) -> Option<RedisSettings> {
        match self {
            Self::Served { .. } => None,
            Self::Redis {
                url,
                user,
                password,
                durability,
            } => {
                let url = with_credentials(url, user.as_deref(), password.as_deref());
                let mut settings = RedisSettings::new(&url, application.clone());
                settings.durability = match durability {
                    Durability::Required => RedisDurability::Required,
                    Durability::Process => RedisDurability::Process,
                };
                Some(settings)
            }
        }
    }
}

/// Puts credentials where a Redis URL has them.
fn with_credentials(url: &str, user: Option<&str>, password: Option<&str>) -> String {
    match (url.split_once("://"), password) {
        (Some((scheme, rest)), Some(password)) => {
            let user = percent_encoded(user.unwrap_or_default());
            format!("{scheme}://{user}:{}@{rest}", percent_encoded(password))
        }
        (Some(_) | None, _) => url.to_owned(),
    }
}

/// Writes out what has a meaning in a URL.
fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let text = r#"
            [application]
            name = "home"
            [servers.pc]
            storage = "volatile"
            [elements.lamp]
            kind = "Lamp"
            server = "pc"
            inputs = { "hall/motion" = "Motion" }
        "#;
        let topology = lamplighter_config::parse("home.toml", text)
            .unwrap()
            .topology;
        let store = StoreAccess::Redis {
            url: "redis://127.0.0.1:6379".into(),
            user: None,
            password: Some("hunter2".into()),
            durability: Durability::Required,
        };
        Access { topology, store }
    }

    #[test]
    fn what_is_left_for_commands_is_its_users_alone() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Access::read(directory.path()).unwrap(), None);
        access().write(directory.path()).unwrap();
        let path = directory.path().join(ACCESS_FILE);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(Access::read(directory.path()).unwrap(), Some(access()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Access::read(directory.path()).unwrap_err();
        assert!(matches!(refused, AccessError::Exposed { .. }), "{refused}");
    }

    #[test]
    fn a_password_keeps_its_meaning_in_a_url() {
        let url = "redis://10.0.0.7:6379/2";
        assert_eq!(with_credentials(url, Some("me"), None), url);
        assert_eq!(
            with_credentials(url, None, Some("s")),
            "redis://:s@10.0.0.7:6379/2"
        );
        assert_eq!(
            with_credentials(url, Some("me"), Some("a/b@c:ü")),
            "redis://me:a%2Fb%40c%3A%C3%BC@10.0.0.7:6379/2"
        );
    }
}
