//! A binding between two places has a path of channels that carries it (V08).

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Binding, Network, Topology, Ways};
use lamplighter_policies::placement::kbps_needed;

use crate::diagnostics::{Code, Fault, Faults, Severity};
use crate::resolve::Places;
use crate::values::show;

/// How many channel ends all searches together may look at.
const STEPS_MAX: u64 = 2_000_000;

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
    let network = Network::new(topology, &BTreeSet::new());
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
        let Some(index) = network.index(source) else {
            continue;
        };
        let ways = network.ways(index, *kbps);
        steps += ways.steps();
        for (id, binding) in bindings {
            let route = Route {
                id,
                binding,
                source,
                kbps: *kbps,
            };
            route.check(topology, &network, &ways, (places, faults), &mut load);
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
            let kbps = kbps_needed(binding);
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
        ways: &Ways,
        (places, faults): (&Places, &mut Faults),
        load: &mut BTreeMap<&'t EntityId, u64>,
    ) {
        let (id, source) = (self.id, self.source);
        let target = end_place(topology, self.binding);
        let Some((target, index)) = target.and_then(|it| Some((it, network.index(it)?))) else {
            return;
        };
        let Some(latency) = ways.latency(index) else {
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
            for channel in ways.channels_to(index) {
                let (channel, _) = network.channels()[channel];
                *load.entry(channel).or_default() += u64::from(self.kbps);
            }
        }
    }
}
