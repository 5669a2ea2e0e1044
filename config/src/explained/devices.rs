//! What repeating a command to each appliance does, how it is known to be there, who could take its
//! place (paper, 4.2.2 and 4.2.4).

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    DeviceModel, Domain, Evidence, Liveness, Property, Relative, Topology, Value,
};
use lamplighter_policies::recovery::{Decision, Rejection, Situation, find_substitute, needed};

use super::{ApplianceExplained, Candidate, PropertyExplained};
use crate::values::show;

/// For how many appliances it is asked who could take their place: each question is put to all.
const ASKED_MAX: usize = 200;

/// How many of those who might take a place are told.
const CANDIDATES_MAX: usize = 50;

pub(super) fn explain(topology: &Topology) -> Vec<ApplianceExplained> {
    let appliances = topology.appliances.iter().enumerate();
    let explained = appliances.map(|(index, (id, appliance))| {
        let acts = appliance.role.acts();
        let mut explained = ApplianceExplained {
            appliance: id.clone(),
            model: appliance.model.name.clone(),
            commands: if acts {
                commands(&appliance.model)
            } else {
                Vec::new()
            },
            other: acts.then_some(appliance.model.other),
            evidence: evidence(&appliance.model),
            safe_state: appliance
                .safe_state
                .as_ref()
                .map(command)
                .unwrap_or_default(),
            liveness: liveness(&appliance.liveness),
            needs: needed(appliance).into_keys().collect(),
            substitute: None,
            others: Vec::new(),
            others_omitted: topology.appliances.len() - 1,
        };
        if index < ASKED_MAX {
            candidates(topology, id, &mut explained);
        }
        explained
    });
    explained.collect()
}

fn commands(model: &DeviceModel) -> Vec<PropertyExplained> {
    let properties = model.properties.iter();
    let taken = properties.filter(|(_, property)| property.access.is_taken());
    taken
        .map(|(name, property)| PropertyExplained {
            property: name.clone(),
            capability: property.capability.clone(),
            class: property.class,
            values: values(property),
        })
        .collect()
}

fn values(property: &Property) -> String {
    let domain = match &property.domain {
        Domain::Any => "anything".to_owned(),
        Domain::Truth => "true or false".to_owned(),
        Domain::Choice(words) => words.join(", "),
        Domain::Number { min, max } => format!("{min} to {max}"),
    };
    let mut said = match &property.relative {
        None => domain,
        Some(Relative::Adds(to)) => format!("{domain}, added to {to}"),
        Some(Relative::Toggles(of)) => format!("toggles {of}"),
    };
    if let Some(back) = &property.reverts {
        said.push_str(&format!(", goes back to {}", text(&back.to)));
        if !back.after.is_zero() {
            said.push_str(&format!(" {} after its end", show(back.after)));
        }
    }
    if property.accumulates {
        said.push_str(", each counts");
    }
    said
}

fn evidence(model: &DeviceModel) -> String {
    match &model.evidence {
        Some(Evidence::Counter(name)) => format!("the count in `{name}`"),
        Some(Evidence::LastCommand(name)) => format!("the last command in `{name}`"),
        None if model.answers => "what it shows".to_owned(),
        None => "nothing".to_owned(),
    }
}

fn liveness(liveness: &Liveness) -> Vec<String> {
    let mut signals = Vec::new();
    if let Some(span) = liveness.silent_after {
        signals.push(format!("speaks within {}", show(span)));
    }
    if let Some(probe) = liveness.probe {
        let (every, within) = (show(probe.every), show(probe.within));
        signals.push(format!("answers within {within}, asked every {every}"));
    }
    if let Some(topic) = &liveness.availability {
        signals.push(format!("says it is there on {topic}"));
    }
    if let Some(topic) = &liveness.bridge {
        signals.push(format!("its bridge says it is there on {topic}"));
    }
    if !signals.is_empty() && !liveness.debounce.is_zero() {
        signals.push(format!(
            "has failed after {} without it",
            show(liveness.debounce)
        ));
    }
    signals
}

fn candidates(topology: &Topology, id: &EntityId, explained: &mut ApplianceExplained) {
    let none = BTreeSet::new();
    let failed = BTreeSet::from([id.clone()]);
    let situation = Situation {
        topology,
        failed: &failed,
        unreachable: &none,
        servers_away: &none,
        standing: &BTreeMap::new(),
    };
    let (substitute, rejected) = match find_substitute(situation, id) {
        Decision::Substitute { by, rejected } => (Some(by), rejected),
        Decision::Nobody { rejected } => (None, rejected),
    };
    let rejected: BTreeMap<EntityId, Rejection> = rejected.into_iter().collect();
    let others = topology.appliances.keys();
    let others = others.filter(|other| *other != id && Some(*other) != substitute.as_ref());
    let mut others: Vec<Candidate> = others
        .map(|other| Candidate {
            appliance: other.clone(),
            rejected: rejected.get(other).map(ToString::to_string),
            comes_near: comes_near(topology, other, &explained.needs),
        })
        .collect();
    others.sort_by_key(|candidate| candidate.rejected.is_some());
    explained.others_omitted = others.len().saturating_sub(CANDIDATES_MAX);
    others.truncate(CANDIDATES_MAX);
    explained.others = others;
    explained.substitute = substitute;
}

/// Whether it has something of what is needed, so that people ask why it is not the one.
fn comes_near(topology: &Topology, other: &EntityId, needs: &[String]) -> bool {
    let other = topology.appliances.get(other);
    other.is_some_and(|other| needs.iter().any(|need| other.functions.contains(need)))
}

fn command(properties: &BTreeMap<String, Value>) -> String {
    let property = |(name, value): (&String, &Value)| format!("{name} = {}", text(value));
    let properties: Vec<_> = properties.iter().map(property).collect();
    properties.join(", ")
}

fn text(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(value) => value.clone(),
        Value::List(values) => {
            let values: Vec<_> = values.iter().map(text).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Table(values) => format!("{{ {} }}", command(values)),
    }
}
