//! What the topology would say of the house.

use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    Access, ActuationClass, CheckpointPolicy, DeviceModel, Domain, Evidence, Property, Reversion,
    Value,
};
use lamplighter_policies::protocol::cell::{
    CellSettings, InboundLink, OutboundLink, Source, Target,
};
use lamplighter_policies::restart::RestartPolicy;

use super::id;
use crate::device::Device;
use crate::dice::Dice;

pub(super) fn devices(dice: &mut Dice) -> Vec<Device> {
    const NAMES: [&str; 4] = ["one", "two", "three", "four"];
    let count = 1 + usize::try_from(dice.below(4)).expect("small");
    let device = |name: &&'static str| Device {
        name,
        property: "state",
        class: [
            ActuationClass::Set,
            ActuationClass::Set,
            ActuationClass::Irreversible,
            ActuationClass::Irreversible,
            ActuationClass::Keyed,
            ActuationClass::Alarm,
        ][usize::try_from(dice.below(6)).expect("small")],
        answers: dice.one_in(2),
        counts: dice.one_in(2),
        reverts: dice.one_in(3),
        shows: [("count".to_owned(), Value::Integer(0))].into(),
        trace: Vec::new(),
    };
    NAMES.iter().take(count).map(device).collect()
}

fn modelled(device: &Device) -> (EntityId, DeviceModel) {
    let reverts = Reversion {
        to: Value::Integer(0),
        after: Duration::ZERO,
    };
    let state = Property {
        capability: "state".into(),
        access: Access::Both,
        domain: Domain::Any,
        class: device.class,
        relative: None,
        reverts: Some(reverts).filter(|_| device.reverts && device.class == ActuationClass::Set),
        accumulates: false,
    };
    let model = DeviceModel {
        evidence: device.counts.then(|| Evidence::Counter("count".into())),
        answers: device.answers,
        properties: [(device.property.into(), state)].into(),
        ..DeviceModel::unknown(device.class)
    };
    (id(device.name), model)
}

pub(super) fn settings(devices: &[Device]) -> CellSettings {
    let outbound = devices.iter().map(|device| OutboundLink {
        id: device.name.into(),
        port: device.name.into(),
        prefix: vec![],
        target: Target::Appliance(id(device.name)),
        valid_for: None,
    });
    let inbound = devices.iter().map(|device| InboundLink {
        id: id(&format!("from-{}", device.name)),
        source: id(device.name),
        kind: Source::Device,
    });
    let source = InboundLink {
        id: id("in"),
        source: id("source"),
        kind: Source::Element,
    };
    CellSettings {
        inbound: inbound.chain([source]).collect(),
        outbound: outbound.collect(),
        devices: devices.iter().map(modelled).collect(),
        checkpoint: CheckpointPolicy {
            every: 7,
            interval: Duration::from_millis(400),
        },
        restart: RestartPolicy {
            restarts_max: 1_000_000,
            ..RestartPolicy::default()
        },
        attempts_max: 1_000,
        ..CellSettings::new(id("element"))
    }
}
