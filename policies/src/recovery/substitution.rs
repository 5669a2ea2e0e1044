//! Who takes the place of an appliance that failed (paper, 4.2.4; replacement or degraded mode).
//!
//! Decided over all failures at once, so that the outcome does not depend on the order in which they
//! were noticed: the essential and the critical choose first, and nobody is given away twice for
//! commands that contradict each other. Who stands in already goes on, unless somebody who comes
//! first has no other.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use super::capability::{Capabilities, Lack, capabilities, missing, needed};
use super::ranking::rank;
use crate::ids::EntityId;
use crate::model::{ActuationClass, Appliance, ApplianceApi, Candidates, OnReturn, Topology};

/// All that a decision follows from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The application and its surroundings.
    pub topology: &'a Topology,
    /// Appliances that failed: somebody must take their place.
    pub failed: &'a BTreeSet<EntityId>,
    /// Appliances that cannot be reached for a reason that is not their own, such as their bridge:
    /// they wait, and cannot take anybody's place.
    pub unreachable: &'a BTreeSet<EntityId>,
    /// Servers whose agent is away: what only they reach is out of reach.
    pub servers_away: &'a BTreeSet<EntityId>,
    /// Who stands in for whom at present: failed or returned appliance, substitute.
    pub standing: &'a Standing,
}

/// Who stands in for whom: the appliance whose place it is, and its substitute.
pub type Standing = BTreeMap<EntityId, EntityId>;

/// What becomes of the place of one appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Another serves in its place.
    Substitute {
        /// Who.
        by: EntityId,
        /// Who could not, and why not.
        rejected: Vec<(EntityId, Rejection)>,
    },
    /// Nobody can: the application does without it, or fails if it is essential.
    Nobody {
        /// Who could not, and why not.
        rejected: Vec<(EntityId, Rejection)>,
    },
}

/// Why a candidate cannot take the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The topology does not let it.
    NotAllowed,
    /// It failed itself.
    Failed,
    /// It cannot be reached at present.
    Unreachable,
    /// It is what others are reached through, not a device of its own.
    Bridge,
    /// It cannot do what is needed.
    Lacks(Vec<Lack>),
    /// It is for something else.
    OtherPurpose,
    /// What such a device acts on differs from one to the other, so the topology must say that it may.
    PurposeUnknown(Kind),
    /// To repeat a command to it does worse things.
    MoreDangerous {
        /// What repeating does to the candidate.
        class: ActuationClass,
        /// What it does to the failed one.
        than: ActuationClass,
    },
    /// It is in none of the spaces.
    Elsewhere,
    /// It serves in the place of another, for the same.
    Reserved(EntityId),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("the topology does not let it"),
            Self::Failed => f.write_str("it failed itself"),
            Self::Unreachable => f.write_str("it cannot be reached at present"),
            Self::Bridge => f.write_str("others are reached through it"),
            Self::Lacks(lacks) => {
                for (place, lack) in lacks.iter().enumerate() {
                    let separator = if place == 0 { "" } else { ", " };
                    write!(f, "{separator}{lack}")?;
                }
                Ok(())
            }
            Self::OtherPurpose => f.write_str("it is for another purpose"),
            Self::PurposeUnknown(kind) => write!(
                f,
                "what a {kind} acts on differs from one to the other; give both the same `purpose`, \
                 or name it in `with`"
            ),
            Self::MoreDangerous { class, than } => {
                write!(
                    f,
                    "a repeated command is {class:?} there, and {than:?} here"
                )
            }
            Self::Elsewhere => f.write_str("it is in none of the spaces"),
            Self::Reserved(of) => write!(f, "it serves in the place of {of}"),
        }
    }
}

/// Kinds of devices of which two are alike and yet not interchangeable: each acts on something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It switches whatever is behind it.
    Switch,
    /// It locks one door.
    Lock,
    /// It covers one window.
    Cover,
    /// It warms or cools one room.
    Climate,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switch => "switch",
            Self::Lock => "lock",
            Self::Cover => "cover",
            Self::Climate => "thermostat",
        })
    }
}

/// Which of these kinds an appliance is, by its model's name or by what it can do.
#[must_use]
pub fn kind_of(appliance: &Appliance) -> Option<Kind> {
    let by_name = match appliance.model.name.as_str() {
        "switch" | "plug" | "outlet" | "relay" => Some(Kind::Switch),
        "lock" => Some(Kind::Lock),
        "cover" | "blind" | "shutter" | "curtain" | "garage-door" => Some(Kind::Cover),
        "thermostat" | "climate" | "heater" => Some(Kind::Climate),
        _ => None,
    };
    let able = capabilities(appliance);
    let has = |name: &str| able.contains_key(name);
    let only_switches = appliance.role.acts() && able.len() == 1 && has("on-off");
    let by_capability = || {
        if has("lock") {
            Some(Kind::Lock)
        } else if has("cover") {
            Some(Kind::Cover)
        } else if has("climate") || has("setpoint") || has("heating-setpoint") {
            Some(Kind::Climate)
        } else {
            // What only goes on and off may be anything: its model's name says that it is a light.
            (only_switches && appliance.model.name != "light").then_some(Kind::Switch)
        }
    };
    by_name.or_else(by_capability)
}

/// Decides about every appliance that failed and matters, and about those that are back and whose
/// substitute may stay. What is not in the answer serves itself.
#[must_use]
pub fn decide(situation: Situation<'_>) -> BTreeMap<EntityId, Decision> {
    let mut open: Vec<&EntityId> = situation
        .topology
        .appliances
        .keys()
        .filter(|appliance| must_be_decided(situation, appliance))
        .collect();
    open.sort_by_key(|appliance| urgency(situation.topology, appliance));
    let mut reserved = Reserved::new();
    let mut decisions = BTreeMap::new();
    for appliance in open {
        let decision = find_in(situation, appliance, &reserved);
        match &decision {
            Decision::Substitute { by, .. } => {
                let uses = commanded(situation.topology, appliance);
                let places = reserved.entry(by.clone()).or_default();
                places.push((appliance.clone(), uses));
            }
            // It is back and its substitute is not: it serves itself again.
            Decision::Nobody { .. } if !situation.failed.contains(appliance) => continue,
            Decision::Nobody { .. } => {}
        }
        decisions.insert(appliance.clone(), decision);
    }
    decisions
}

/// Who would take the place of `appliance` if it failed and nothing else changed.
#[must_use]
pub fn find_substitute(situation: Situation<'_>, appliance: &EntityId) -> Decision {
    let mut reserved = Reserved::new();
    let others = situation.standing.iter().filter(|(of, _)| *of != appliance);
    for (of, by) in others {
        let place = (of.clone(), commanded(situation.topology, of));
        reserved.entry(by.clone()).or_default().push(place);
    }
    find_in(situation, appliance, &reserved)
}

/// Who could take the place of `appliance` by what the topology says, whatever has failed.
#[must_use]
pub fn candidates(topology: &Topology, appliance: &EntityId) -> BTreeSet<EntityId> {
    let Some(failed) = topology.appliances.get(appliance) else {
        return BTreeSet::new();
    };
    let nobody = BTreeSet::new();
    let situation = Situation {
        topology,
        failed: &nobody,
        unreachable: &nobody,
        servers_away: &nobody,
        standing: &Standing::new(),
    };
    let needs = needed(failed);
    let admitted = |(id, candidate): &(&EntityId, &Appliance)| {
        let pair = ((appliance, failed), (*id, *candidate));
        *id != appliance && admit(situation, pair.0, pair.1, &needs, &Reserved::new()).is_ok()
    };
    let others = topology.appliances.iter().filter(admitted);
    others.map(|(id, _)| id.clone()).collect()
}

/// By substitute, whose places it has been given, and for which capabilities it is commanded there.
type Reserved = BTreeMap<EntityId, Vec<(EntityId, BTreeSet<String>)>>;

fn must_be_decided(situation: Situation<'_>, appliance: &EntityId) -> bool {
    let Some(known) = situation.topology.appliances.get(appliance) else {
        return false;
    };
    let matters = known.essential || situation.topology.dependents(appliance).next().is_some();
    let stays = known.substitution.on_return == OnReturn::Stay;
    let stood_in_for = situation.standing.contains_key(appliance);
    matters && (situation.failed.contains(appliance) || (stays && stood_in_for))
}

/// Who chooses first: the essential, then those of the most critical elements, then by id.
fn urgency<'a>(topology: &Topology, appliance: &'a EntityId) -> (bool, Reverse<u8>, &'a EntityId) {
    let essential = topology
        .appliances
        .get(appliance)
        .is_some_and(|known| known.essential);
    let dependents = topology.dependents(appliance);
    let critical = dependents
        .filter_map(|element| topology.elements.get(element))
        .map(|element| element.criticality)
        .max();
    (!essential, Reverse(critical.unwrap_or(0)), appliance)
}

fn find_in(situation: Situation<'_>, appliance: &EntityId, reserved: &Reserved) -> Decision {
    let topology = situation.topology;
    let mut fit = Vec::new();
    let mut rejected = Vec::new();
    let Some(failed) = topology.appliances.get(appliance) else {
        return Decision::Nobody { rejected };
    };
    let needs = needed(failed);
    for (id, candidate) in &topology.appliances {
        if id == appliance {
            continue;
        }
        match admit(
            situation,
            (appliance, failed),
            (id, candidate),
            &needs,
            reserved,
        ) {
            Ok(()) => fit.push(id),
            Err(rejection) => rejected.push((id.clone(), rejection)),
        }
    }
    let standing = situation.standing.get(appliance);
    if let Some(standing) = standing.filter(|standing| fit.contains(standing)) {
        let by = standing.clone();
        return Decision::Substitute { by, rejected };
    }
    // One that is back and whose substitute is gone serves itself.
    if !situation.failed.contains(appliance) && standing.is_some() {
        return Decision::Nobody { rejected };
    }
    // Nobody is robbed of its substitute as long as there is another.
    if fit.iter().any(|id| !would_rob(situation, appliance, id)) {
        fit.retain(|id| !would_rob(situation, appliance, id));
    }
    let best = fit.into_iter().min_by(|one, other| {
        rank(situation, appliance, one).compare(&rank(situation, appliance, other))
    });
    match best {
        Some(by) => Decision::Substitute {
            by: by.clone(),
            rejected,
        },
        None => Decision::Nobody { rejected },
    }
}

/// Whether the candidate stands in for another, for the same.
fn would_rob(situation: Situation<'_>, appliance: &EntityId, candidate: &EntityId) -> bool {
    let uses = commanded(situation.topology, appliance);
    let mut standing = situation.standing.iter();
    standing.any(|(of, by)| {
        of != appliance && by == candidate && !commanded(situation.topology, of).is_disjoint(&uses)
    })
}

/// The hard conditions; all of them must hold.
fn admit(
    situation: Situation<'_>,
    (failed_id, failed): (&EntityId, &Appliance),
    (id, candidate): (&EntityId, &Appliance),
    needs: &Capabilities,
    reserved: &Reserved,
) -> Result<(), Rejection> {
    let wanted = &failed.substitution;
    // Whom the operator names is for the purpose and in a place that will do.
    let named = match &wanted.with {
        Candidates::Auto => false,
        Candidates::Only(these) if these.contains(id) => true,
        Candidates::Only(_) | Candidates::Nobody => return Err(Rejection::NotAllowed),
    };
    if situation.failed.contains(id) {
        return Err(Rejection::Failed);
    }
    // Who stands in already is reached as it has been, whichever agent is away for a while.
    let stands_in = situation.standing.get(failed_id) == Some(id);
    let reached = stands_in || is_reachable(situation, id, candidate);
    if situation.unreachable.contains(id) || !reached {
        return Err(Rejection::Unreachable);
    }
    if is_bridge(situation.topology, candidate) {
        return Err(Rejection::Bridge);
    }
    let lacks = missing(&capabilities(candidate), needs, &wanted.tolerance);
    if !lacks.is_empty() {
        return Err(Rejection::Lacks(lacks));
    }
    if !named {
        let purpose = &candidate.substitution.purpose;
        match (&wanted.purpose, kind_of(failed)) {
            (Some(_), _) if *purpose != wanted.purpose => return Err(Rejection::OtherPurpose),
            (None, Some(kind)) => return Err(Rejection::PurposeUnknown(kind)),
            (Some(_) | None, _) => {}
        }
        let will_do = |space| failed.spaces.contains(space) || wanted.spaces.contains(space);
        let anywhere = failed.spaces.is_empty() && wanted.spaces.is_empty();
        if !anywhere && !candidate.spaces.iter().any(will_do) {
            return Err(Rejection::Elsewhere);
        }
    }
    let uses = commanded(situation.topology, failed_id);
    is_no_more_dangerous(failed, candidate, &uses)?;
    let places = reserved.get(id).into_iter().flatten();
    let mut contradicting = places.filter(|(_, other)| !other.is_disjoint(&uses));
    match contradicting.next() {
        Some((of, _)) => Err(Rejection::Reserved(of.clone())),
        None => Ok(()),
    }
}

fn is_reachable(situation: Situation<'_>, id: &EntityId, candidate: &Appliance) -> bool {
    let has_address = match candidate.api {
        ApplianceApi::Mqtt => candidate.topic.is_some(),
        ApplianceApi::Http => candidate.address.is_some(),
        ApplianceApi::Simulated | ApplianceApi::Program => true,
    };
    let servers: BTreeSet<&EntityId> = servers_of(situation.topology, id).collect();
    let reached = servers.is_empty()
        || servers
            .iter()
            .any(|server| !situation.servers_away.contains(*server));
    has_address && reached
}

/// The servers that a channel joins to an appliance.
pub(crate) fn servers_of<'a>(
    topology: &'a Topology,
    appliance: &'a EntityId,
) -> impl Iterator<Item = &'a EntityId> {
    let ends = topology.channels.values().flat_map(|channel| &channel.ends);
    let other = move |(one, other): &'a (EntityId, EntityId)| match appliance {
        it if it == one => Some(other),
        it if it == other => Some(one),
        _ => None,
    };
    ends.filter_map(other)
        .filter(|end| topology.servers.contains_key(*end))
}

/// Whether others are reached through it: their bridge speaks under its topic.
fn is_bridge(topology: &Topology, candidate: &Appliance) -> bool {
    let Some(topic) = &candidate.topic else {
        return false;
    };
    let speaks_there = |bridge: &String| {
        bridge
            .strip_prefix(topic.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let bridges = topology.appliances.values();
    bridges
        .filter_map(|appliance| appliance.liveness.bridge.as_ref())
        .any(speaks_there)
}

/// The needed capabilities that commands name.
fn commanded(topology: &Topology, appliance: &EntityId) -> BTreeSet<String> {
    let Some(appliance) = topology.appliances.get(appliance) else {
        return BTreeSet::new();
    };
    let taken = needed(appliance).into_iter();
    taken
        .filter(|(_, capability)| capability.taken)
        .map(|(name, _)| name)
        .collect()
}

fn is_no_more_dangerous(
    failed: &Appliance,
    candidate: &Appliance,
    uses: &BTreeSet<String>,
) -> Result<(), Rejection> {
    let (before, after) = (capabilities(failed), capabilities(candidate));
    for name in uses {
        let class_in = |all: &Capabilities, default| all.get(name).map_or(default, |it| it.class);
        let than = class_in(&before, failed.class);
        let class = class_in(&after, candidate.class);
        if danger(class) > danger(than) {
            return Err(Rejection::MoreDangerous { class, than });
        }
    }
    Ok(())
}

fn danger(class: ActuationClass) -> u8 {
    match class {
        ActuationClass::Set => 0,
        ActuationClass::Keyed => 1,
        ActuationClass::Alarm => 2,
        ActuationClass::Delta => 3,
        ActuationClass::Irreversible => 4,
    }
}
