//! Every element has a server that may host it (V10), the essential ones all together (V11), also when
//! one server is lost (V12); who must be together and who apart can be so (V24).

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Topology;
use lamplighter_policies::placement::{
    Budget, Filter, NoPlace, Obstacle, Placement, Problem, hopeless, misplaced, place,
};
use lamplighter_policies::recovery::essential::{Importance, importance};

use crate::diagnostics::{Code, Fault, Faults, Severity};
use crate::resolve::Places;

/// How many pairs of an element and a server are looked at; a larger topology is placed at the start
/// all the same, but not tried out beforehand.
const PAIRS_MAX: usize = 200_000;

/// The steps of all searches together.
const STEPS: u64 = 2_000_000;

/// How many elements of one fault are named.
const NAMED_MAX: usize = 3;

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    let pairs = topology.elements.len() * topology.servers.len();
    if topology.servers.is_empty() || pairs > PAIRS_MAX {
        return;
    }
    let problem = Problem::initial(topology);
    for (element, (server, obstacle)) in misplaced(&problem) {
        let reason = format!("element `{element}` is placed on `{server}`, which {obstacle}");
        let fault = Fault::new(code(&obstacle), places.of(&element), reason);
        let fault = fault.also(places.of(&server), "where it is placed");
        faults.add(fault.cure("name another `server`, or change its `placement`"));
    }
    let hopeless = hopeless(&problem);
    for (element, why) in &hopeless {
        // Of one that is placed it is told above, or by the checks of paths and room.
        if problem.open.contains(element) {
            faults.add(no_place(element, why, places, None));
        }
    }
    if faults.has_errors() {
        return;
    }
    let steps = STEPS / (topology.servers.len() as u64 + 1);
    let budget = Budget { steps };
    let placement = place(&problem, budget);
    let importance = importance(topology);
    for (element, why) in &placement.unplaced {
        let proof = Some((&placement, &importance[element]));
        faults.add(no_place(element, why, places, proof));
    }
    let mut unplaced = placement.unplaced.keys();
    let is_whole = !unplaced.any(|element| importance[element].essential);
    if is_whole && topology.servers.len() > 1 {
        survive(topology, &placement, budget, (places, faults));
    }
}

/// The fault that an element has no place: for itself, or besides all others.
fn no_place(
    element: &EntityId,
    why: &NoPlace,
    places: &Places,
    besides: Option<(&Placement, &Importance)>,
) -> Fault {
    let obstacle = why.nearest().map(|(_, obstacle)| obstacle);
    let fault = |code, reason: String| {
        Fault::new(code, places.key(element, "placement"), reason).cure(cure(why))
    };
    let Some((placement, importance)) = besides else {
        let reason = format!("element `{element}` has no place: {why}");
        return fault(obstacle.map_or(Code::V11, code), reason);
    };
    let nearest = why.nearest();
    let nearest = nearest.map(|(server, obstacle)| format!("{server} {obstacle}"));
    let filter = why.filter();
    let fault = match (importance.essential, placement.is_optimal) {
        (true, true) => fault(
            Code::V11,
            format!("element `{element}` has no place: {why}"),
        ),
        (true, false) => fault(
            Code::V11,
            format!("no place was found for `{element}`, not that there is none: {filter}"),
        )
        .severity(Severity::Warning),
        (false, _) => fault(
            Code::V11,
            format!("`{element}` has no place and is left out: {filter}"),
        )
        .severity(Severity::Warning),
    };
    fault.label(nearest.unwrap_or_default())
}

fn cure(why: &NoPlace) -> &'static str {
    match why.filter() {
        Filter::Architecture | Filter::Labels | Filter::Zone => {
            "change its `placement`, or add a server that fits"
        }
        Filter::Affinity => "change whom it is `with` or `apart` from, or add a server",
        Filter::Servers | Filter::Barred | Filter::Pinned | Filter::Resources => {
            "add a server or ask for less"
        }
        Filter::Latency | Filter::Bandwidth => {
            "add a channel, allow more `max_latency_ms`, or need fewer `min_kbps`"
        }
    }
}

fn code(obstacle: &Obstacle) -> Code {
    match obstacle {
        Obstacle::Architecture(_)
        | Obstacle::Label(_)
        | Obstacle::Zone(_)
        | Obstacle::Pinned(_) => Code::V10,
        Obstacle::Contradiction | Obstacle::Together(_) | Obstacle::Apart(_) => Code::V24,
        Obstacle::Barred
        | Obstacle::Small(_)
        | Obstacle::Room(_)
        | Obstacle::Path { .. }
        | Obstacle::Latency { .. }
        | Obstacle::Bandwidth { .. }
        | Obstacle::Competition => Code::V11,
    }
}

/// Loses one server after the other.
fn survive(
    topology: &Topology,
    placement: &Placement,
    budget: Budget,
    (places, faults): (&Places, &mut Faults),
) {
    let importance = importance(topology);
    for server in topology.servers.keys() {
        let lost = BTreeSet::from([server.clone()]);
        let problem = Problem::after_loss(topology, &placement.hosts, &lost);
        let after = place(&problem, budget);
        let essential = |(id, _): &(&EntityId, &NoPlace)| {
            importance[*id].essential && placement.hosts.contains_key(*id)
        };
        let homeless: BTreeMap<_, _> = after.unplaced.iter().filter(essential).collect();
        let Some((first, why)) = homeless.first_key_value() else {
            continue;
        };
        let named: Vec<_> = homeless
            .keys()
            .take(NAMED_MAX)
            .map(|id| format!("`{id}`"))
            .collect();
        let mut who = named.join(", ");
        if homeless.len() > NAMED_MAX {
            who.push_str(&format!(" and {} more", homeless.len() - NAMED_MAX));
        }
        let reason = format!(
            "if `{server}` is lost, {who} cannot be placed: {}",
            why.filter()
        );
        // Whoever pins an element wants it so.
        let wanted = homeless.values().all(|why| why.filter() == Filter::Pinned);
        let severity = if wanted {
            Severity::Advice
        } else {
            Severity::Warning
        };
        let fault = Fault::new(Code::V12, places.of(server), reason).severity(severity);
        let nearest = why.nearest();
        let nearest = nearest.map(|(server, obstacle)| format!("{server} {obstacle}"));
        let label = nearest.unwrap_or_else(|| "has no place then".to_owned());
        let fault = fault.also(places.of(first), label);
        faults.add(fault.cure("leave room on another server, or let it run on more of them"));
    }
}
