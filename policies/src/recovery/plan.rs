//! What is done about failed servers and elements, as a saga: a plan with one step per element, each of
//! them safe to do twice (paper, 4.2.4; one plan for all that failed together).
//!
//! A step has no list of orders to tick off. It says where its element belongs; whoever carries it out
//! compares that with what runs, so that it can be taken up again at any point, by anybody.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::time::WallClock;

/// One decision and how far it is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Each plan has a greater number than those before it.
    pub number: u64,
    /// When it was decided.
    pub begun_at: WallClock,
    /// What led to it, with the reason for people.
    pub roots: BTreeMap<EntityId, String>,
    /// What becomes of each element that it concerns.
    pub steps: BTreeMap<EntityId, Step>,
}

/// What becomes of one element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where it was.
    pub from: EntityId,
    /// Where it belongs from now on; `None` if it runs nowhere.
    pub to: Option<EntityId>,
    /// Whether it is stopped with a last checkpoint where it was. Otherwise it is not waited for: its
    /// new owner's claim shuts it out.
    pub in_order: bool,
    /// The highest fence that anybody saw of it; its next claim is above.
    pub fence: u64,
    /// How far it is.
    pub progress: Progress,
}

/// How far one step is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// It is decided, and its place is reserved.
    Decided,
    /// The agent of its place was told to run it.
    Deployed,
    /// A host has its state and waits until what it requires is there too.
    Restored,
    /// It handles events.
    Resumed,
    /// It runs nowhere, for this reason.
    GivenUp {
        /// For people.
        reason: String,
    },
    /// A later plan decides about it.
    Superseded,
}

impl Progress {
    /// Whether nothing more is to be done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Resumed | Self::GivenUp { .. } | Self::Superseded => true,
            Self::Decided | Self::Deployed | Self::Restored => false,
        }
    }

    /// How far it is, as a number: a step never goes back.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            Self::Decided => 0,
            Self::Deployed => 1,
            Self::Restored => 2,
            Self::Resumed | Self::GivenUp { .. } => 3,
            Self::Superseded => 4,
        }
    }
}

impl Plan {
    /// Whether nothing more is to be done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.steps.values().all(|step| step.progress.is_over())
    }
}
