//! The whole topology, and the questions that others ask of it.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::application::{Binding, Direction, Flow};
use super::element::{Element, LogChoice};
use super::infrastructure::{Appliance, Channel, LocalStorage, Server};
use super::services::{Broker, Detection, Store};
use super::space::Space;
use crate::ids::EntityId;
use crate::state_saving::{Destination, FlowSaving, SavingPolicy, SavingReason, Timing, choose};

/// Infrastructure, application and physical world in one namespace of ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// The application as a whole.
    pub application: Application,
    /// The machines; the fog node on each has the same id.
    pub servers: BTreeMap<EntityId, Server>,
    /// What joins them and the appliances.
    pub channels: BTreeMap<EntityId, Channel>,
    /// The regions of the physical world.
    pub spaces: BTreeMap<EntityId, Space>,
    /// The devices.
    pub appliances: BTreeMap<EntityId, Appliance>,
    /// The software.
    pub elements: BTreeMap<EntityId, Element>,
    /// Who needs whom, with all flows; those of the short forms `inputs` and `outputs` included.
    pub bindings: BTreeMap<EntityId, Binding>,
    /// Where state is saved.
    pub store: Store,
    /// What carries messages.
    pub broker: Broker,
    /// How failures are noticed.
    pub detection: Detection,
}

/// The application as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its name; topics and stored keys carry it.
    pub name: EntityId,
}

impl Topology {
    /// Every flow of every binding, by the binding's id, then in the order of the file.
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.bindings.values().flat_map(|binding| &binding.flows)
    }

    /// The flows that end or start at an element, with the way they go.
    pub fn flows_of<'a>(
        &'a self,
        element: &'a EntityId,
    ) -> impl Iterator<Item = (Direction, &'a Flow)> {
        self.flows()
            .filter_map(move |flow| Some((flow.direction(element)?, flow)))
    }

    /// Who requires `entity` directly, in the order of the bindings' ids.
    pub fn dependents<'a>(&'a self, entity: &'a EntityId) -> impl Iterator<Item = &'a EntityId> {
        self.bindings
            .values()
            .filter(move |binding| binding.to.as_ref() == Some(entity))
            .map(|binding| &binding.from)
    }

    /// What `element` requires directly, in the order of the bindings' ids.
    pub fn prerequisites<'a>(
        &'a self,
        element: &'a EntityId,
    ) -> impl Iterator<Item = &'a EntityId> {
        self.bindings
            .values()
            .filter(move |binding| binding.from == *element)
            .filter_map(|binding| binding.to.as_ref())
    }

    /// Who saves what passes in a flow, when and where, and why so (paper, Figure 4).
    ///
    /// A flow towards a device is logged by its sender, any other by its receiver; the local
    /// storage that counts is that of the one who logs. `None` if no element of this topology is
    /// there to log it.
    #[must_use]
    pub fn saving(&self, flow: &Flow) -> Option<FlowSaving> {
        let (keeper, destination) = match flow.target.element() {
            Some(receiver) => (receiver, Destination::Element),
            None => (flow.source.element()?, Destination::Appliance),
        };
        let element = self.elements.get(keeper)?;
        let model = self.bindings.get(&flow.binding)?.model;
        let storage = element
            .server
            .as_ref()
            .and_then(|id| self.servers.get(id))
            .map(|server| server.storage);
        // An element without a place may come to any: what is safe everywhere is chosen.
        let derived = choose(
            storage.unwrap_or(LocalStorage::Volatile),
            model,
            destination,
        );
        let with = |timing| Some(SavingPolicy { timing, ..derived });
        let (policy, reason) = match (element.log, storage) {
            (LogChoice::Derived, Some(storage)) => (Some(derived), SavingReason::Storage(storage)),
            (LogChoice::Derived, None) => (Some(derived), SavingReason::NoPlace),
            (LogChoice::Pessimistic, _) => (with(Timing::Pessimistic), SavingReason::Author),
            (LogChoice::Optimistic, _) => (with(Timing::Optimistic), SavingReason::Author),
            (LogChoice::None, _) => (None, SavingReason::Author),
        };
        Some(FlowSaving {
            keeper: keeper.clone(),
            policy,
            reason,
        })
    }
}
