//! What would become of everything if one entity failed, asked before it does (paper, 4.2.4: the same
//! decision, on how things are now).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::appliances::ApplicationState;
use crate::ids::EntityId;
use crate::model::{Liveness, Topology};
use crate::recovery::Decision;
use crate::recovery::causality::{Cause, Closure};
use crate::recovery::decide::{Fate, Outcome, told};

/// How many entities one forecast names, so that it fits a frame.
pub const FORECAST_ENTITIES_MAX: usize = 200;

/// How long failures that come together are waited for before a server's elements are placed.
const COALESCED_WITHIN: Duration = Duration::from_millis(50);

/// What would become of everything if one entity failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Which would fail.
    pub entity: EntityId,
    /// How long it would go unnoticed at most; `None` if nothing watches it.
    pub noticed_within: Option<Duration>,
    /// What would fail with it, each with what it hangs on.
    pub follows: Vec<(EntityId, Cause)>,
    /// What would become of each.
    pub outcomes: Vec<Foreseen>,
    /// How many more entities it concerns that are not named.
    pub omitted: u32,
    /// How the application would be afterwards.
    pub application: ApplicationState,
}

/// What would become of one entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreseen {
    /// Which.
    pub entity: EntityId,
    /// What would become of it.
    pub becomes: Becomes,
    /// Which elements would be told.
    pub told: Vec<EntityId>,
    /// How long it would be away, noticing included, by what its last repair took; `None` if there is
    /// nothing to go by.
    pub away_for: Option<Duration>,
}

/// What becomes of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Becomes {
    /// An element is recovered, or not.
    Element(Fate),
    /// Another appliance serves in the place of one.
    ReplacedBy(EntityId),
    /// Nobody takes its place.
    DoneWithout,
    /// A server is waited for.
    Awaited,
}

impl fmt::Display for Becomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(fate) => write!(f, "{fate}"),
            Self::ReplacedBy(by) => write!(f, "{by} takes its place"),
            Self::DoneWithout => f.write_str("is done without: nothing can take its place"),
            Self::Awaited => f.write_str("is taken back when it returns"),
        }
    }
}

impl Forecast {
    /// The forecast that a decision amounts to. `repaired` says how long the last repair of each
    /// element took from the moment it was seen to fail.
    #[must_use]
    pub fn new(
        topology: &Topology,
        entity: &EntityId,
        outcome: &Outcome,
        repaired: &BTreeMap<EntityId, Duration>,
    ) -> Self {
        let noticed_within = noticed_within(topology, entity);
        let foreseen = |(id, becomes): (&EntityId, Becomes)| {
            let took = match &becomes {
                Becomes::Element(fate) => time_of(fate, id, repaired),
                Becomes::ReplacedBy(_) => Some(Duration::ZERO),
                Becomes::DoneWithout | Becomes::Awaited => None,
            };
            Foreseen {
                entity: id.clone(),
                becomes,
                told: told(topology, id).into_iter().collect(),
                away_for: noticed_within.and_then(|noticed| Some(noticed + took?)),
            }
        };
        let outcomes: Vec<_> = becoming(topology, outcome)
            .into_iter()
            .map(foreseen)
            .collect();
        let follows = follows(topology, &outcome.closure);
        let named = |count: usize| count.min(FORECAST_ENTITIES_MAX);
        let omitted = outcomes.len() - named(outcomes.len()) + follows.len() - named(follows.len());
        Self {
            entity: entity.clone(),
            noticed_within,
            outcomes: first(outcomes),
            follows: first(follows),
            omitted: u32::try_from(omitted).unwrap_or(u32::MAX),
            application: brief(outcome.application.clone()),
        }
    }
}

fn first<T>(mut all: Vec<T>) -> Vec<T> {
    all.truncate(FORECAST_ENTITIES_MAX);
    all
}

/// The reasons fit a frame too.
fn brief(application: ApplicationState) -> ApplicationState {
    match application {
        ApplicationState::Degraded { reasons } => ApplicationState::Degraded {
            reasons: first(reasons),
        },
        other @ (ApplicationState::Whole | ApplicationState::Failed { .. }) => other,
    }
}

/// What hangs on the root, without the bindings: they are where the elements are.
fn follows(topology: &Topology, closure: &Closure) -> Vec<(EntityId, Cause)> {
    let induced = closure.failed.iter();
    let induced = induced.filter_map(|(id, cause)| Some((id.clone(), cause.clone()?)));
    induced
        .filter(|(id, _)| !topology.bindings.contains_key(id))
        .collect()
}

fn becoming<'o>(topology: &'o Topology, outcome: &'o Outcome) -> Vec<(&'o EntityId, Becomes)> {
    let servers = topology.servers.keys();
    let failed = servers.filter(|id| outcome.closure.failed.contains_key(*id));
    let mut all: Vec<_> = failed.map(|id| (id, Becomes::Awaited)).collect();
    let elements = outcome.elements.iter();
    all.extend(elements.map(|(id, fate)| (id, Becomes::Element(fate.clone()))));
    let appliances = outcome.appliances.iter();
    let appliances = appliances.filter(|(id, _)| outcome.closure.failed.contains_key(*id));
    all.extend(appliances.map(|(id, decision)| {
        let becomes = match decision {
            Decision::Substitute { by, .. } => Becomes::ReplacedBy(by.clone()),
            Decision::Nobody { .. } => Becomes::DoneWithout,
        };
        (id, becomes)
    }));
    all
}

/// How long a recovery takes, by the last one of the element, else by the longest of any other.
fn time_of(
    fate: &Fate,
    element: &EntityId,
    repaired: &BTreeMap<EntityId, Duration>,
) -> Option<Duration> {
    let known = repaired.get(element).or_else(|| repaired.values().max());
    match fate {
        Fate::RestartInPlace { .. } => known.copied(),
        Fate::Redeploy { .. } | Fate::MakeWay(_) => Some(COALESCED_WITHIN + *known?),
        Fate::Stop(_) | Fate::Wait(_) => None,
    }
}

/// How long the failure of an entity goes unnoticed at most. An element's process is watched: its end
/// is an event.
fn noticed_within(topology: &Topology, entity: &EntityId) -> Option<Duration> {
    if topology.elements.contains_key(entity) {
        return Some(Duration::ZERO);
    }
    if let Some(appliance) = topology.appliances.get(entity) {
        return by_signals(&appliance.liveness);
    }
    Some(topology.detection.profile.budget())
}

fn by_signals(liveness: &Liveness) -> Option<Duration> {
    let probed = liveness.probe.map(|probe| probe.every + probe.within);
    let said = liveness.availability.as_ref().or(liveness.bridge.as_ref());
    let said = said.map(|_| Duration::ZERO);
    // What somebody says of it is at once only if somebody is there to say it.
    let earliest = liveness.silent_after.into_iter().chain(probed).min();
    Some(earliest.or(said)? + liveness.debounce)
}
