//! What is saved of an element, as its cell is given it back.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Explanation;
use crate::ids::EntityId;
use crate::physical_world::{Position, World};
use crate::protocol::appliances::Reconfiguration;
use crate::state_saving::{Batch, Calls, Lost, Orphaned, SavedCommands, SavedOutbox, Timers};

/// The saved state of an element, decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// The index up to which the checkpoint covers the log.
    pub checkpoint: u64,
    /// The index of the last record in the log.
    pub head: u64,
    /// What the checkpoint says besides the element's own state.
    pub meta: Meta,
    /// The records after the checkpoint; a first batch may begin before it.
    pub log: Vec<Batch>,
    /// The index of the last record that the stable store holds; the rest is in the local log.
    pub stable: u64,
}

/// What a checkpoint saves besides the element's own state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The lineage under which outputs are identified; 0 before the first checkpoint.
    pub lineage: u32,
    /// Per binding, the last event folded into the state.
    pub folded: BTreeMap<EntityId, Position>,
    /// Per binding, what was sent and not acknowledged.
    pub outboxes: BTreeMap<EntityId, SavedOutbox>,
    /// Per flow to an appliance, what was emitted and not carried out.
    pub commands: BTreeMap<String, SavedCommands>,
    /// The timers.
    pub timers: Timers,
    /// Per binding to a device, digests of the last events that the state has folded.
    pub remembered: BTreeMap<EntityId, Vec<u64>>,
    /// What is known of the physical world.
    #[serde(default)]
    pub world: World,
    /// What the last recovery did; `None` if there was none.
    #[serde(default)]
    pub explanation: Option<Box<Explanation>>,
    /// The calls whose answers were not handled.
    #[serde(default)]
    pub calls: Calls,
    /// What was lost with a server, oldest first; the newest few.
    #[serde(default)]
    pub losses: Vec<Lost>,
    /// What was received of sources that lost it, oldest first; the newest few.
    #[serde(default)]
    pub orphaned: Vec<Orphaned>,
    /// Who serves in the places of the element's appliances, and how those around it are.
    #[serde(default)]
    pub reconfiguration: Box<InForce>,
}

/// What was decided and is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// The place of the last reconfiguration in the log; 0 if there was none.
    pub version: u64,
    /// All of it.
    pub table: Reconfiguration,
}
