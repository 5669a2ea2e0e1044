//! What the manager and the agents tell each other about servers (paper, 4.2.2).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::heartbeat::HeartbeatProfile;
use crate::ids::EntityId;

/// Another server, as an agent must know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Which server.
    pub server: EntityId,
    /// Where its agent hears heartbeats, `host:port`; `None` if the manager does not know it, and then
    /// what was known before holds.
    pub address: Option<String>,
    /// The incarnation under which its heartbeats come; `None` if the manager does not know it.
    pub incarnation: Option<u64>,
}

/// What the heartbeats of an application are signed with; it is never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatSecret(String);

impl HeartbeatSecret {
    /// Takes a secret.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    /// The secret, for whoever signs with it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HeartbeatSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeartbeatSecret(…)")
    }
}

/// Whom an agent observes, and who observes it. The newest holds and replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The application, which is part of every packet.
    pub application: EntityId,
    /// What packets are signed with.
    pub secret: HeartbeatSecret,
    /// How heartbeats are sent and judged.
    pub rules: HeartbeatProfile,
    /// The servers whose heartbeats it expects.
    pub observed: Vec<Peer>,
    /// The servers to which it sends its own.
    pub observers: Vec<Peer>,
}

/// What an agent noticed of another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Noticed {
    /// Its heartbeats stay away.
    Suspected {
        /// Which server.
        server: EntityId,
        /// Since when nothing was heard of it.
        silent_for: Duration,
        /// How often the observer's own timers were late lately, 0 to 8.
        unwellness: u8,
    },
    /// It gave a sign of life after it was suspected, given up or asked about.
    Heard {
        /// Which server.
        server: EntityId,
    },
    /// It was asked about, and gave no sign of life.
    Silent {
        /// Which server.
        server: EntityId,
        /// As in [`Noticed::Suspected`].
        unwellness: u8,
    },
}

impl Noticed {
    /// The server of which something was noticed.
    #[must_use]
    pub fn server(&self) -> &EntityId {
        match self {
            Self::Suspected { server, .. }
            | Self::Heard { server }
            | Self::Silent { server, .. } => server,
        }
    }
}

/// What the manager thinks of a server that somebody suspects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Judgement {
    /// Others heard it.
    Alive,
    /// It failed.
    Failed,
}

/// What the manager asks of an agent's monitor of servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MonitorOrder {
    /// Whom to observe.
    Observe(Observation),
    /// Somebody suspects a server: look too.
    Look(Peer),
    /// What is thought of a server.
    Judge(EntityId, Judgement),
}
