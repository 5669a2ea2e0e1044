//! What the global manager tells of one entity (paper, 4.2.3, *failure notification*).

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;

/// How an entity is, as far as others must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntityState {
    /// It works.
    #[default]
    Up,
    /// It failed, and nothing is done about it yet.
    Failed,
    /// It failed and is being recovered.
    Recovering,
    /// Another serves in its place.
    Replaced(EntityId),
    /// It works with less than it should have.
    Degraded,
    /// It lacks something without which it cannot serve, and serves what does not need it.
    Suspended,
    /// It does nothing until somebody around it is back: all its neighbours failed.
    Stopped,
}

impl fmt::Display for EntityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Failed => f.write_str("failed"),
            Self::Recovering => f.write_str("recovering"),
            Self::Replaced(by) => write!(f, "replaced by {by}"),
            Self::Degraded => f.write_str("degraded"),
            Self::Suspended => f.write_str("suspended"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// What those who depend on a failed entity are to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeDecision {
    /// Wait until it is recovered (paper, decision a).
    AwaitRecovery,
    /// Connect to another in its place (paper, decision b).
    ConnectTo(EntityId),
    /// Go on without it.
    RunWithout,
    /// Go on as before the failure: it is back.
    Resume,
}

/// One change of an entity, decided by the global manager.
///
/// The newest holds: a notice that comes late, twice or never does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Under which term of the global manager it was decided: a term that ended cannot decide.
    pub term: u64,
    /// Which entity.
    pub entity: EntityId,
    /// The number of this change of the entity; each change has a greater one.
    pub epoch: u64,
    /// How the entity is.
    pub state: EntityState,
    /// What to do.
    pub decision: NoticeDecision,
}
