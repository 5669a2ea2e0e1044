//! A site of servers and elements that require each other.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::model::{
    Application, Binding, Broker, CheckpointPolicy, Communication, Detection, Durability, Element,
    Isolation, Lag, LocalStorage, LogChoice, OnExpired, PlacementRules, Resources, Server, Store,
    StoreKind, Topology,
};
use lamplighter_policies::restart::RestartPolicy;

use super::world::id;

/// Three servers with room for three elements each. On `rpi1` are `alarm`, which requires `hall`, which
/// requires `door`; on `rpi2` is `radio`, which the application can do without; `pc` is empty.
pub(super) fn site() -> Topology {
    let elements = [
        ("alarm", element("rpi1", true)),
        ("door", element("rpi1", true)),
        ("hall", element("rpi1", true)),
        ("radio", element("rpi2", false)),
    ];
    let bindings = [
        ("alarm-hall", binding("alarm", "hall")),
        ("hall-door", binding("hall", "door")),
    ];
    Topology {
        application: Application { name: id("site") },
        servers: ["pc", "rpi1", "rpi2"]
            .map(|name| (id(name), server()))
            .into(),
        channels: BTreeMap::new(),
        spaces: BTreeMap::new(),
        appliances: BTreeMap::new(),
        elements: elements.map(|(name, it)| (id(name), it)).into(),
        bindings: bindings.map(|(name, it)| (id(name), it)).into(),
        store: Store {
            kind: StoreKind::Embedded,
            durability: Durability::Required,
            lease: Store::LEASE,
        },
        broker: Broker::Embedded,
        detection: Detection::default(),
    }
}

/// One with room for three of the elements here, beside its agent.
fn server() -> Server {
    Server {
        storage: LocalStorage::Volatile,
        zone: None,
        architecture: None,
        labels: BTreeSet::new(),
        resources: Some(Resources {
            cpu_milli: 1_000,
            ram_mb: 364,
            disk_mb: 0,
        }),
        isolation: Isolation::Process,
    }
}

fn element(server: &str, essential: bool) -> Element {
    Element {
        kind: "Kind".into(),
        server: Some(id(server)),
        state: BTreeMap::new(),
        stateless: false,
        essential,
        criticality: 0,
        demand: Resources {
            cpu_milli: 100,
            ram_mb: 100,
            disk_mb: 0,
        },
        log: LogChoice::Derived,
        checkpoint: CheckpointPolicy::default(),
        restart: RestartPolicy::default(),
        attempts: 2,
        mailbox: 16,
        durability: Durability::Required,
        on_expired: OnExpired::Absorb,
        lag: Lag::default(),
        placement: PlacementRules::default(),
        handler_within: std::time::Duration::from_secs(10),
    }
}

fn binding(from: &str, to: &str) -> Binding {
    Binding {
        from: id(from),
        to: Some(id(to)),
        model: Communication::Message,
        mandatory: true,
        latency_max: None,
        rate_hz: None,
        payload_bytes: None,
        bandwidth_kbps_min: None,
        flows: Vec::new(),
        reply_within: Binding::REPLY_WITHIN,
    }
}
