//! Why a block has no place, in names instead of numbers.

use core::time::Duration;

use super::instance::Hindrance;
use super::obstacle::{NoPlace, Obstacle, Resource, Shortage};
use super::partial::Partial;

/// What keeps a block from each server.
pub(super) fn no_place(partial: &Partial<'_, '_>, block: usize) -> NoPlace {
    let instance = partial.instance;
    let servers = (0..instance.servers_count).filter(|server| instance.takes[*server]);
    let told = |server| {
        let hindrance = instance
            .lasting_hindrance(block, server)
            .or_else(|| partial.present_hindrance(block, server));
        let obstacle = hindrance.map_or(Obstacle::Competition, |hindrance| {
            obstacle(partial, block, server, hindrance)
        });
        (instance.network.place(server).clone(), obstacle)
    };
    NoPlace {
        servers: servers.map(told).collect(),
    }
}

/// What keeps a block from a server, in names.
pub(super) fn obstacle(
    partial: &Partial<'_, '_>,
    block: usize,
    server: usize,
    hindrance: Hindrance,
) -> Obstacle {
    let instance = partial.instance;
    let known = &instance.blocks[block];
    let id = instance.network.place(server);
    let offered = &instance.problem.topology.servers[id];
    let elements = || known.elements.iter();
    let element = |id| &instance.problem.topology.elements[id];
    let binding = |tie: usize| known.ties[tie].binding.clone();
    let first_of = |block: usize| instance.blocks[block].elements[0].clone();
    let shortage = |kind: usize, used: u64| {
        let offers = instance.offers[server].map_or(0, |offers| offers[kind]);
        Shortage {
            resource: [Resource::Processor, Resource::Memory, Resource::Disk][kind],
            needs: known.demand[kind],
            offers: offers.saturating_sub(used),
        }
    };
    match hindrance {
        Hindrance::Contradiction => Obstacle::Contradiction,
        Hindrance::Barred => Obstacle::Barred,
        Hindrance::Pinned => {
            let mut pinned = elements().map(|id| element(*id));
            let pinned = pinned.find(|it| it.placement.pinned && it.server.as_ref() != Some(id));
            let server = pinned.and_then(|it| it.server.clone());
            Obstacle::Pinned(server.unwrap_or_else(|| id.clone()))
        }
        Hindrance::Architecture => {
            Obstacle::Architecture(offered.architecture.clone().unwrap_or_default())
        }
        Hindrance::Label => {
            let labels = elements().flat_map(|id| &element(*id).placement.labels);
            let mut missing = labels.filter(|label| !offered.labels.contains(*label));
            Obstacle::Label(missing.next().cloned().unwrap_or_default())
        }
        Hindrance::Zone => Obstacle::Zone(offered.zone.clone()),
        Hindrance::Together(with) => Obstacle::Together(first_of(with)),
        Hindrance::Apart(from) => Obstacle::Apart(first_of(from)),
        Hindrance::Small(kind) => Obstacle::Small(shortage(kind, 0)),
        Hindrance::Room(kind) => Obstacle::Room(shortage(kind, partial.used(server, kind))),
        Hindrance::Path(tie) => Obstacle::Path {
            binding: binding(tie),
        },
        Hindrance::Latency(tie, micros) => Obstacle::Latency {
            binding: binding(tie),
            takes: Duration::from_micros(micros.into()),
            allows: Duration::from_micros(known.ties[tie].micros_max.into()),
        },
        Hindrance::Bandwidth(tie, channel) => Obstacle::Bandwidth {
            binding: binding(tie),
            channel: instance.network.channels()[channel].0.clone(),
        },
    }
}
