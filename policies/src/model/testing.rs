//! Small topologies for tests.

use alloc::collections::BTreeMap;

use super::{
    Application, Broker, Detection, Durability, Isolation, LocalStorage, Server, Store, StoreKind,
    Topology,
};
use crate::ids::EntityId;

/// A topology of servers alone, each with its zone.
pub(crate) fn servers_in<'a>(zones: impl IntoIterator<Item = (&'a str, &'a str)>) -> Topology {
    let id = |name: &str| EntityId::new(name).expect("a valid name");
    let server = |zone: &str| Server {
        storage: LocalStorage::Volatile,
        zone: Some(zone.into()),
        architecture: None,
        labels: Default::default(),
        resources: None,
        isolation: Isolation::Process,
    };
    let servers = zones.into_iter();
    Topology {
        application: Application { name: id("a") },
        servers: servers
            .map(|(name, zone)| (id(name), server(zone)))
            .collect(),
        channels: BTreeMap::new(),
        spaces: BTreeMap::new(),
        appliances: BTreeMap::new(),
        elements: BTreeMap::new(),
        bindings: BTreeMap::new(),
        store: Store {
            kind: StoreKind::Embedded,
            durability: Durability::Required,
            lease: Store::LEASE,
        },
        broker: Broker::Embedded,
        detection: Detection::default(),
    }
}
