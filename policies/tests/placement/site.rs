//! A site of servers, channels, elements and bindings, whichever a test needs.

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    ActuationClass, Appliance, ApplianceApi, Application, Binding, Broker, Channel,
    CheckpointPolicy, CommandMethod, Communication, Detection, DeviceModel, Durability, Element,
    Isolation, Lag, Liveness, LocalStorage, LogChoice, Medium, OnExpired, PlacementRules,
    Resources, Role, Server, Store, StoreKind, Substitution, Topology,
};
use lamplighter_policies::restart::RestartPolicy;

pub(crate) fn id(name: &str) -> EntityId {
    EntityId::new(name).expect("a valid id")
}

/// So many thousandths of a core, and so much memory.
pub(crate) fn room(cpu_milli: u32, ram_mb: u32) -> Resources {
    Resources {
        cpu_milli,
        ram_mb,
        disk_mb: 0,
    }
}

pub(crate) fn server(resources: Option<Resources>) -> Server {
    Server {
        storage: LocalStorage::Volatile,
        zone: None,
        architecture: None,
        labels: Default::default(),
        resources,
        isolation: Isolation::Process,
    }
}

pub(crate) fn element(demand: Resources) -> Element {
    Element {
        kind: "Kind".into(),
        server: None,
        state: BTreeMap::new(),
        stateless: false,
        essential: true,
        criticality: 0,
        demand,
        log: LogChoice::default(),
        checkpoint: CheckpointPolicy::default(),
        restart: RestartPolicy::default(),
        attempts: 2,
        mailbox: 1,
        durability: Durability::Required,
        on_expired: OnExpired::Absorb,
        lag: Lag::default(),
        handler_within: std::time::Duration::from_secs(10),
        placement: PlacementRules::default(),
    }
}

pub(crate) fn channel(ends: &[(&str, &str)], latency_ms: u64) -> Channel {
    Channel {
        medium: Medium::Wired,
        ends: ends.iter().map(|(a, b)| (id(a), id(b))).collect(),
        latency: Some(Duration::from_millis(latency_ms)),
        bandwidth_kbps: None,
        loss: None,
    }
}

pub(crate) fn binding(from: &str, to: &str) -> Binding {
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

pub(crate) fn appliance() -> Appliance {
    Appliance {
        api: ApplianceApi::Mqtt,
        role: Role::Both,
        functions: Default::default(),
        spaces: Default::default(),
        position: None,
        zone: None,
        topic: Some("device".into()),
        class: ActuationClass::Set,
        report_period: None,
        identified_by: None,
        stamped_by: None,
        safe_state: None,
        model: DeviceModel::default(),
        liveness: Liveness::default(),
        substitution: Substitution::default(),
        essential: false,
        address: None,
        method: CommandMethod::default(),
        adapter: None,
    }
}

pub(crate) fn empty() -> Topology {
    Topology {
        application: Application { name: id("site") },
        servers: BTreeMap::new(),
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

/// Servers of 1000 `cpu_milli` and 1024 `ram_mb` besides the agents' share, all next to each other.
pub(crate) fn servers(names: &[&str]) -> Topology {
    let mut site = empty();
    let offers = room(1_100, 1_088);
    let names = names.iter();
    site.servers = names
        .clone()
        .map(|it| (id(it), server(Some(offers))))
        .collect();
    let mut pairs = Vec::new();
    for (index, one) in names.clone().enumerate() {
        pairs.extend(names.clone().skip(index + 1).map(|other| (*one, *other)));
    }
    site.channels.insert(id("lan"), channel(&pairs, 1));
    site
}

/// Adds elements of a demand of processor time.
pub(crate) fn add(site: &mut Topology, elements: &[(&str, u32)]) {
    for (name, cpu_milli) in elements {
        site.elements
            .insert(id(name), element(room(*cpu_milli, 10)));
    }
}
