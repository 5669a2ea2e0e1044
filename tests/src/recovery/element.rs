//! The element of these tests: a fold, what it saves, and the law that it must keep.

use std::collections::BTreeSet;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Value;
use lamplighter_policies::model::{ActuationClass, CheckpointPolicy, DeviceModel};
use lamplighter_policies::protocol::cell::{
    Cause, CellSettings, Emitted, InboundLink, Meta, OutboundLink, Source, Target,
};
use lamplighter_policies::restart::RestartPolicy;
use lamplighter_policies::state_saving::Fields;
use lamplighter_runtime::store::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Outside, READINGS};

/// Folds one input into the state, and returns what it makes the element say. What goes to the
/// receiver tells all of the state, so that a replay that differs is seen there.
pub fn outputs(state: &mut Fields, input: u8) -> Vec<Emitted> {
    state
        .entry(".first".into())
        .or_insert_with(|| vec![input; 40]);
    let history = state.entry(".history".into()).or_default();
    history.push(input);
    let sum = history
        .iter()
        .fold(0_u8, |sum, n| sum.wrapping_mul(31).wrapping_add(*n));
    state.insert(".sum".into(), vec![sum]);
    let emit = |port: &str| Emitted {
        port: port.into(),
        valid_for: None,
        payload: vec![input, sum],
        properties: [(String::new(), Value::Integer(input.into()))].into(),
    };
    let mut emitted = vec![emit("out")];
    if commands_something(input) {
        emitted.push(emit("act"));
    }
    emitted
}

/// Whether the fold answers this input with a command to the appliance.
fn commands_something(input: u8) -> bool {
    input.is_multiple_of(3)
}

/// Compares the state at rest, and what became of it outside, with the fold of all that was said.
///
/// # Errors
/// Which of them differ, and how.
pub fn law(state: &Fields, events: u8, readings: u8, outside: &Outside) -> Result<(), String> {
    let equal = |what: &str, found: String, expected: String| match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found}, expected {expected}")),
    };
    let history = state.get(".history").cloned().unwrap_or_default();
    // The order between two sources is the log's to choose, the order of each is its own.
    let (of_device, of_source): (Vec<u8>, Vec<u8>) =
        history.iter().partition(|input| **input > READINGS);
    let said: Vec<u8> = (1..=events).collect();
    equal("events", format!("{of_source:?}"), format!("{said:?}"))?;
    let said: Vec<u8> = (1..=readings).map(|n| READINGS + n).collect();
    equal("readings", format!("{of_device:?}"), format!("{said:?}"))?;
    let mut folded = Fields::new();
    let mut received = Vec::new();
    for input in &history {
        received.push(outputs(&mut folded, *input)[0].payload.clone());
    }
    equal("state", format!("{state:?}"), format!("{folded:?}"))?;
    let found = format!("{:?}", outside.received);
    equal("downstream", found, format!("{received:?}"))?;
    let carried_out = &outside.carried_out;
    if !carried_out.is_sorted_by(|a, b| a < b) {
        return Err(format!(
            "commands repeated or out of order: {carried_out:?}"
        ));
    }
    let known: BTreeSet<_> = carried_out.iter().chain(&outside.unknown).collect();
    let commanded = history.iter().filter(|input| commands_something(**input));
    equal(
        "commands",
        known.len().to_string(),
        commanded.count().to_string(),
    )
}

/// A valid id.
#[must_use]
pub fn id(name: &str) -> EntityId {
    EntityId::new(name).expect("a valid id")
}

pub(super) fn settings(element: &EntityId) -> CellSettings {
    let inbound = |link: &str, kind| InboundLink {
        id: id(link),
        source: id(link),
        kind,
    };
    let outbound = |port: &str, target| OutboundLink {
        id: port.into(),
        port: port.into(),
        prefix: vec![],
        target,
        valid_for: None,
    };
    CellSettings {
        inbound: vec![
            inbound("in", Source::Element),
            inbound("device", Source::Device),
        ],
        outbound: vec![
            outbound("out", Target::Element),
            outbound("act", Target::Appliance(id("act"))),
        ],
        devices: [(
            id("act"),
            DeviceModel::unknown(ActuationClass::Irreversible),
        )]
        .into(),
        checkpoint: CheckpointPolicy {
            every: 5,
            interval: std::time::Duration::from_secs(1),
        },
        restart: RestartPolicy {
            restarts_max: 1_000_000,
            ..RestartPolicy::default()
        },
        attempts_max: 1_000,
        records_max: 3,
        mailbox_max: 16,
        ..CellSettings::new(element.clone())
    }
}

/// What the cell saves beside the state, each part a field of its own.
pub(super) fn fields_of(meta: &Meta) -> Fields {
    fn part(name: &str, value: &impl Serialize) -> (String, Vec<u8>) {
        let body = rmp_serde::to_vec_named(value).expect("the cell's own values encode");
        (name.into(), body)
    }
    Fields::from([
        part("@lineage", &meta.lineage),
        part("@folded", &meta.folded),
        part("@outboxes", &meta.outboxes),
        part("@commands", &meta.commands),
        part("@timers", &meta.timers),
        part("@remembered", &meta.remembered),
        part("@world", &meta.world),
        part("@explanation", &meta.explanation),
        part("@calls", &meta.calls),
        part("@losses", &meta.losses),
        part("@orphaned", &meta.orphaned),
        part("@reconfiguration", &meta.reconfiguration),
    ])
}

pub(super) fn meta_of(fields: &Fields) -> Meta {
    fn part<T: DeserializeOwned + Default>(fields: &Fields, name: &str) -> T {
        fields.get(name).map_or_else(T::default, |body| {
            rmp_serde::from_slice(body).expect("what was written is read")
        })
    }
    Meta {
        lineage: part(fields, "@lineage"),
        folded: part(fields, "@folded"),
        outboxes: part(fields, "@outboxes"),
        commands: part(fields, "@commands"),
        timers: part(fields, "@timers"),
        remembered: part(fields, "@remembered"),
        world: part(fields, "@world"),
        explanation: part(fields, "@explanation"),
        calls: part(fields, "@calls"),
        losses: part(fields, "@losses"),
        orphaned: part(fields, "@orphaned"),
        reconfiguration: part(fields, "@reconfiguration"),
    }
}

/// What the cell must know of a store's error.
pub(super) fn cause(error: StoreError) -> Cause {
    match error {
        StoreError::Gap { head, .. } => Cause::Gap { head },
        StoreError::Unavailable { .. } => Cause::Unavailable(error.to_string()),
        StoreError::Fenced { .. } => Cause::Fenced(error.to_string()),
        StoreError::Refused { .. } | StoreError::Damaged { .. } => {
            Cause::Refused(error.to_string())
        }
    }
}
