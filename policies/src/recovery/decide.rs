//! What is done about failures (paper, 4.2.4: the nature of the entity decides): an element is started
//! again in place, else placed elsewhere; a server's elements are placed together; an appliance is
//! replaced. Where that is not possible the less critical give way, and then the application is
//! degraded or has failed. Every outcome has its reason.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::causality::{Closure, Surroundings, closure};
use super::essential::importance;
use super::substitution::{self, Standing};
use crate::ids::EntityId;
use crate::model::Topology;
use crate::placement::{Budget, Eviction, Move, NoPlace, Placement, Problem, place};
use crate::protocol::appliances::ApplicationState;

/// All that a decision follows from: how things are just before the failure.
#[derive(Clone, Debug)]
pub struct Case<'t> {
    /// Where elements run, which servers take some, who may give way, and what failed before. Nothing
    /// needs to be open.
    pub problem: Problem<'t>,
    /// The server on which the manager runs, if that is known.
    pub manager: Option<&'t EntityId>,
    /// Elements that must not be started again where they are: they failed there too often.
    pub exhausted: BTreeSet<EntityId>,
    /// Appliances that failed before.
    pub appliances_failed: BTreeSet<EntityId>,
    /// Appliances that cannot be reached for a reason that is not their own.
    pub unreachable: BTreeSet<EntityId>,
    /// Who stands in for whom at present.
    pub standing: Standing,
}

/// What is done, and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What fails with what.
    pub closure: Closure,
    /// What becomes of each element that fails or has to make way.
    pub elements: BTreeMap<EntityId, Fate>,
    /// Who serves in the places of the appliances that failed.
    pub appliances: BTreeMap<EntityId, substitution::Decision>,
    /// Where everything runs afterwards.
    pub placement: Placement,
    /// How the application is afterwards.
    pub application: ApplicationState,
}

/// What becomes of an element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It is started again on its server.
    RestartInPlace {
        /// Which.
        on: EntityId,
    },
    /// It goes to another server.
    Redeploy {
        /// From where.
        from: EntityId,
        /// To where.
        to: EntityId,
    },
    /// It runs, and moves so that another has room.
    MakeWay(Move),
    /// It runs, and is stopped so that another has room.
    Stop(Eviction),
    /// No server can host it: it waits for one.
    Wait(NoPlace),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RestartInPlace { on } => write!(f, "is started again on {on}"),
            Self::Redeploy { from, to } => write!(f, "goes from {from} to {to}"),
            Self::MakeWay(Move {
                from,
                to,
                for_the_sake_of,
            }) => write!(
                f,
                "moves from {from} to {to}, so that {for_the_sake_of} has room"
            ),
            Self::Stop(Eviction {
                from,
                for_the_sake_of,
            }) => write!(
                f,
                "is stopped on {from}, so that {for_the_sake_of} has room, which is more critical"
            ),
            Self::Wait(why) => write!(f, "waits for a server: {why}"),
        }
    }
}

/// Decides about failures that are dealt with together.
#[must_use]
pub fn decide(case: Case<'_>, roots: &BTreeSet<EntityId>, budget: Budget) -> Outcome {
    let topology = case.problem.topology;
    let surroundings = Surroundings {
        topology,
        hosts: &case.problem.fixed,
        down: &case.problem.down,
        manager: case.manager,
    };
    let closure = closure(surroundings, roots);
    let (displaced, mut fates) = displaced(&case, &closure);
    let failed = |id: &&EntityId| closure.failed.contains_key(*id);
    let appliances = topology.appliances.keys().filter(failed).cloned();
    let appliances = case.appliances_failed.iter().cloned().chain(appliances);
    let appliances_failed: BTreeSet<EntityId> = appliances.collect();
    let servers_away: BTreeSet<EntityId> =
        topology.servers.keys().filter(failed).cloned().collect();
    let problem = after(case.problem, &case.exhausted, &closure, &displaced);
    let from = |element: &EntityId| displaced.get(element).cloned();
    let placement = place(&problem, budget);
    for element in displaced.keys() {
        let fate = match (placement.hosts.get(element), from(element)) {
            (Some(to), Some(from)) if from != *to => Fate::Redeploy {
                from,
                to: to.clone(),
            },
            (Some(to), _) => Fate::RestartInPlace { on: to.clone() },
            (None, _) => Fate::Wait(placement.unplaced.get(element).cloned().unwrap_or_default()),
        };
        fates.insert(element.clone(), fate);
    }
    let moved = placement.moved.iter();
    fates.extend(moved.map(|(id, it)| (id.clone(), Fate::MakeWay(it.clone()))));
    let evicted = placement.evicted.iter();
    fates.extend(evicted.map(|(id, it)| (id.clone(), Fate::Stop(it.clone()))));
    let appliances = substitution::decide(substitution::Situation {
        topology,
        failed: &appliances_failed,
        unreachable: &case.unreachable,
        servers_away: &servers_away,
        standing: &case.standing,
    });
    let application = application(topology, &fates, &appliances);
    Outcome {
        closure,
        elements: fates,
        appliances,
        placement,
        application,
    }
}

type Fates = BTreeMap<EntityId, Fate>;

/// The elements that need a server, with where they were, and what becomes of those that do not.
fn displaced(case: &Case<'_>, closure: &Closure) -> (BTreeMap<EntityId, EntityId>, Fates) {
    let mut displaced = BTreeMap::new();
    let mut fates = Fates::new();
    for (element, server) in &case.problem.fixed {
        let is_lost = closure.failed.contains_key(server) || case.problem.down.contains(server);
        let failed = closure.failed.contains_key(element);
        if is_lost || failed && case.exhausted.contains(element) {
            displaced.insert(element.clone(), server.clone());
        } else if failed {
            let on = server.clone();
            fates.insert(element.clone(), Fate::RestartInPlace { on });
        }
    }
    (displaced, fates)
}

/// The problem that the failures leave.
fn after<'t>(
    mut problem: Problem<'t>,
    exhausted: &BTreeSet<EntityId>,
    closure: &Closure,
    displaced: &BTreeMap<EntityId, EntityId>,
) -> Problem<'t> {
    let topology = problem.topology;
    problem
        .servers
        .retain(|server| !closure.failed.contains_key(server));
    problem
        .fixed
        .retain(|element, _| !displaced.contains_key(element));
    // One that is being started again does not move meanwhile.
    problem
        .evictable
        .retain(|id| !closure.failed.contains_key(id));
    problem
        .movable
        .retain(|id| !closure.failed.contains_key(id));
    problem.open.extend(displaced.keys().cloned());
    for (element, server) in displaced {
        if exhausted.contains(element) {
            let barred = problem.barred.entry(element.clone()).or_default();
            barred.insert(server.clone());
        }
    }
    // An appliance that failed keeps nobody from anywhere; ways go only over what works.
    let is_infrastructure = |id: &&EntityId| {
        topology.servers.contains_key(*id)
            || topology.channels.contains_key(*id)
            || topology.appliances.contains_key(*id)
    };
    let failed = closure.failed.keys().filter(is_infrastructure);
    problem.down.extend(failed.cloned());
    problem
}

/// How the application is when all that was decided is done.
fn application(
    topology: &Topology,
    fates: &Fates,
    appliances: &BTreeMap<EntityId, substitution::Decision>,
) -> ApplicationState {
    let importance = importance(topology);
    let mut reasons: Vec<String> = Vec::new();
    for (element, fate) in fates {
        let why = match fate {
            Fate::Wait(why) => why.to_string(),
            Fate::Stop(Eviction {
                for_the_sake_of, ..
            }) => format!("{for_the_sake_of} needs its room"),
            Fate::RestartInPlace { .. } | Fate::Redeploy { .. } | Fate::MakeWay(_) => continue,
        };
        let known = importance.get(element);
        if known.is_some_and(|known| known.essential) {
            let for_whom = known.and_then(|known| known.essential_for.as_ref());
            let for_whom = for_whom.map_or_else(String::new, |id| format!(" for {id}"));
            return ApplicationState::Failed {
                reason: format!("{element} is essential{for_whom} and has no place: {why}"),
            };
        }
        reasons.push(format!("{element} runs nowhere: {why}"));
    }
    for (appliance, decision) in appliances {
        match decision {
            substitution::Decision::Substitute { .. } => {}
            substitution::Decision::Nobody { .. } => {
                let known = topology.appliances.get(appliance);
                if known.is_some_and(|known| known.essential) {
                    return ApplicationState::Failed {
                        reason: format!("{appliance} is essential, and nothing can take its place"),
                    };
                }
                reasons.push(format!("{appliance} failed and nothing can take its place"));
            }
        }
    }
    match reasons.is_empty() {
        true => ApplicationState::Whole,
        false => ApplicationState::Degraded { reasons },
    }
}

/// Who is told of the failure of an entity: the elements that require it, and those that it requires
/// and that send it something.
#[must_use]
pub fn told(topology: &Topology, entity: &EntityId) -> BTreeSet<EntityId> {
    let mut told: BTreeSet<EntityId> = topology.dependents(entity).cloned().collect();
    let to_it = topology
        .flows()
        .filter(|flow| flow.target.element() == Some(entity));
    told.extend(to_it.filter_map(|flow| flow.source.element()).cloned());
    told.remove(entity);
    told
}
