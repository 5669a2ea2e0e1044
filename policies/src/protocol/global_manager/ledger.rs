//! The ledger: how every entity is, where every element belongs, and which plans are open, as the
//! global manager decided it (paper, 4.2.2, *the list of failed entities*).
//!
//! It is a fold of the journal and of nothing else. A manager that was started again folds the same
//! journal and knows the same.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::notification::{EntityState, Notice, NoticeDecision};
use crate::protocol::control::Failure;
use crate::recovery::plan::{Plan, Progress};
use crate::time::WallClock;

/// How many entries the timeline keeps; older ones make room.
pub const TIMELINE_ENTRIES_MAX: usize = 1_024;

/// For how long failures of a server are held against it.
const FAILURES_WITHIN: Duration = Duration::from_secs(600);

/// How many failures of one server are remembered.
const FAILURES_MAX: usize = 16;

/// How many steps may fail on one server before nothing more is placed there.
pub const STRIKES_MAX: u32 = 3;

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was decided.
    pub at: WallClock,
    /// What.
    pub change: Change,
}

/// What the manager decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// An entity is otherwise than before.
    Entity {
        /// What is told of it.
        notice: Notice,
        /// Why, for people.
        cause: String,
    },
    /// A plan was decided; the places that it gives are taken with it.
    PlanBegun(Plan),
    /// A step of a plan got further.
    Stepped {
        /// Which plan.
        plan: u64,
        /// The element of the step.
        element: EntityId,
        /// How far.
        progress: Progress,
    },
    /// Nothing more is to be done for a plan.
    PlanEnded(u64),
    /// An element was repaired, as its agent measured it. Said again with the first new event.
    Repaired {
        /// Which element.
        element: EntityId,
        /// Where.
        server: EntityId,
        /// What failed, and how long each part of the repair took.
        failure: Failure,
    },
    /// Whether new elements may be placed on a server, by an operator's word.
    Drained {
        /// Which server.
        server: EntityId,
        /// Whether none may.
        drained: bool,
    },
    /// A step failed on a server.
    Struck {
        /// Which server.
        server: EntityId,
        /// What happened, for people.
        reason: String,
    },
}

/// Everything that the manager decided and that holds still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    entities: BTreeMap<EntityId, Standing>,
    places: BTreeMap<EntityId, Place>,
    plans: BTreeMap<u64, Plan>,
    last_plan: u64,
    drained: BTreeSet<EntityId>,
    strikes: BTreeMap<EntityId, u32>,
    /// Per server, when it failed.
    failures: BTreeMap<EntityId, Vec<WallClock>>,
    /// Per element, where it was repaired last, and how that went.
    repairs: BTreeMap<EntityId, (EntityId, Failure)>,
    timeline: VecDeque<Entry>,
}

/// How one entity is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What was told of it last.
    pub notice: Notice,
    /// Why, for people.
    pub cause: String,
    /// Since when.
    pub since: WallClock,
}

/// Where an element belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The server; that where it was last, if it runs nowhere.
    pub server: EntityId,
    /// No claim of it may have a lower epoch.
    pub fence: u64,
    /// Why it runs nowhere, if it does not.
    pub idle: Option<String>,
    /// Whether it was placed by a plan and must be recovered, not started.
    pub replaced: bool,
}

impl Ledger {
    /// Takes one entry of the journal, in its order.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.change {
            Change::Entity { notice, cause } => self.changed(entry.at, notice, cause),
            Change::PlanBegun(plan) => self.begun(plan),
            Change::Stepped {
                plan,
                element,
                progress,
            } => self.stepped(*plan, element, progress),
            Change::PlanEnded(plan) => {
                self.plans.remove(plan);
            }
            Change::Repaired {
                element,
                server,
                failure,
            } => {
                let repair = (server.clone(), failure.clone());
                self.repairs.insert(element.clone(), repair);
            }
            Change::Drained { server, drained } => {
                if *drained {
                    self.drained.insert(server.clone());
                } else {
                    self.drained.remove(server);
                    self.strikes.remove(server);
                }
            }
            Change::Struck { server, .. } => {
                *self.strikes.entry(server.clone()).or_default() += 1;
            }
        }
        if self.timeline.len() >= TIMELINE_ENTRIES_MAX {
            self.timeline.pop_front();
        }
        self.timeline.push_back(entry.clone());
    }

    fn changed(&mut self, at: WallClock, notice: &Notice, cause: &str) {
        let standing = Standing {
            notice: notice.clone(),
            cause: cause.into(),
            since: at,
        };
        self.entities.insert(notice.entity.clone(), standing);
        // Elements may fail often and are not placed upon; only those without a place count here.
        if notice.state == EntityState::Failed && !self.places.contains_key(&notice.entity) {
            let failures = self.failures.entry(notice.entity.clone()).or_default();
            failures.retain(|failed| at.since(*failed) < FAILURES_WITHIN);
            failures.push(at);
            let surplus = failures.len().saturating_sub(FAILURES_MAX);
            failures.drain(..surplus);
        }
    }

    fn begun(&mut self, plan: &Plan) {
        self.last_plan = self.last_plan.max(plan.number);
        for (element, step) in &plan.steps {
            let idle = match &step.progress {
                Progress::GivenUp { reason } => Some(reason.clone()),
                Progress::Decided
                | Progress::Deployed
                | Progress::Restored
                | Progress::Resumed
                | Progress::Superseded => None,
            };
            let place = Place {
                server: step.to.as_ref().unwrap_or(&step.from).clone(),
                fence: step.fence,
                idle,
                replaced: true,
            };
            self.places.insert(element.clone(), place);
        }
        self.plans.insert(plan.number, plan.clone());
    }

    fn stepped(&mut self, plan: u64, element: &EntityId, progress: &Progress) {
        let step = self.plans.get_mut(&plan);
        if let Some(step) = step.and_then(|plan| plan.steps.get_mut(element)) {
            step.progress = progress.clone();
        }
        if let (Progress::GivenUp { reason }, Some(place)) =
            (progress, self.places.get_mut(element))
        {
            place.idle = Some(reason.clone());
        }
    }

    /// How an entity is; one of which nothing was ever decided is as it should be.
    #[must_use]
    pub fn state(&self, entity: &EntityId) -> &EntityState {
        let standing = self.entities.get(entity);
        standing.map_or(&EntityState::Up, |standing| &standing.notice.state)
    }

    /// The number of the last change of an entity; 0 before the first.
    #[must_use]
    pub fn epoch(&self, entity: &EntityId) -> u64 {
        let standing = self.entities.get(entity);
        standing.map_or(0, |standing| standing.notice.epoch)
    }

    /// What was decided last about every entity of which anything was.
    pub fn standings(&self) -> impl Iterator<Item = (&EntityId, &Standing)> {
        self.entities.iter()
    }

    /// What those who depend on an entity were told to do.
    #[must_use]
    pub fn decision(&self, entity: &EntityId) -> Option<&NoticeDecision> {
        let standing = self.entities.get(entity)?;
        Some(&standing.notice.decision)
    }

    /// Where an element belongs, if a plan ever decided that.
    #[must_use]
    pub fn place(&self, element: &EntityId) -> Option<&Place> {
        self.places.get(element)
    }

    /// All places that plans gave.
    pub fn places(&self) -> impl Iterator<Item = (&EntityId, &Place)> {
        self.places.iter()
    }

    /// The plans that are not carried out yet.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.plans.values()
    }

    /// The number of the next plan.
    #[must_use]
    pub fn next_plan(&self) -> u64 {
        self.last_plan + 1
    }

    /// The step that is to be done for an element, with the number of its plan.
    #[must_use]
    pub fn open_step(&self, element: &EntityId) -> Option<(u64, &crate::recovery::plan::Step)> {
        let steps = self.plans.values().rev().filter_map(|plan| {
            let step = plan.steps.get(element)?;
            (!step.progress.is_over()).then_some((plan.number, step))
        });
        steps.into_iter().next()
    }

    /// Whether an operator wants nothing new on a server.
    #[must_use]
    pub fn is_drained(&self, server: &EntityId) -> bool {
        self.drained.contains(server)
    }

    /// Whether too many steps failed on a server.
    #[must_use]
    pub fn is_cordoned(&self, server: &EntityId) -> bool {
        self.strikes
            .get(server)
            .is_some_and(|strikes| *strikes >= STRIKES_MAX)
    }

    /// How often a server failed lately, and when last.
    #[must_use]
    pub fn failures(&self, server: &EntityId, now: WallClock) -> (usize, Option<WallClock>) {
        let failures = self.failures.get(server).map_or(&[][..], Vec::as_slice);
        let lately = failures
            .iter()
            .filter(|at| now.since(**at) < FAILURES_WITHIN);
        (lately.count(), failures.last().copied())
    }

    /// Where an element was repaired last, and how that went.
    #[must_use]
    pub fn repair(&self, element: &EntityId) -> Option<(&EntityId, &Failure)> {
        let (server, failure) = self.repairs.get(element)?;
        Some((server, failure))
    }

    /// What was decided, oldest first, as far back as is kept.
    pub fn timeline(&self) -> impl Iterator<Item = &Entry> {
        self.timeline.iter()
    }
}
