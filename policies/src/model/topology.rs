//! The whole topology, and the questions that others ask of it.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::application::{Binding, Communication, Direction, Flow};
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

    /// Whether what an element keeps is saved before or after it takes effect, on a server (paper,
    /// Figure 4). Without a place it is saved as is safe everywhere.
    #[must_use]
    pub fn timing(&self, element: &Element, server: Option<&EntityId>) -> Timing {
        let storage = self.storage(server).unwrap_or(LocalStorage::Volatile);
        match element.log {
            // The timing is the same in every cell of one kind of storage.
            LogChoice::Derived => {
                choose(storage, Communication::Message, Destination::Element).timing
            }
            LogChoice::Optimistic => match storage {
                LocalStorage::Persistent => Timing::Optimistic,
                LocalStorage::Volatile => Timing::Pessimistic,
            },
            LogChoice::Pessimistic | LogChoice::None => Timing::Pessimistic,
        }
    }

    fn storage(&self, server: Option<&EntityId>) -> Option<LocalStorage> {
        let server = self.servers.get(server?)?;
        Some(server.storage)
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
        let storage = self.storage(element.server.as_ref());
        // An element without a place may come to any: what is safe everywhere is chosen.
        let mut derived = choose(
            storage.unwrap_or(LocalStorage::Volatile),
            model,
            destination,
        );
        // Nobody logs what is not said: an appliance gives a call no reply.
        derived.reply_logged &= flow.reply.is_some();
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

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;
    use crate::model::{
        CheckpointPolicy, Durability, Endpoint, Isolation, Lag, OnExpired, PlacementRules,
        Resources, StoreKind,
    };
    use crate::restart::RestartPolicy;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn server(storage: LocalStorage) -> Server {
        Server {
            storage,
            zone: None,
            architecture: None,
            labels: Default::default(),
            resources: None,
            isolation: Isolation::Process,
        }
    }

    fn element(server: Option<&str>, log: LogChoice) -> Element {
        Element {
            kind: "Kind".to_string(),
            server: server.map(id),
            state: BTreeMap::new(),
            stateless: false,
            essential: true,
            criticality: 0,
            demand: Resources::default(),
            log,
            checkpoint: CheckpointPolicy::default(),
            restart: RestartPolicy::default(),
            attempts: 2,
            mailbox: 1,
            durability: Durability::Required,
            on_expired: OnExpired::Absorb,
            lag: Lag::default(),
            placement: PlacementRules::default(),
            handler_within: core::time::Duration::from_secs(10),
        }
    }

    fn at_element(name: &str) -> Endpoint {
        Endpoint::Element {
            element: id(name),
            port: "port".to_string(),
        }
    }

    fn at_device() -> Endpoint {
        Endpoint::Device {
            appliance: None,
            topic: "device".to_string(),
        }
    }

    /// One binding `b` of `sender` with one flow.
    fn topology(elements: &[(&str, Element)], source: Endpoint, target: Endpoint) -> Topology {
        let flow = Flow {
            binding: id("b"),
            source,
            target,
            valid_for: None,
            reply: None,
        };
        let binding = Binding {
            from: id("sender"),
            to: Some(id("receiver")),
            model: Communication::Message,
            mandatory: true,
            latency_max: None,
            rate_hz: None,
            payload_bytes: None,
            bandwidth_kbps_min: None,
            flows: Vec::from([flow]),
            reply_within: Binding::REPLY_WITHIN,
        };
        let servers = [
            ("volatile", LocalStorage::Volatile),
            ("persistent", LocalStorage::Persistent),
        ];
        Topology {
            application: Application { name: id("a") },
            servers: servers.map(|(name, it)| (id(name), server(it))).into(),
            channels: BTreeMap::new(),
            spaces: BTreeMap::new(),
            appliances: BTreeMap::new(),
            elements: elements.iter().map(|(n, it)| (id(n), it.clone())).collect(),
            bindings: BTreeMap::from([(id("b"), binding)]),
            store: Store {
                kind: StoreKind::Embedded,
                durability: Durability::Required,
                lease: Store::LEASE,
            },
            broker: Broker::Embedded,
            detection: Detection::default(),
        }
    }

    fn saving(topology: &Topology) -> (EntityId, Option<Timing>, SavingReason) {
        let flow = topology.flows().next().unwrap();
        let saving = topology.saving(flow).unwrap();
        (
            saving.keeper,
            saving.policy.map(|policy| policy.timing),
            saving.reason,
        )
    }

    #[test]
    fn the_storage_that_counts_is_that_of_who_keeps_the_record() {
        use LocalStorage::{Persistent, Volatile};
        let pair = [
            ("sender", element(Some("volatile"), LogChoice::Derived)),
            ("receiver", element(Some("persistent"), LogChoice::Derived)),
        ];
        let between = topology(&pair, at_element("sender"), at_element("receiver"));
        let expected = (
            id("receiver"),
            Some(Timing::Optimistic),
            SavingReason::Storage(Persistent),
        );
        assert_eq!(saving(&between), expected);
        let to_device = topology(&pair, at_element("sender"), at_device());
        let expected = (
            id("sender"),
            Some(Timing::Pessimistic),
            SavingReason::Storage(Volatile),
        );
        assert_eq!(saving(&to_device), expected);
        let between_devices = topology(&pair, at_device(), at_device());
        let flow = between_devices.flows().next().unwrap();
        assert_eq!(between_devices.saving(flow), None);
    }

    #[test]
    fn without_a_place_the_safe_timing_is_chosen_and_an_author_may_choose_otherwise() {
        use SavingReason::{Author, NoPlace};
        let cases = [
            (None, LogChoice::Derived, Some(Timing::Pessimistic), NoPlace),
            (
                Some("persistent"),
                LogChoice::Pessimistic,
                Some(Timing::Pessimistic),
                Author,
            ),
            (Some("persistent"), LogChoice::None, None, Author),
        ];
        for (server, log, timing, reason) in cases {
            let receiver = [("receiver", element(server, log))];
            let topology = topology(&receiver, at_device(), at_element("receiver"));
            assert_eq!(saving(&topology), (id("receiver"), timing, reason));
        }
    }

    #[test]
    fn the_timing_of_an_element_is_that_of_all_it_keeps_where_it_runs() {
        use LogChoice::{Derived, None as Never, Optimistic, Pessimistic};
        let servers = [None, Some("volatile"), Some("persistent")];
        for log in [Derived, Pessimistic, Optimistic, Never] {
            for server in servers {
                let keeper = element(server, log);
                let receiver = [("receiver", keeper.clone())];
                let topology = topology(&receiver, at_device(), at_element("receiver"));
                let timing = topology.timing(&keeper, keeper.server.as_ref());
                let expected = match (saving(&topology).1, server) {
                    // What `check` refuses is not carried out either.
                    (Some(Timing::Optimistic), Some("persistent")) => Timing::Optimistic,
                    (Some(_) | None, _) => Timing::Pessimistic,
                };
                assert_eq!(timing, expected, "{log:?} on {server:?}");
            }
        }
    }

    #[test]
    fn dependents_and_prerequisites_are_the_two_ends_of_a_binding() {
        let topology = topology(&[], at_element("sender"), at_element("receiver"));
        let (sender, receiver) = (id("sender"), id("receiver"));
        assert_eq!(
            topology.dependents(&receiver).collect::<Vec<_>>(),
            [&sender]
        );
        assert_eq!(
            topology.prerequisites(&sender).collect::<Vec<_>>(),
            [&receiver]
        );
        let directions: Vec<_> = topology.flows_of(&receiver).map(|(way, _)| way).collect();
        assert_eq!(directions, [Direction::Incoming]);
    }
}
