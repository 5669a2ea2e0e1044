//! A house of lamps, whichever a test needs.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    Access, ActuationClass, Appliance, ApplianceApi, Application, Binding, Broker,
    CheckpointPolicy, CommandMethod, Communication, Detection, DeviceModel, Domain, Durability,
    Element, Isolation, Lag, Liveness, LocalStorage, LogChoice, OnExpired, PlacementRules,
    Property, Resources, Role, Server, Store, StoreKind, Substitution, Topology,
};
use lamplighter_policies::restart::RestartPolicy;

pub(super) fn id(name: &str) -> EntityId {
    EntityId::new(name).expect("a valid id")
}

pub(super) fn property(capability: &str, class: ActuationClass) -> Property {
    Property {
        capability: capability.into(),
        access: Access::Both,
        domain: Domain::Any,
        class,
        relative: None,
        reverts: None,
        accumulates: false,
    }
}

/// A dimmable lamp in the bedroom.
pub(super) fn lamp() -> Appliance {
    let properties = [
        ("state", property("on-off", ActuationClass::Set)),
        ("brightness", property("brightness", ActuationClass::Set)),
    ];
    Appliance {
        api: ApplianceApi::Mqtt,
        role: Role::Both,
        functions: BTreeSet::new(),
        spaces: [id("bedroom")].into(),
        position: None,
        zone: None,
        topic: Some("lamp".into()),
        class: ActuationClass::Set,
        report_period: None,
        identified_by: None,
        stamped_by: None,
        safe_state: None,
        model: DeviceModel {
            name: "light".into(),
            properties: properties.map(|(name, it)| (name.to_owned(), it)).into(),
            other: ActuationClass::Set,
            evidence: None,
            answers: true,
        },
        liveness: Liveness::default(),
        substitution: Substitution::default(),
        essential: false,
        address: None,
        method: CommandMethod::default(),
        adapter: None,
    }
}

/// A device of which only these functions are known.
pub(super) fn with_functions(functions: &[&str]) -> Appliance {
    Appliance {
        model: DeviceModel::unknown(ActuationClass::Set),
        functions: functions.iter().map(|it| (*it).to_owned()).collect(),
        ..lamp()
    }
}

pub(super) fn element(criticality: u8) -> Element {
    Element {
        kind: "Kind".into(),
        server: Some(id("pc")),
        state: BTreeMap::new(),
        stateless: false,
        essential: true,
        criticality,
        demand: Resources::default(),
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

pub(super) fn binding(from: &str, to: &str) -> Binding {
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

/// A house in which the element `lights` uses these appliances, and no others.
pub(super) fn house(appliances: &[(&str, Appliance)], used: &[&str]) -> Topology {
    let server = Server {
        storage: LocalStorage::Volatile,
        zone: None,
        architecture: None,
        labels: BTreeSet::new(),
        resources: None,
        isolation: Isolation::Process,
    };
    let bindings = used
        .iter()
        .map(|it| (id(&format!("b-{it}")), binding("lights", it)));
    Topology {
        application: Application { name: id("house") },
        servers: [(id("pc"), server)].into(),
        channels: BTreeMap::new(),
        spaces: BTreeMap::new(),
        appliances: appliances
            .iter()
            .map(|(name, it)| (id(name), it.clone()))
            .collect(),
        elements: [(id("lights"), element(0))].into(),
        bindings: bindings.collect(),
        store: Store {
            kind: StoreKind::Embedded,
            durability: Durability::Required,
            lease: Store::LEASE,
        },
        broker: Broker::Embedded,
        detection: Detection::default(),
    }
}
