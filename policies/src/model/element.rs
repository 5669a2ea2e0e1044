//! A software element: what an author writes, hosted on a fog node (paper, 3.1).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::infrastructure::Resources;
use super::services::Durability;
use super::value::Value;
use crate::ids::EntityId;
use crate::restart::RestartPolicy;

/// A software element as the topology describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Element {
    /// The name under which the program registers the code.
    pub kind: String,
    /// The server that hosts it; `None` leaves the choice to the lifecycle manager.
    pub server: Option<EntityId>,
    /// The first value of its state.
    pub state: BTreeMap<String, Value>,
    /// Whether it promises to keep nothing from one event to the next.
    pub stateless: bool,
    /// Whether the application is worth nothing without it.
    pub essential: bool,
    /// Who is placed first when room is short; greater is first.
    pub criticality: u8,
    /// What it needs of its server.
    pub demand: Resources,
    /// When its inputs and commands are logged, if other than Figure 4 says.
    pub log: LogChoice,
    /// How often its state is saved.
    pub checkpoint: CheckpointPolicy,
    /// How often and how soon it is started again.
    pub restart: RestartPolicy,
    /// How often an input may fail before it is a dead letter; at least 1.
    pub attempts: u32,
    /// How many inputs may wait, 1 to 65536; beyond that, senders wait.
    pub mailbox: u32,
    /// What its log must survive: that of the store.
    pub durability: Durability,
    /// What becomes of an input that had expired when it was logged.
    pub on_expired: OnExpired,
    /// How far the stable store may be behind an optimistic log.
    pub lag: Lag,
    /// Which servers may host it, besides what they must offer.
    pub placement: PlacementRules,
    /// How long one call of its code may take; at least 100 ms. After that its process ends.
    pub handler_within: Duration,
}

/// Which servers may host an element (paper, 4.2.4: physical and logical constraints).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRules {
    /// Only servers of one of these zones; none named is any.
    pub zones: BTreeSet<String>,
    /// Only processors of one of these architectures; none named is any. A server that does not say
    /// its own has any.
    pub architectures: BTreeSet<String>,
    /// Only servers that have all of these labels.
    pub labels: BTreeSet<String>,
    /// Always on the same server as these elements.
    pub together: BTreeSet<EntityId>,
    /// Never on the same server as one of these elements.
    pub apart: BTreeSet<EntityId>,
    /// Never anywhere but on the server that the topology names.
    pub pinned: bool,
}

/// An author's say about when an element's log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogChoice {
    /// As Figure 4 derives it.
    #[default]
    Derived,
    /// Before delivery, whatever the storage.
    Pessimistic,
    /// After delivery; on persistent storage only.
    Optimistic,
    /// Never: what is under way when the element fails is lost.
    None,
}

/// When a checkpoint is due: at whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPolicy {
    /// After this many inputs; at least 1.
    pub every: u64,
    /// This long after the last one if there was any input; at least 10 ms.
    pub interval: Duration,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self {
            every: 500,
            interval: Duration::from_secs(5),
        }
    }
}

/// What becomes of an input that had expired when it was logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExpired {
    /// It is folded into the state, and nothing leaves.
    #[default]
    Absorb,
    /// It is left out (the paper's own rule).
    Skip,
}

/// How far the stable store may be behind an optimistic log; beyond it the element waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// In time.
    pub time: Duration,
    /// In records; at least 1.
    pub records: u64,
}

impl Default for Lag {
    /// 200 ms or 64 records, whichever is reached first.
    fn default() -> Self {
        Self {
            time: Duration::from_millis(200),
            records: 64,
        }
    }
}
