//! What follows from a topology and why: who saves what, what a command does when it is repeated,
//! who could take whose place, who would go where (paper, 3.2, 4.2.1 and 4.2.4). Asked before anything
//! fails.

mod devices;
mod flows;
mod losses;
mod page;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{ActuationClass, OnExpired, Topology};
use lamplighter_policies::state_saving::{Site, Strategy, Timing};
use serde::Serialize;

/// What follows from a topology.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The application.
    pub application: EntityId,
    /// Every flow that some element saves or that reaches a device, by who keeps it.
    pub flows: Vec<FlowExplained>,
    /// Every appliance.
    pub appliances: Vec<ApplianceExplained>,
    /// What would become of everything if one server were lost, for each server.
    pub losses: Vec<LossExplained>,
}

/// What the loss of one server would lead to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossExplained {
    /// Which server.
    pub server: EntityId,
    /// What would become of each element and appliance that it concerns.
    pub outcomes: Vec<Outcome>,
    /// `whole`, `degraded` or `failed`.
    pub application: String,
    /// Why it would not be whole, in words.
    pub because: Vec<String>,
}

/// What would become of one entity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Which.
    pub entity: EntityId,
    /// What, in words.
    pub becomes: String,
}

/// How one flow is saved, and how long what it carries may act.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowExplained {
    /// The binding that carries it.
    pub binding: EntityId,
    /// Where it starts: `element.port`, an appliance, or a topic.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// The element that saves it.
    pub keeper: EntityId,
    /// The cell of Figure 4, 1 to 8.
    pub cell: u8,
    /// What is kept; `None` if the author chose that nothing is.
    pub what: Option<Strategy>,
    /// Before or after it takes effect.
    pub when: Option<Timing>,
    /// At which end the record is taken.
    pub site: Option<Site>,
    /// Whether the caller keeps the reply too.
    pub reply: bool,
    /// Where the record goes, in words.
    pub storage: String,
    /// What decided so, in words.
    pub because: String,
    /// How long what it carries holds, in words.
    pub holds: String,
    /// What becomes at the receiving element of what had expired before it was logged.
    pub on_expired: Option<OnExpired>,
    /// Until when it may act on the world again, in words.
    pub acts: String,
    /// The same in microseconds from when it occurred: zero is never, `None` is without an end of its
    /// own.
    pub acts_for_us: Option<u64>,
}

/// What is known of one appliance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApplianceExplained {
    /// Its id.
    pub appliance: EntityId,
    /// Its model; empty if none is given.
    pub model: String,
    /// What it takes, and what repeating that does.
    pub commands: Vec<PropertyExplained>,
    /// The class of commands to properties that are not listed; `None` for a sensor.
    pub other: Option<ActuationClass>,
    /// How it shows that a command was carried out, in words.
    pub evidence: String,
    /// The command that leaves it harmless, as JSON would write it.
    pub safe_state: String,
    /// By what it is known to be there, in words; empty if it is not watched.
    pub liveness: Vec<String>,
    /// What the application needs of it.
    pub needs: Vec<String>,
    /// Who would take its place if it failed and all else worked; `None` is nobody.
    pub substitute: Option<EntityId>,
    /// Everybody else, best known first: who could too, and who could not.
    pub others: Vec<Candidate>,
    /// How many more there are.
    pub others_omitted: usize,
}

/// One thing that an appliance takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PropertyExplained {
    /// Its name in messages.
    pub property: String,
    /// The capability it stands for.
    pub capability: String,
    /// What repeating a command to it does.
    pub class: ActuationClass,
    /// Its values and what becomes of them, in words.
    pub values: String,
}

/// Somebody who might take a place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// Who.
    pub appliance: EntityId,
    /// Why it could not; `None` if it could.
    pub rejected: Option<String>,
    /// Whether it has something of what is needed.
    pub comes_near: bool,
}

/// Explains a topology.
#[must_use]
pub fn explain(topology: &Topology) -> Explained {
    Explained {
        application: topology.application.name.clone(),
        flows: flows::explain(topology),
        appliances: devices::explain(topology),
        losses: losses::explain(topology),
    }
}

impl Explained {
    /// The same as a page of aligned tables, at most 100 columns wide.
    #[must_use]
    pub fn page(&self) -> String {
        page::page(self)
    }
}
