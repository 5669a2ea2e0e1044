//! What the topology would say of the house.

use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    Access, ActuationClass, CheckpointPolicy, DeviceModel, Domain, Evidence, Property, Reversion,
    Value,
};
use lamplighter_policies::protocol::cell::{
    CellSettings, InboundLink, OutboundLink, Place, Source, Target,
};
use lamplighter_policies::restart::RestartPolicy;

use super::id;
use crate::device::Device;
use crate::dice::Dice;

pub(super) fn devices(dice: &mut Dice) -> Vec<Device> {
    const NAMES: [&str; 4] = ["one", "two", "three", "four"];
    let count = 1 + usize::try_from(dice.below(4)).expect("small");
    let device = |name: &&'static str| {
        let class = [
            ActuationClass::Set,
            ActuationClass::Set,
            ActuationClass::Irreversible,
            ActuationClass::Irreversible,
            ActuationClass::Keyed,
            ActuationClass::Alarm,
        ][usize::try_from(dice.below(6)).expect("small")];
        Device {
            name,
            property: "state",
            class,
            answers: dice.one_in(2),
            counts: dice.one_in(2),
            reverts: dice.one_in(3),
            accumulates: class == ActuationClass::Keyed && dice.one_in(2),
            counted: 0,
            shows: [("count".to_owned(), Value::Integer(0))].into(),
            trace: Vec::new(),
        }
    };
    NAMES.iter().take(count).map(device).collect()
}

/// Another device like it, which has counted other things.
pub(super) fn spare(dice: &mut Dice, device: &Device) -> Device {
    let counted = i64::try_from(dice.below(4)).expect("small");
    Device {
        name: device.name,
        property: device.property,
        class: device.class,
        answers: device.answers,
        counts: device.counts,
        reverts: device.reverts,
        accumulates: device.accumulates,
        counted,
        shows: [("count".to_owned(), Value::Integer(counted))].into(),
        trace: Vec::new(),
    }
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
        accumulates: device.accumulates,
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
    let place = |device: &Device| {
        let name = device.name.to_owned();
        let place = Place {
            links: [name.clone()].into(),
            outputs: [name].into(),
            safe_state: None,
        };
        (id(device.name), place)
    };
    CellSettings {
        places: devices.iter().map(place).collect(),
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
