//! What an element is told of those around it: who serves in whose place, and how each is (paper, 4.2.3
//! and 4.2.4).
//!
//! Who serves for appliances is a whole table with an epoch; how entities are is a table by entity. Of
//! both the newest holds, so it does no harm where a reconfiguration is lost, repeated or late. Whoever
//! was told keeps it, and tells a manager that was started again.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::notification::{EntityState, NoticeDecision, Table, Told};
use crate::time::WallClock;

/// Who serves in the places of the appliances of one element, and how the entities around it are.
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
    /// How the entities around the element are, by those who know.
    #[serde(rename = "p", default)]
    pub peers: Table,
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
    /// One that says only how entities are.
    #[must_use]
    pub fn of_peers(peers: Table) -> Self {
        Self {
            peers,
            ..Self::default()
        }
    }

    /// Takes what is newer in `other`. Says whether anything was.
    pub fn join(&mut self, other: &Self) -> bool {
        let is_newer = other.epoch > self.epoch;
        if is_newer {
            self.epoch = other.epoch;
            self.served = other.served.clone();
            self.application_failed
                .clone_from(&other.application_failed);
        }
        self.peers.join(&other.peers) || is_newer
    }

    /// Whether nothing in `other` is news.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.epoch <= self.epoch && self.peers.covers(&other.peers)
    }

    /// How all entities are, appliances among them: one in whose place nobody serves failed, and is
    /// done without.
    #[must_use]
    pub fn seen(&self) -> Table {
        let mut seen = self.peers.clone();
        for (appliance, served) in &self.served {
            let (state, decision) = match served {
                Served::By(by) => (
                    EntityState::Replaced(by.clone()),
                    NoticeDecision::ConnectTo(by.clone()),
                ),
                Served::Nobody => (EntityState::Failed, NoticeDecision::RunWithout),
            };
            let told = Told {
                term: 0,
                epoch: self.epoch,
                state,
                decision,
            };
            seen.peers.entry(appliance.clone()).or_default().told = Some(told);
        }
        seen
    }

    /// Whether both say the same of appliances, whenever it was decided.
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
