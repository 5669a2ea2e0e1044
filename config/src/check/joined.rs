//! Servers and used appliances are joined with each other, and not by one thing alone (V13); whoever may
//! fail is watched by somebody else (V14).

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Liveness, Network, Topology};
use lamplighter_policies::recovery::causality::{Closure, Surroundings, closure};

use crate::diagnostics::{Code, Fault, Faults, Severity};
use crate::resolve::Places;

/// The most servers and channels for which it is tried what fails with each.
const TRIED_MAX: usize = 200;

/// By how many others each server is watched, where there are as many.
const OBSERVERS: usize = 3;

/// How many things of one fault are named.
const NAMED_MAX: usize = 4;

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    if topology.channels.is_empty() || topology.servers.is_empty() {
        return;
    }
    let network = Network::new(topology, &BTreeSet::new());
    let islands = network.islands(0);
    let island = |id: &EntityId| network.index(id).map(|index| islands[index]);
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for server in topology.servers.keys().filter_map(island) {
        *sizes.entry(server).or_default() += 1;
    }
    let size = |id: &EntityId| island(id).and_then(|island| sizes.get(&island).copied());
    let largest = sizes.values().copied().max();
    for server in topology.servers.keys() {
        let joined = size(server).unwrap_or(1);
        let others = topology.servers.len() - 1;
        if Some(joined) != largest {
            let reason = format!("server `{server}` is not joined with the others by any channel");
            let fault = Fault::new(Code::V13, places.of(server), reason);
            let cure = "add the pair to the `ends` of a channel";
            faults.add(fault.severity(Severity::Warning).cure(cure));
        } else if joined - 1 < OBSERVERS.min(others) {
            let reason = format!(
                "server `{server}` is watched by {} of {others} others only",
                joined - 1
            );
            let fault = Fault::new(Code::V14, places.of(server), reason);
            let cure = "join it with more servers: those that are not joined do not hear it";
            faults.add(fault.severity(Severity::Warning).cure(cure));
        }
    }
    appliances(topology, places, faults, |id| {
        size(id).is_some() && size(id) == largest
    });
    single_points(topology, places, faults);
}

fn appliances(
    topology: &Topology,
    places: &Places,
    faults: &mut Faults,
    is_joined: impl Fn(&EntityId) -> bool,
) {
    for (id, appliance) in &topology.appliances {
        let is_used = topology.dependents(id).next().is_some();
        let is_watched = appliance.liveness != Liveness::default();
        if is_joined(id) || !(is_used || is_watched) {
            continue;
        }
        let (code, what) = match is_used {
            true => (
                Code::V13,
                "is used, and no channel joins it with the servers",
            ),
            false => (
                Code::V14,
                "is to be watched, and no channel joins it with a server",
            ),
        };
        let reason = format!("appliance `{id}` {what}");
        let fault = Fault::new(code, places.of(id), reason).severity(Severity::Warning);
        faults.add(fault.cure("add the pair of it and a server to the `ends` of a channel"));
    }
}

/// Channels and servers without which other servers are cut off.
fn single_points(topology: &Topology, places: &Places, faults: &mut Faults) {
    let candidates: Vec<&EntityId> = topology
        .channels
        .keys()
        .chain(topology.servers.keys())
        .collect();
    if topology.servers.len() < 2 || candidates.len() > TRIED_MAX {
        return;
    }
    let (hosts, down) = (BTreeMap::new(), BTreeSet::new());
    for id in candidates {
        let surroundings = Surroundings {
            topology,
            hosts: &hosts,
            down: &down,
            manager: None,
        };
        let lost = closure(surroundings, &BTreeSet::from([id.clone()]));
        let servers = cut_off(topology, &lost, id);
        if servers.is_empty() {
            continue;
        }
        let named: Vec<_> = servers
            .iter()
            .take(NAMED_MAX)
            .map(|id| format!("`{id}`"))
            .collect();
        let mut who = named.join(", ");
        if servers.len() > NAMED_MAX {
            who.push_str(&format!(" and {} more", servers.len() - NAMED_MAX));
        }
        let are = if servers.len() == 1 { "is" } else { "are" };
        let reason = format!("`{id}` is a single point of failure: without it {who} {are} cut off");
        let fault = Fault::new(Code::V13, places.of(id), reason).severity(Severity::Advice);
        faults.add(fault.cure("join them by a second channel over another way"));
    }
}

fn cut_off<'t>(topology: &'t Topology, lost: &Closure, root: &EntityId) -> Vec<&'t EntityId> {
    let servers = topology.servers.keys();
    servers
        .filter(|id| *id != root && lost.failed.contains_key(*id))
        .collect()
}
