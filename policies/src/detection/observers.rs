//! Which servers observe which (paper, 4.2.2: monitors are assigned by proximity).
//!
//! Each server is observed by the few that are nearest to it by latency, one of them in another zone, so
//! that what befalls a whole zone is seen from outside. No server observes more than a few others: the
//! load of each is the same in an application of three servers and of a thousand.

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::ids::EntityId;
use crate::model::{Channel, Server};

/// How many observe each server, where there are so many.
pub const OBSERVERS: usize = 3;
/// How many servers one observes at most.
pub const OBSERVED_MAX: usize = 2 * OBSERVERS;

/// By observed server, who observes it.
pub type Observers = BTreeMap<EntityId, BTreeSet<EntityId>>;

/// Assigns observers to every server. Those that are `absent` observe nobody, but are observed, so that
/// their return is noticed.
#[must_use]
pub fn assign_observers(
    servers: &BTreeMap<EntityId, Server>,
    channels: &BTreeMap<EntityId, Channel>,
    absent: &BTreeSet<EntityId>,
) -> Observers {
    let map = Map::of(servers, channels);
    let mut observed: Vec<usize> = vec![0; map.servers.len()];
    let mut observers = Observers::new();
    for (number, server) in map.servers.iter().enumerate() {
        let latencies = map.latencies_from(number);
        let present = |other: &usize| *other != number && !absent.contains(map.servers[*other]);
        let mut candidates: Vec<usize> = (0..map.servers.len()).filter(present).collect();
        // Who is as near as another is chosen by the fewest already observed, then round the ring of ids.
        let ring = |other: usize| (other + map.servers.len() - number) % map.servers.len();
        candidates.sort_by_key(|other| {
            let full = observed[*other] >= OBSERVED_MAX;
            let latency = latencies[*other].unwrap_or(u64::MAX);
            (full, latency, observed[*other], ring(*other))
        });
        let outside = candidates
            .iter()
            .position(|other| map.zones[*other] != map.zones[number]);
        if let Some(outside) = outside.filter(|outside| *outside >= OBSERVERS) {
            candidates.swap(OBSERVERS - 1, outside);
        }
        candidates.truncate(OBSERVERS);
        for observer in &candidates {
            observed[*observer] += 1;
        }
        let chosen = candidates.iter().map(|other| map.servers[*other].clone());
        observers.insert((*server).clone(), chosen.collect());
    }
    observers
}

/// The servers and how far they are from each other.
struct Map<'a> {
    servers: Vec<&'a EntityId>,
    zones: Vec<Option<&'a str>>,
    /// By server, its neighbours with the latency of the channel between them, in nanoseconds.
    neighbours: Vec<Vec<(usize, u64)>>,
}

impl<'a> Map<'a> {
    fn of(
        described: &'a BTreeMap<EntityId, Server>,
        channels: &BTreeMap<EntityId, Channel>,
    ) -> Self {
        let servers: Vec<&EntityId> = described.keys().collect();
        let zones = described.values();
        let zones = zones.map(|server| server.zone.as_deref()).collect();
        let number: BTreeMap<&EntityId, usize> = servers
            .iter()
            .enumerate()
            .map(|(number, id)| (*id, number))
            .collect();
        let mut neighbours = vec![Vec::new(); servers.len()];
        for channel in channels.values() {
            let latency = channel.latency.unwrap_or_default().as_nanos();
            let latency = u64::try_from(latency).unwrap_or(u64::MAX);
            for (one, other) in &channel.ends {
                if let (Some(one), Some(other)) = (number.get(one), number.get(other)) {
                    neighbours[*one].push((*other, latency));
                    neighbours[*other].push((*one, latency));
                }
            }
        }
        Self {
            servers,
            zones,
            neighbours,
        }
    }

    /// The latency to each server over the best path (Dijkstra, 1959); `None` where there is no path.
    fn latencies_from(&self, start: usize) -> Vec<Option<u64>> {
        let mut known: Vec<Option<u64>> = vec![None; self.servers.len()];
        let mut open = BinaryHeap::from([Reverse((0, start))]);
        while let Some(Reverse((latency, server))) = open.pop() {
            if known[server].is_some() {
                continue;
            }
            known[server] = Some(latency);
            for (neighbour, more) in &self.neighbours[server] {
                if known[*neighbour].is_none() {
                    open.push(Reverse((latency.saturating_add(*more), *neighbour)));
                }
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use core::time::Duration;

    use super::*;
    use crate::model::Medium;
    use crate::model::Topology;
    use crate::model::testing::servers_in;

    #[test]
    fn the_nearest_observe_and_one_of_another_zone_among_them() {
        let topology = topology(
            &["home", "home", "home", "home", "home", "street"],
            |one, other| Some(one.abs_diff(other)),
        );
        let observers = assigned(&topology, &BTreeSet::new());
        assert_eq!(observers[&server(2)], servers(&[1, 3, 5]));
        assert_eq!(observers[&server(5)], servers(&[2, 3, 4]));
    }

    #[test]
    fn a_home_of_one_server_has_no_observer_and_one_of_two_has_each_other() {
        let none = assigned(&topology(&["a"], |_, _| None), &BTreeSet::new());
        assert_eq!(none[&server(0)], BTreeSet::new());
        let two = assigned(&topology(&["a", "a"], |_, _| None), &BTreeSet::new());
        assert_eq!(two[&server(0)], servers(&[1]));
        assert_eq!(two[&server(1)], servers(&[0]));
    }

    #[test]
    fn who_is_absent_observes_nobody_and_is_observed() {
        let topology = topology(&["a", "a", "a"], |_, _| Some(1));
        let observers = assigned(&topology, &servers(&[1]));
        let expected = [(0, &[2][..]), (1, &[0, 2]), (2, &[0])];
        let expected = expected.map(|(of, by)| (server(of), servers(by)));
        assert_eq!(observers, Observers::from(expected));
    }

    #[test]
    fn a_thousand_servers_have_three_observers_each_and_none_observes_many() {
        // All are near the first few: without a limit these would observe all others.
        let star = |one: usize, _: usize| (one < 3).then_some(1);
        let zones = ["hall", "roof", "cellar", "garden"];
        let zones: Vec<&str> = (0..1_000).map(|number| zones[number % 4]).collect();
        let topology = topology(&zones, star);
        let observers = assigned(&topology, &BTreeSet::new());
        assert_eq!(observers.len(), 1_000);
        let mut observed: BTreeMap<&EntityId, usize> = BTreeMap::new();
        for (server, by) in &observers {
            assert_eq!(by.len(), OBSERVERS, "{server}");
            assert!(!by.contains(server));
            let zone = |id: &EntityId| topology.servers[id].zone.clone();
            assert!(
                by.iter().any(|other| zone(other) != zone(server)),
                "{server}"
            );
            for observer in by {
                *observed.entry(observer).or_default() += 1;
            }
        }
        assert!(
            observed.values().all(|count| *count <= OBSERVED_MAX),
            "{observed:?}"
        );
    }

    fn assigned(topology: &Topology, absent: &BTreeSet<EntityId>) -> Observers {
        assign_observers(&topology.servers, &topology.channels, absent)
    }

    fn server(number: usize) -> EntityId {
        EntityId::new(&format!("s{number:03}")).unwrap()
    }

    fn servers(numbers: &[usize]) -> BTreeSet<EntityId> {
        numbers.iter().map(|number| server(*number)).collect()
    }

    /// Servers in these zones; `latency` says which pairs are joined, and how far they are apart, in ms.
    fn topology(zones: &[&str], latency: impl Fn(usize, usize) -> Option<usize>) -> Topology {
        let names: Vec<_> = (0..zones.len()).map(|it| format!("s{it:03}")).collect();
        let servers = names.iter().map(|name| &**name);
        let mut topology = servers_in(servers.zip(zones.iter().copied()));
        for one in 0..zones.len() {
            for other in one + 1..zones.len() {
                if let Some(latency) = latency(one, other) {
                    let id = EntityId::new(&format!("c{one}-{other}")).unwrap();
                    let channel = Channel {
                        medium: Medium::Wired,
                        ends: vec![(server(one), server(other))],
                        latency: Some(Duration::from_millis(latency as u64)),
                        bandwidth_kbps: None,
                        loss: None,
                    };
                    topology.channels.insert(id, channel);
                }
            }
        }
        topology
    }
}
