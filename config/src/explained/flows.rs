//! Who saves each flow, when, where and why, and until when it may act (paper, Figure 4 and 4.2.1).

use std::time::Duration;

use lamplighter_policies::model::{
    Endpoint, Flow, LocalStorage, LogChoice, OnExpired, Property, Topology,
};
use lamplighter_policies::physical_world::Validity;
use lamplighter_policies::state_saving::{Destination, FlowSaving, SavingReason, Timing, cell};

use super::FlowExplained;
use crate::summary::end;
use crate::values::show;

pub(super) fn explain(topology: &Topology) -> Vec<FlowExplained> {
    let mut flows: Vec<_> = topology
        .flows()
        .filter_map(|flow| explained(topology, flow))
        .collect();
    flows.sort_by(|one, other| one.keeper.cmp(&other.keeper));
    flows
}

fn explained(topology: &Topology, flow: &Flow) -> Option<FlowExplained> {
    let saving = topology.saving(flow)?;
    let element = topology.elements.get(&saving.keeper)?;
    let binding = topology.bindings.get(&flow.binding)?;
    let server = element.server.as_ref();
    let storage = server
        .and_then(|server| topology.servers.get(server))
        .map_or(LocalStorage::Volatile, |server| server.storage);
    let is_device = |end: &Endpoint| end.element().is_none();
    // The figure's unit is a binding: what a device reports belongs to the device's cell.
    let destination = if is_device(&flow.source) || is_device(&flow.target) {
        Destination::Appliance
    } else {
        Destination::Element
    };
    let policy = saving.policy;
    let (acts, acts_for) = acts(topology, flow);
    let microseconds = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Some(FlowExplained {
        binding: flow.binding.clone(),
        from: end(&flow.source),
        to: end(&flow.target),
        cell: cell(storage, binding.model, destination),
        what: policy.map(|policy| policy.strategy),
        when: policy.map(|policy| policy.timing),
        site: policy.map(|policy| policy.site),
        reply: policy.is_some_and(|policy| policy.reply_logged),
        storage: match policy.map(|policy| policy.timing) {
            Some(Timing::Pessimistic) => "the stable store".to_owned(),
            Some(Timing::Optimistic) => format!(
                "the local log of {}, then the stable store within {} or {} records",
                server.map_or("its server", |server| server.as_str()),
                show(element.lag.time),
                element.lag.records
            ),
            None => "nowhere".to_owned(),
        },
        because: because(&saving, element.log),
        holds: holds(flow),
        on_expired: on_expired(topology, flow),
        acts,
        acts_for_us: acts_for.map(microseconds),
        keeper: saving.keeper,
    })
}

fn because(saving: &FlowSaving, log: LogChoice) -> String {
    let word = match log {
        LogChoice::Derived => return derived(saving.reason),
        LogChoice::Pessimistic => "pessimistic",
        LogChoice::Optimistic => "optimistic",
        LogChoice::None => "none",
    };
    format!("`log = \"{word}\"`")
}

fn derived(reason: SavingReason) -> String {
    match reason {
        SavingReason::NoPlace => "it may come to any server, and this is safe on all".to_owned(),
        SavingReason::Storage(_) | SavingReason::Author => reason.to_string(),
    }
}

fn holds(flow: &Flow) -> String {
    match flow.valid_for {
        Some(Validity::Immediate) => "as it occurs".to_owned(),
        Some(Validity::For(span)) => show(span),
        Some(Validity::Unbounded) => "until overridden".to_owned(),
        None if flow.source.element().is_some() => "as its sender says".to_owned(),
        None => "until overridden".to_owned(),
    }
}

/// Until when it may act on the world again, in words and from when it occurred: as long as every
/// clock within the bound agrees that it still holds.
fn acts(topology: &Topology, flow: &Flow) -> (String, Option<Duration>) {
    let skew = topology.detection.skew_max;
    let (mut acts, span) = match flow.valid_for {
        Some(Validity::Immediate) => ("never again".to_owned(), Some(Duration::ZERO)),
        Some(Validity::For(span)) => {
            let sure = span.saturating_sub(skew);
            (format!("{} after it occurred", show(sure)), Some(sure))
        }
        Some(Validity::Unbounded) => ("until overridden".to_owned(), None),
        None if flow.source.element().is_some() => {
            (format!("{} before its sender's end", show(skew)), None)
        }
        None => ("until overridden".to_owned(), None),
    };
    if let Some((name, property)) = reverting(topology, flow) {
        let back = property.reverts.as_ref();
        let after = back.map_or(Duration::ZERO, |back| back.after);
        let after = match after.is_zero() {
            true => String::new(),
            false => format!(" {} later", show(after)),
        };
        acts.push_str(&format!(", then `{name}` goes back{after}"));
    }
    (acts, span)
}

/// What of the device at the end of a flow goes back when a command to it expires.
fn reverting<'t>(topology: &'t Topology, flow: &Flow) -> Option<(&'t String, &'t Property)> {
    let appliance = topology.appliances.get(flow.target.appliance()?)?;
    let mut properties = appliance.model.properties.iter();
    properties.find(|(_, property)| property.reverts.is_some())
}

/// What becomes at the receiver of what had expired.
fn on_expired(topology: &Topology, flow: &Flow) -> Option<OnExpired> {
    let receiver = topology.elements.get(flow.target.element()?)?;
    Some(receiver.on_expired)
}
