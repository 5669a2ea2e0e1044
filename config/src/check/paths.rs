//! A binding between two places has a path of channels that carries it (V08).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Binding, Channel, Topology};

use crate::diagnostics::{Code, Fault, Faults, Severity};
use crate::resolve::Places;
use crate::values::show;

/// How many channel ends all searches together may look at.
const STEPS_MAX: usize = 2_000_000;

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    let crossing = crossing(topology);
    let Some((first, _)) = crossing.values().flatten().next() else {
        return;
    };
    if topology.channels.is_empty() {
        let reason = "no channels are declared, so it is not known whether bindings have a path";
        faults.add(
            Fault::new(Code::V08, places.of(first), reason)
                .severity(Severity::Warning)
                .label("the first binding between two places")
                .cure("declare [channels.NAME] with `medium` and `ends`"),
        );
        return;
    }
    let network = Network::new(topology);
    let mut load: BTreeMap<&EntityId, u64> = BTreeMap::new();
    let mut steps = 0;
    for ((source, kbps), bindings) in &crossing {
        if steps > STEPS_MAX {
            let (first, _) = bindings[0];
            let reason = "the network is too large to look for every path";
            let fault = Fault::new(Code::V08, places.of(first), reason);
            faults.add(
                fault
                    .severity(Severity::Warning)
                    .label("not checked from here"),
            );
            break;
        }
        let reached = network.reach(source, *kbps, &mut steps);
        for (id, binding) in bindings {
            let route = Route {
                id,
                binding,
                source,
                kbps: *kbps,
            };
            route.check(topology, &network, &reached, (places, faults), &mut load);
        }
    }
    for (channel, kbps) in load {
        let offered = topology.channels[channel].bandwidth_kbps;
        if let Some(offered) = offered.filter(|offered| u64::from(*offered) < kbps) {
            let reason = format!(
                "channel `{channel}` carries {offered} kbit/s, the bindings over it need {kbps}"
            );
            let fault = Fault::new(Code::V08, places.of(channel), reason);
            faults.add(fault.cure("move an element nearer to what it needs, or lower `min_kbps`"));
        }
    }
}

type Crossing<'t> = BTreeMap<(&'t EntityId, u32), Vec<(&'t EntityId, &'t Binding)>>;

/// The bindings whose ends are placed apart, by the dependent's place and the bandwidth needed.
fn crossing(topology: &Topology) -> Crossing<'_> {
    let mut crossing = Crossing::new();
    for (id, binding) in &topology.bindings {
        let source = topology.elements.get(&binding.from);
        let source = source.and_then(|element| element.server.as_ref());
        let target = end_place(topology, binding);
        if let (Some(source), Some(target)) = (source, target)
            && source != target
        {
            let kbps = binding.bandwidth_kbps_min.unwrap_or(0);
            crossing
                .entry((source, kbps))
                .or_default()
                .push((id, binding));
        }
    }
    crossing
}

/// Where the prerequisite of a binding is: an element's server, or the appliance itself.
fn end_place<'t>(topology: &'t Topology, binding: &'t Binding) -> Option<&'t EntityId> {
    let to = binding.to.as_ref()?;
    match topology.elements.get(to) {
        Some(element) => element.server.as_ref(),
        None => Some(to),
    }
}

struct Route<'t> {
    id: &'t EntityId,
    binding: &'t Binding,
    source: &'t EntityId,
    kbps: u32,
}

impl<'t> Route<'t> {
    fn check(
        &self,
        topology: &'t Topology,
        network: &Network<'t>,
        reached: &Reached<'t>,
        (places, faults): (&Places, &mut Faults),
        load: &mut BTreeMap<&'t EntityId, u64>,
    ) {
        let (id, source) = (self.id, self.source);
        let Some(target) = end_place(topology, self.binding) else {
            return;
        };
        let Some(latency) = network.latency(reached, target) else {
            let needs = match self.kbps {
                0 => String::new(),
                kbps => format!(" of at least {kbps} kbit/s"),
            };
            let reason = format!("binding `{id}` has no path{needs} from `{source}` to `{target}`");
            faults.add(
                Fault::new(Code::V08, places.of(id), reason)
                    .cure("add the pair to the `ends` of a channel, or place the ends together"),
            );
            return;
        };
        if let Some(max) = self.binding.latency_max.filter(|max| latency > *max) {
            let reason = format!(
                "binding `{id}` allows {}, the fastest path from `{source}` to `{target}` takes {}",
                show(max),
                show(latency)
            );
            let fault = Fault::new(Code::V08, places.of(id), reason);
            faults.add(fault.cure("place the ends nearer, or allow more `max_latency_ms`"));
        }
        if self.kbps > 0 {
            for channel in network.channels_to(reached, target) {
                *load.entry(channel).or_default() += u64::from(self.kbps);
            }
        }
    }
}

/// Who is next to whom, and over which channel; places by index.
struct Network<'t> {
    indices: BTreeMap<&'t EntityId, usize>,
    is_server: Vec<bool>,
    next: Vec<Vec<(usize, &'t EntityId, &'t Channel)>>,
}

/// For each place how long the way there takes and its last hop, place and channel; `None` where
/// there is no way.
type Reached<'t> = Vec<Option<(Duration, Option<(usize, &'t EntityId)>)>>;

impl<'t> Network<'t> {
    fn new(topology: &'t Topology) -> Self {
        let servers = topology.servers.keys().map(|id| (id, true));
        let appliances = topology.appliances.keys().map(|id| (id, false));
        let places: Vec<_> = servers.chain(appliances).collect();
        let indices: BTreeMap<_, _> = places.iter().enumerate().map(|(i, it)| (it.0, i)).collect();
        let mut next = vec![Vec::new(); places.len()];
        for (id, channel) in &topology.channels {
            for (one, other) in &channel.ends {
                if let (Some(one), Some(other)) = (indices.get(one), indices.get(other)) {
                    next[*one].push((*other, id, channel));
                    next[*other].push((*one, id, channel));
                }
            }
        }
        let is_server = places.iter().map(|(_, is_server)| *is_server).collect();
        Self {
            indices,
            is_server,
            next,
        }
    }

    /// The fastest ways from a place over channels of enough bandwidth (Dijkstra). A channel of
    /// unknown latency counts as immediate, one of unknown bandwidth as wide enough.
    fn reach(&self, source: &EntityId, kbps: u32, steps: &mut usize) -> Reached<'t> {
        let mut reached: Reached<'t> = vec![None; self.next.len()];
        let Some(source) = self.indices.get(source).copied() else {
            return reached;
        };
        reached[source] = Some((Duration::ZERO, None));
        let mut queue = BinaryHeap::from([Reverse((Duration::ZERO, source))]);
        while let Some(Reverse((latency, place))) = queue.pop() {
            // What is behind an appliance is not reached through it.
            let passes = place == source || self.is_server[place];
            let stale = reached[place].is_some_and(|(best, _)| best < latency);
            if !passes || stale {
                continue;
            }
            for (to, id, channel) in &self.next[place] {
                *steps += 1;
                if channel.bandwidth_kbps.is_some_and(|offered| offered < kbps) {
                    continue;
                }
                let total = latency.saturating_add(channel.latency.unwrap_or_default());
                if reached[*to].is_none_or(|(best, _)| total < best) {
                    reached[*to] = Some((total, Some((place, id))));
                    queue.push(Reverse((total, *to)));
                }
            }
        }
        reached
    }

    /// How long the fastest way to a place takes.
    fn latency(&self, reached: &Reached<'t>, target: &EntityId) -> Option<Duration> {
        let index = self.indices.get(target)?;
        reached[*index].map(|(latency, _)| latency)
    }

    /// The channels of the fastest way to a place, each once.
    fn channels_to(&self, reached: &Reached<'t>, target: &EntityId) -> Vec<&'t EntityId> {
        let mut channels = Vec::new();
        let mut at = self.indices.get(target).copied();
        while let Some((_, Some((before, channel)))) = at.and_then(|index| reached[index]) {
            channels.push(channel);
            at = Some(before);
        }
        channels.sort_unstable();
        channels.dedup();
        channels
    }
}
