//! Where the server is and what is asked of it.

use std::fmt;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::store::{Nonce, StoreError};

/// What saved state must survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A restart of the server and of its machine; a server that cannot is refused.
    #[default]
    Required,
    /// The end of the element's process only.
    Process,
}

/// How the Redis store is reached.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/database]` or `redis+unix:///path`. It may hold a
    /// password, so it is never shown.
    pub url: String,
    /// Whose elements; part of every key, so that applications can share a server.
    pub application: EntityId,
    /// What the server must promise.
    pub durability: Durability,
    /// The identity that the store had before, so that an emptied one is refused.
    pub identity: Option<StoreIdentity>,
    /// How long a reply, or a connection, may take before the write counts as unanswered. It must
    /// be longer than a slow write to disk: the server answers nobody during one.
    pub patience: Duration,
}

/// A random number that a store is given once; a store without it has been emptied.
pub type StoreIdentity = Nonce;

impl RedisSettings {
    /// Settings for `application` on the server at `url`, for state that must last.
    #[must_use]
    pub fn new(url: &str, application: EntityId) -> Self {
        Self {
            url: url.to_owned(),
            application,
            durability: Durability::Required,
            identity: None,
            patience: Duration::from_secs(2),
        }
    }

    /// The parts of the url, or why it cannot be used.
    pub(super) fn target(&self) -> Result<ConnectionInfo, StoreError> {
        let refused = |reason: String| StoreError::Refused {
            attempted: "reading the store's url".to_owned(),
            reason,
            cure: "write it as redis://127.0.0.1:6379 or redis+unix:///run/redis.sock".to_owned(),
        };
        let target = self.url.as_str().into_connection_info().map_err(|fault| {
            // The fault's text may quote the url, and with it a password.
            refused(format!(
                "it is not the address of a Redis server ({})",
                fault.category()
            ))
        })?;
        if matches!(
            target.addr(),
            ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_)
        ) {
            Ok(target)
        } else {
            Err(refused("encrypted connections are not built in".to_owned()))
        }
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("application", &self.application)
            .field("durability", &self.durability)
            .field("identity", &self.identity)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let application = EntityId::new("home").unwrap();
        let mut settings = RedisSettings::new("redis://me:secret@127.0.0.1:1", application);
        assert!(!format!("{settings:?}").contains("secret"));
        for wrong in ["redis://me:secret@[::", "http://me:secret@x", "secret"] {
            settings.url = wrong.to_owned();
            let shown = settings.target().unwrap_err().to_string();
            assert!(!shown.contains("secret"), "{shown}");
            assert!(shown.contains("write it as redis://"), "{shown}");
        }
    }
}
