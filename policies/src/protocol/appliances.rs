//! What is told of appliances: who serves in whose place, and how each is (paper, 4.2.3 and 4.2.4).
//!
//! A reconfiguration is a whole table with an epoch, not a change: the newest one holds, so it does no
//! harm where one is lost, repeated or late. Whoever was told keeps it, and tells a manager that was
//! started again.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::time::WallClock;

/// Who serves in the places of the appliances of one element.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconfiguration {
    /// Which decision this is; a greater one holds. 0 is none.
    #[serde(rename = "e")]
    pub epoch: u64,
    /// By appliance, who serves in its place; one that serves itself does not stand here.
    #[serde(rename = "s")]
    pub served: BTreeMap<EntityId, Served>,
    /// Why the application failed, if it did: its actuators are brought to their safe states.
    #[serde(rename = "f")]
    pub application_failed: Option<String>,
}

/// Who serves in the place of an appliance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Served {
    /// Another appliance.
    #[serde(rename = "b")]
    By(EntityId),
    /// Nobody: what is commanded waits as long as it holds.
    #[serde(rename = "n")]
    Nobody,
}

impl Reconfiguration {
    /// Whether both say the same, whenever it was decided.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        self.served == other.served && self.application_failed == other.application_failed
    }
}

/// How an appliance is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApplianceState {
    /// Nothing tells whether it is there.
    Unwatched,
    /// Nothing was heard of it yet, and nothing speaks against it.
    Unheard,
    /// It is there.
    Alive,
    /// Its bridge is down: nobody knows.
    Unreachable {
        /// Since when.
        since: WallClock,
        /// The topic on which the bridge says so.
        bridge: String,
    },
    /// It failed.
    Failed {
        /// Since when.
        since: WallClock,
        /// What was seen, for people.
        cause: String,
    },
}

/// An appliance for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplianceStatus {
    /// Which.
    pub appliance: EntityId,
    /// How it is.
    pub state: ApplianceState,
    /// The server whose agent watches it, if one does.
    pub watched_by: Option<EntityId>,
    /// Who serves in its place.
    pub replaced_by: Option<EntityId>,
    /// In whose places it serves besides its own.
    pub stands_in_for: Vec<EntityId>,
    /// What its substitute cannot do.
    pub degraded: Vec<String>,
    /// Who could not take its place, and why not.
    pub rejected: Vec<(EntityId, String)>,
}

/// How the application is, as far as its appliances go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApplicationState {
    /// All that it uses is there.
    #[default]
    Whole,
    /// It runs with less.
    Degraded {
        /// What is missing, for people.
        reasons: Vec<String>,
    },
    /// Something essential is gone, and nobody can take its place.
    Failed {
        /// What, for people.
        reason: String,
    },
}

/// A change of who serves in the place of an appliance, as the element that uses it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceChange {
    /// The output port that leads there; the binding, where the element only receives.
    pub output: String,
    /// What became of it.
    pub fate: PlaceFate,
}

/// What became of the place of an appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceFate {
    /// Nobody serves there.
    Failed,
    /// The appliance itself serves there again.
    Recovered,
    /// Another serves there.
    Replaced(EntityId),
}
