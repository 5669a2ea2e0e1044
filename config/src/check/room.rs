//! A server has room for the elements placed on it (V09).

use std::collections::BTreeMap;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Topology;
use lamplighter_policies::placement::AGENT_RESERVE;

use crate::diagnostics::{Code, Fault, Faults};
use crate::resolve::Places;

#[derive(Default)]
struct Sum {
    cpu_milli: u64,
    ram_mb: u64,
    disk_mb: u64,
    greatest: Option<(u64, EntityId)>,
}

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    let mut sums: BTreeMap<&EntityId, Sum> = BTreeMap::new();
    for (id, element) in &topology.elements {
        let Some(server) = &element.server else {
            continue;
        };
        let demand = element.demand;
        let sum = sums.entry(server).or_default();
        sum.cpu_milli += u64::from(demand.cpu_milli);
        sum.ram_mb += u64::from(demand.ram_mb);
        sum.disk_mb += u64::from(demand.disk_mb);
        let weight = u64::from(demand.cpu_milli) + u64::from(demand.ram_mb);
        if sum.greatest.as_ref().is_none_or(|(most, _)| weight > *most) {
            sum.greatest = Some((weight, id.clone()));
        }
    }
    for (server, sum) in sums {
        let resources = topology.servers.get(server).and_then(|it| it.resources);
        let Some(offered) = resources else {
            continue;
        };
        let kinds = [
            (
                "cpu_milli",
                sum.cpu_milli,
                offered.cpu_milli,
                AGENT_RESERVE.cpu_milli,
            ),
            ("ram_mb", sum.ram_mb, offered.ram_mb, AGENT_RESERVE.ram_mb),
            (
                "disk_mb",
                sum.disk_mb,
                offered.disk_mb,
                AGENT_RESERVE.disk_mb,
            ),
        ];
        for (key, asked, offered, reserve) in kinds {
            // A server that nothing is asked of is not full, even if it offers less than an agent.
            if asked == 0 || asked + u64::from(reserve) <= u64::from(offered) {
                continue;
            }
            let reason = format!(
                "server `{server}` is too small: its elements ask for {asked} {key} and its agent \
                 for {reserve}, it offers {offered}"
            );
            let mut fault = Fault::new(Code::V09, places.of(server), reason)
                .cure("place an element elsewhere, or ask for less");
            if let Some((_, element)) = &sum.greatest {
                fault = fault.also(places.of(element), "asks for the most");
            }
            faults.add(fault);
        }
    }
}
