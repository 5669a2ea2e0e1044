//! The infrastructure as a graph: who is reached over which channels, and how fast (paper, 3.1).
//!
//! A way goes over servers that are there and channels that work. It never goes through an appliance,
//! which hands nothing on. A channel of unknown latency counts as immediate, one of unknown bandwidth
//! as wide enough: what is not known is never the reason to refuse something.

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use super::infrastructure::Channel;
use super::topology::Topology;
use crate::ids::EntityId;

/// Servers and appliances, by index in the order of kind and id, and the channels between them.
#[derive(Clone, Debug)]
pub struct Network<'t> {
    places: Vec<&'t EntityId>,
    servers_count: usize,
    indices: BTreeMap<&'t EntityId, usize>,
    channels: Vec<(&'t EntityId, &'t Channel)>,
    hops: Vec<Vec<Hop>>,
}

/// One pair of a channel, as one of its ends sees it.
#[derive(Clone, Copy, Debug)]
struct Hop {
    to: usize,
    channel: usize,
}

/// The fastest ways from one place to all others.
#[derive(Clone, Debug)]
pub struct Ways {
    reached: Vec<Option<Reached>>,
    steps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reached {
    micros: u64,
    /// The place before and the channel from there.
    before: Option<(usize, usize)>,
}

impl<'t> Network<'t> {
    /// The network of a topology without the servers, appliances and channels that are down.
    #[must_use]
    pub fn new(topology: &'t Topology, down: &BTreeSet<EntityId>) -> Self {
        let servers = topology.servers.keys();
        let places: Vec<_> = servers.chain(topology.appliances.keys()).collect();
        let indexed = places.iter().enumerate();
        let indices: BTreeMap<_, _> = indexed.map(|(index, id)| (*id, index)).collect();
        let mut hops = vec![Vec::new(); places.len()];
        let channels: Vec<_> = topology.channels.iter().collect();
        for (channel, (id, known)) in channels.iter().enumerate() {
            if down.contains(*id) {
                continue;
            }
            for (one, other) in &known.ends {
                if down.contains(one) || down.contains(other) {
                    continue;
                }
                if let (Some(one), Some(other)) = (indices.get(one), indices.get(other)) {
                    let hop = |to: &usize| Hop { to: *to, channel };
                    hops[*one].push(hop(other));
                    hops[*other].push(hop(one));
                }
            }
        }
        Self {
            places,
            servers_count: topology.servers.len(),
            indices,
            channels,
            hops,
        }
    }

    /// The index of a server or appliance.
    #[must_use]
    pub fn index(&self, place: &EntityId) -> Option<usize> {
        self.indices.get(place).copied()
    }

    /// The server or appliance of an index.
    #[must_use]
    pub fn place(&self, index: usize) -> &'t EntityId {
        self.places[index]
    }

    /// How many servers and appliances there are; their indices are below.
    #[must_use]
    pub fn places_count(&self) -> usize {
        self.places.len()
    }

    /// All channels, by index, those that are down included.
    #[must_use]
    pub fn channels(&self) -> &[(&'t EntityId, &'t Channel)] {
        &self.channels
    }

    /// Whether a place hands on what others send.
    #[must_use]
    pub fn is_server(&self, index: usize) -> bool {
        index < self.servers_count
    }

    /// The fastest ways from a place over channels of at least `kbps` (Dijkstra).
    #[must_use]
    pub fn ways(&self, source: usize, kbps: u32) -> Ways {
        let mut reached: Vec<Option<Reached>> = vec![None; self.places.len()];
        let mut steps = 0;
        reached[source] = Some(Reached {
            micros: 0,
            before: None,
        });
        let mut queue = BinaryHeap::from([Reverse((0, source))]);
        while let Some(Reverse((micros, place))) = queue.pop() {
            let passes = place == source || self.is_server(place);
            let is_stale = reached[place].is_some_and(|best| best.micros < micros);
            if !passes || is_stale {
                continue;
            }
            for hop in &self.hops[place] {
                steps += 1;
                let (_, channel) = self.channels[hop.channel];
                if channel.bandwidth_kbps.is_some_and(|offered| offered < kbps) {
                    continue;
                }
                let total = micros.saturating_add(micros_of(channel));
                if reached[hop.to].is_none_or(|best| total < best.micros) {
                    reached[hop.to] = Some(Reached {
                        micros: total,
                        before: Some((place, hop.channel)),
                    });
                    queue.push(Reverse((total, hop.to)));
                }
            }
        }
        Ways { reached, steps }
    }

    /// For each place the least index of those that it is joined with over channels of at least `kbps`:
    /// who has the same is joined.
    #[must_use]
    pub fn islands(&self, kbps: u32) -> Vec<usize> {
        let mut island: Vec<usize> = vec![usize::MAX; self.places.len()];
        for start in 0..self.places.len() {
            if island[start] != usize::MAX {
                continue;
            }
            island[start] = start;
            let mut open = vec![start];
            while let Some(place) = open.pop() {
                // An appliance joins nobody: it belongs to those who reach it.
                if !self.is_server(place) {
                    continue;
                }
                for hop in &self.hops[place] {
                    let (_, channel) = self.channels[hop.channel];
                    let carries = channel.bandwidth_kbps.is_none_or(|offered| offered >= kbps);
                    if carries && island[hop.to] == usize::MAX {
                        island[hop.to] = start;
                        open.push(hop.to);
                    }
                }
            }
        }
        island
    }

    /// The places one hop away, with the channel's index.
    pub fn neighbours(&self, index: usize) -> impl Iterator<Item = (usize, usize)> {
        self.hops[index].iter().map(|hop| (hop.to, hop.channel))
    }
}

impl Ways {
    /// How long the fastest way to a place takes, in microseconds; `None` where there is no way.
    #[must_use]
    pub fn micros(&self, to: usize) -> Option<u64> {
        self.reached[to].map(|reached| reached.micros)
    }

    /// How long the fastest way to a place takes; `None` where there is no way.
    #[must_use]
    pub fn latency(&self, to: usize) -> Option<Duration> {
        self.micros(to).map(Duration::from_micros)
    }

    /// The channels of the fastest way to a place, each once, by index.
    #[must_use]
    pub fn channels_to(&self, to: usize) -> Vec<usize> {
        let mut channels = Vec::new();
        let mut at = to;
        while let Some((before, channel)) = self.reached[at].and_then(|reached| reached.before) {
            channels.push(channel);
            at = before;
        }
        channels.sort_unstable();
        channels.dedup();
        channels
    }

    /// How many channel ends the search looked at.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

fn micros_of(channel: &Channel) -> u64 {
    let latency = channel.latency.unwrap_or_default();
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}
