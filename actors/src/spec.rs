//! What a host must know to run one element: the part of the topology that concerns it, and how to
//! reach broker and store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Appliance, Binding, Durability, Element, Topology};
use lamplighter_policies::notification::Neighbourhood;
use lamplighter_policies::recovery::candidates;
use lamplighter_policies::state_saving::Timing;
use lamplighter_runtime::message_pack::{self, MessagePackError};
use serde::{Deserialize, Serialize};

/// Everything about one element, as its agent hands it to its host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElementSpec {
    /// The application's name.
    pub application: EntityId,
    /// The element's id.
    pub id: EntityId,
    /// What the topology says of it.
    pub element: Element,
    /// Whether its records are stable before or after they take effect, where it runs.
    pub saving: Timing,
    /// The bindings that carry a flow from or to it.
    pub bindings: BTreeMap<EntityId, Binding>,
    /// The appliances at the other ends of these flows.
    pub appliances: BTreeMap<EntityId, Appliance>,
    /// Those that may serve in their places.
    pub substitutes: BTreeMap<EntityId, Appliance>,
    /// How to reach the broker.
    pub broker: BrokerAccess,
    /// How to reach the stable store.
    pub store: StoreAccess,
    /// How long an element that cannot reach the store goes on sending commands to devices.
    pub lease: Duration,
    /// How far this machine's clock may be from the store's, as the topology promises.
    pub skew_max: Duration,
    /// Whether faults may be injected.
    pub allow_inject: bool,
    /// What admits an element to those that it calls; empty where nothing runs.
    pub calls_token: String,
    /// Who is around it.
    pub around: Neighbourhood,
    /// Those of its prerequisites that are elements.
    pub follows: BTreeSet<EntityId>,
}

/// How to reach the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerAccess {
    /// `mqtt://host:port` or `mqtts://host:port`.
    pub url: String,
    /// The user, if the broker wants one.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
}

/// How to reach the stable store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreAccess {
    /// The embedded store, which the manager serves.
    Served {
        /// Where, as `tcp://host:port` or `unix://path`.
        address: String,
        /// The secret that admits.
        token: String,
    },
    /// A Redis server.
    Redis {
        /// Its address, without credentials.
        url: String,
        /// The user, if it wants one.
        user: Option<String>,
        /// Its password.
        password: Option<String>,
        /// What the server must promise.
        durability: Durability,
    },
}

impl ElementSpec {
    /// What concerns `id` in a topology; `None` if the topology has no such element.
    #[must_use]
    pub fn of(
        topology: &Topology,
        id: &EntityId,
        broker: &BrokerAccess,
        store: &StoreAccess,
        allow_inject: bool,
    ) -> Option<Self> {
        let element = topology.elements.get(id)?.clone();
        let concerns = |binding: &Binding| binding.flows.iter().any(|f| f.direction(id).is_some());
        let bindings: BTreeMap<EntityId, Binding> = topology
            .bindings
            .iter()
            .filter(|(_, binding)| concerns(binding))
            .map(|(name, binding)| (name.clone(), binding.clone()))
            .collect();
        let flows = bindings.values().flat_map(|binding| &binding.flows);
        let devices = flows
            .flat_map(|f| [f.source.appliance(), f.target.appliance()])
            .flatten();
        let described =
            |device: &EntityId| Some((device.clone(), topology.appliances.get(device)?.clone()));
        let appliances: BTreeMap<EntityId, Appliance> = devices.filter_map(described).collect();
        let substitutes = appliances
            .keys()
            .flat_map(|device| candidates(topology, device))
            .filter_map(|device| described(&device))
            .collect();
        Some(Self {
            application: topology.application.name.clone(),
            id: id.clone(),
            saving: topology.timing(&element, element.server.as_ref()),
            element,
            bindings,
            appliances,
            substitutes,
            broker: broker.clone(),
            store: store.clone(),
            lease: topology.store.lease,
            skew_max: topology.detection.skew_max,
            allow_inject,
            calls_token: String::new(),
            follows: topology
                .prerequisites(id)
                .filter(|entity| topology.elements.contains_key(*entity))
                .cloned()
                .collect(),
            around: Neighbourhood::of(topology, id),
        })
    }

    /// The bytes that travel in an assignment.
    ///
    /// # Errors
    /// A part of it has no MessagePack form.
    pub fn encode(&self) -> Result<Vec<u8>, MessagePackError> {
        let mut bytes = Vec::new();
        message_pack::encode_into(&mut bytes, self)?;
        Ok(bytes)
    }

    /// Reads what [`ElementSpec::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessagePackError> {
        message_pack::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_holds_what_concerns_its_element_and_survives_the_wire() {
        let text = r#"
            [application]
            name = "home"
            [servers.pc]
            storage = "volatile"
            [elements.lamp]
            kind = "Lamp"
            server = "pc"
            state = { level = 3, name = "hall", steps = [1.5, 2.0] }
            inputs = { "hall/motion" = "Motion" }
            [elements.door]
            kind = "Door"
            server = "pc"
            inputs = { "hall/door" = "Opened" }
        "#;
        let topology = lamplighter_config::parse("home.toml", text)
            .unwrap()
            .topology;
        let broker = BrokerAccess {
            url: "mqtt://127.0.0.1:1883".into(),
            user: None,
            password: None,
        };
        let store = StoreAccess::Served {
            address: "tcp://127.0.0.1:9".into(),
            token: "secret".into(),
        };
        let lamp = EntityId::new("lamp").unwrap();
        let spec = ElementSpec::of(&topology, &lamp, &broker, &store, false).unwrap();
        assert_eq!(spec.bindings.len(), 1);
        assert_eq!(ElementSpec::decode(&spec.encode().unwrap()), Ok(spec));
        let nobody = EntityId::new("nobody").unwrap();
        assert_eq!(
            ElementSpec::of(&topology, &nobody, &broker, &store, false),
            None
        );
    }
}
