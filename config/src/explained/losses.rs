//! What would become of everything if one server were lost.

use std::collections::BTreeSet;

use lamplighter_policies::model::Topology;
use lamplighter_policies::placement::{Budget, Problem, place};
use lamplighter_policies::protocol::appliances::ApplicationState;
use lamplighter_policies::recovery::decide::{Case, decide};
use lamplighter_policies::recovery::{Decision, Standing};

use super::{LossExplained, Outcome};

/// How many pairs of an element and a server are looked at.
const PAIRS_MAX: usize = 200_000;

/// The steps of all searches together.
const STEPS: u64 = 2_000_000;

/// Loses one server after the other. Empty where the topology is too large to try.
pub(super) fn explain(topology: &Topology) -> Vec<LossExplained> {
    if topology.elements.len() * topology.servers.len() > PAIRS_MAX {
        return Vec::new();
    }
    let steps = STEPS / (topology.servers.len() as u64 + 1);
    let budget = Budget { steps };
    let running = place(&Problem::initial(topology), budget).hosts;
    let lose = |server| {
        let lost = BTreeSet::from([server]);
        let case = Case {
            problem: Problem::after_loss(topology, &running, &BTreeSet::new()),
            manager: None,
            exhausted: BTreeSet::new(),
            appliances_failed: BTreeSet::new(),
            unreachable: BTreeSet::new(),
            standing: Standing::new(),
        };
        let decided = decide(case, &lost, budget);
        let elements = decided.elements.into_iter();
        let appliances = decided.appliances.into_iter().map(|(id, decision)| {
            let becomes = match decision {
                Decision::Substitute { by, .. } => format!("is cut off; {by} takes its place"),
                Decision::Nobody { .. } => "is cut off, and nothing takes its place".to_owned(),
            };
            (id, becomes)
        });
        let (application, because) = match decided.application {
            ApplicationState::Whole => ("whole", Vec::new()),
            ApplicationState::Degraded { reasons } => ("degraded", reasons),
            ApplicationState::Failed { reason } => ("failed", vec![reason]),
        };
        LossExplained {
            outcomes: elements
                .map(|(id, fate)| (id, fate.to_string()))
                .chain(appliances)
                .map(|(entity, becomes)| Outcome { entity, becomes })
                .collect(),
            server: lost.into_iter().next().expect("it was put there"),
            application: application.to_owned(),
            because,
        }
    };
    topology.servers.keys().cloned().map(lose).collect()
}
