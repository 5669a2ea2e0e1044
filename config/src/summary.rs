//! A checked topology for people: what there is, who needs whom, how each flow is saved and why.

use std::collections::BTreeMap;

use lamplighter_policies::model::{
    Binding, Broker, Communication, Element, Endpoint, Flow, RedisServer, Role, Store, StoreKind,
    Topology,
};
use lamplighter_policies::physical_world::Validity;
use lamplighter_policies::state_saving::{FlowSaving, SavingPolicy, Site, Strategy, Timing};

use crate::render::printable;
use crate::table::{counted, section, table};
use crate::values::show;

/// What a topology says, as a page of aligned tables at most 100 columns wide.
#[must_use]
pub fn summary(topology: &Topology) -> String {
    let mut page = format!(
        "application {}: {}, {}, {}, {}\nstore {}, broker {}\n",
        topology.application.name,
        counted(topology.servers.len(), "server"),
        counted(topology.appliances.len(), "appliance"),
        counted(topology.elements.len(), "element"),
        counted(topology.bindings.len(), "binding"),
        store(&topology.store),
        broker(&topology.broker),
    );
    section(&mut page, "servers", &servers(topology));
    section(&mut page, "elements", &elements(topology));
    section(&mut page, "appliances", &appliances(topology));
    section(&mut page, "dependencies", &dependencies(topology));
    section(&mut page, "flows and how they are saved", &flows(topology));
    page
}

fn store(store: &Store) -> String {
    let kind = match &store.kind {
        StoreKind::Embedded => "embedded".to_owned(),
        StoreKind::Redis(RedisServer::Managed) => "redis, started with it".to_owned(),
        StoreKind::Redis(RedisServer::External { url, .. }) => url.clone(),
    };
    printable(&kind)
}

fn broker(broker: &Broker) -> String {
    let kind = match broker {
        Broker::Embedded => "embedded".to_owned(),
        Broker::Mosquitto => "mosquitto, started with it".to_owned(),
        Broker::External { url, .. } => url.clone(),
    };
    printable(&kind)
}

fn servers(topology: &Topology) -> Vec<Vec<String>> {
    let header = ["server", "storage", "zone", "elements"];
    let rows = topology.servers.iter().map(|(id, server)| {
        let here = topology.elements.iter();
        let here: Vec<_> = here
            .filter(|(_, element)| element.server.as_ref() == Some(id))
            .map(|(element, _)| element.as_str())
            .collect();
        vec![
            id.to_string(),
            format!("{:?}", server.storage).to_lowercase(),
            server.zone.clone().unwrap_or_else(|| "-".to_owned()),
            if here.is_empty() {
                "-".to_owned()
            } else {
                here.join(", ")
            },
        ]
    });
    table(header, rows)
}

fn elements(topology: &Topology) -> Vec<Vec<String>> {
    let header = ["element", "kind", "server", "checkpoint", "restarts"];
    let rows = topology.elements.iter().map(|(id, element)| {
        vec![
            id.to_string(),
            element.kind.clone(),
            match &element.server {
                Some(server) => server.to_string(),
                None => "chosen later".to_owned(),
            },
            checkpoint(element),
            format!(
                "{} within {}",
                element.restart.restarts_max,
                show(element.restart.within)
            ),
        ]
    });
    table(header, rows)
}

fn checkpoint(element: &Element) -> String {
    if element.stateless {
        return "the first only".to_owned();
    }
    let policy = element.checkpoint;
    format!("{} inputs or {}", policy.every, show(policy.interval))
}

fn appliances(topology: &Topology) -> Vec<Vec<String>> {
    let header = ["appliance", "role", "class", "spaces", "functions"];
    let rows = topology.appliances.iter().map(|(id, appliance)| {
        let spaces: Vec<_> = appliance.spaces.iter().map(|id| id.as_str()).collect();
        let functions: Vec<_> = appliance.functions.iter().map(String::as_str).collect();
        vec![
            id.to_string(),
            format!("{:?}", appliance.role).to_lowercase(),
            match appliance.role {
                Role::Sensor => "-".to_owned(),
                Role::Actuator | Role::Both => format!("{:?}", appliance.class).to_lowercase(),
            },
            if spaces.is_empty() {
                "-".to_owned()
            } else {
                spaces.join(", ")
            },
            functions.join(", "),
        ]
    });
    table(header, rows)
}

fn dependencies(topology: &Topology) -> Vec<Vec<String>> {
    let header = ["dependent", "requires", "binding", "by"];
    let rows = topology.bindings.iter().map(|(id, binding)| {
        let need = if binding.mandatory { "" } else { ", optional" };
        vec![
            binding.from.to_string(),
            match &binding.to {
                Some(to) => to.to_string(),
                None => "a device not declared".to_owned(),
            },
            id.to_string(),
            format!("{}{need}", means(binding)),
        ]
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    table(header, rows.into_iter())
}

fn means(binding: &Binding) -> &'static str {
    match binding.model {
        Communication::Message => "messages",
        Communication::Call => "calls",
    }
}

/// Flows under who keeps their records: timing and reason are the same for all that one element
/// keeps.
fn flows(topology: &Topology) -> Vec<Vec<String>> {
    let mut kept: BTreeMap<&str, (String, Vec<Vec<String>>)> = BTreeMap::new();
    let savings: Vec<_> = topology
        .flows()
        .map(|flow| (flow, topology.saving(flow)))
        .collect();
    for (flow, saving) in &savings {
        let Some(saving) = saving else { continue };
        let title = || format!("kept by {}: {}", saving.keeper, timing(saving));
        let (_, rows) = kept
            .entry(saving.keeper.as_str())
            .or_insert_with(|| (title(), Vec::new()));
        rows.push(vec![
            format!("  {}", end(&flow.source)),
            end(&flow.target),
            holds(flow),
            record(saving),
        ]);
    }
    let header = ["  from", "to", "holds", "saved"].map(str::to_owned);
    std::iter::once(header.to_vec())
        .chain(
            kept.into_values()
                .flat_map(|(title, rows)| std::iter::once(vec![title]).chain(rows)),
        )
        .collect()
}

fn timing(saving: &FlowSaving) -> String {
    let timing = match saving.policy.map(|policy| policy.timing) {
        Some(Timing::Pessimistic) => "pessimistic, before delivery",
        Some(Timing::Optimistic) => "optimistic, after delivery",
        None => "not saved",
    };
    format!("{timing}, because of {}", saving.reason)
}

fn record(saving: &FlowSaving) -> String {
    let Some(SavingPolicy {
        strategy,
        timing: _,
        site,
        reply_logged,
    }) = saving.policy
    else {
        return "-".to_owned();
    };
    let strategy = match strategy {
        Strategy::MessageLog => "message",
        Strategy::CallRecord => "call",
    };
    let site = match site {
        Site::Emission => "emission",
        Site::Reception => "reception",
    };
    let reply = if reply_logged { " and reply" } else { "" };
    format!("{strategy} at {site}{reply}")
}

pub(crate) fn end(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Element { element, port } => format!("{element}.{port}"),
        Endpoint::Device {
            appliance: Some(appliance),
            ..
        } => appliance.to_string(),
        Endpoint::Device {
            appliance: None,
            topic,
        } => topic.clone(),
    }
}

fn holds(flow: &Flow) -> String {
    match flow.valid_for {
        Some(Validity::Immediate) => "at once".to_owned(),
        Some(Validity::For(span)) => show(span),
        Some(Validity::Unbounded) => "for ever".to_owned(),
        None if flow.source.element().is_some() => "as sent".to_owned(),
        None => "for ever".to_owned(),
    }
}
