//! What the whole application relies on: stable store, broker, failure detection.

use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// The stable store and what it must survive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Which implementation.
    pub kind: StoreKind,
    /// What an acknowledged write must survive.
    pub durability: Durability,
    /// How long an element that cannot reach the store goes on sending commands to devices.
    pub lease: Duration,
}

/// Which stable store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// Files of the manager, which serves them to the other processes.
    Embedded,
    /// A Redis server.
    Redis(RedisServer),
}

/// Whose Redis server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RedisServer {
    /// One that is started and stopped with the application.
    Managed,
    /// One that runs by itself.
    External {
        /// Its address, `redis://host:port/db` or `rediss://…`, without credentials.
        url: String,
        /// Who we are to it.
        credentials: Credentials,
    },
}

/// What an acknowledged write must survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// A power failure of the store's machine, as far as its disk is honest.
    #[default]
    Required,
    /// The death of any process, the store's included, but not a power failure.
    Process,
}

/// The broker that carries messages between elements and to devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Broker {
    /// A child process of the same program.
    Embedded,
    /// A Mosquitto that is started and stopped with the application.
    Mosquitto,
    /// One that runs by itself.
    External {
        /// Its address, `mqtt://host:port` or `mqtts://…`, without credentials.
        url: String,
        /// Who we are to it.
        credentials: Credentials,
    },
}

/// A user and where its password is found. The password itself is never here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The user's name.
    pub user: Option<String>,
    /// Where the password is found.
    pub password: Option<SecretSource>,
}

/// Where a secret is found at start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// In this variable of the environment.
    Env(String),
    /// In this file, without the line's end.
    File(String),
}

/// How failures are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detection {
    /// How eager the heartbeats are.
    pub profile: DetectionProfile,
    /// How long an agent waits for the manager's decision before it acts alone.
    pub autonomy_after: Duration,
    /// How far the clocks of two machines may differ: no shorter validity can be trusted.
    pub skew_max: Duration,
}

impl Store {
    /// How long commands go on without the store where the topology does not say.
    pub const LEASE: Duration = Duration::from_secs(2);
}

impl Default for Detection {
    fn default() -> Self {
        Self {
            profile: DetectionProfile::default(),
            autonomy_after: Duration::from_millis(100),
            skew_max: Duration::from_millis(50),
        }
    }
}

/// How eager the heartbeats are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectionProfile {
    /// Every 100 ms: a wired network.
    #[default]
    Fast,
    /// Every 500 ms, as the paper measured.
    Paper,
    /// Patient with the gaps of wireless networks.
    Wifi,
}
