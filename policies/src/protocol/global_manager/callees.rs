//! Where elements take calls: who must be told.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{ConnectionId, Effect, GlobalManager};
use crate::ids::EntityId;
use crate::model::{Communication, Topology};
use crate::protocol::control::ToAgent;
use crate::protocol::messages::{Callee, DirectAddress};

/// The elements that can be called.
#[derive(Debug, Default)]
pub(super) struct Callees {
    /// Per callee, its callers.
    callers: BTreeMap<EntityId, BTreeSet<EntityId>>,
    /// Per callee, where it is and on which server.
    known: BTreeMap<EntityId, (EntityId, Callee)>,
}

impl Callees {
    pub(super) fn new(topology: &Topology) -> Self {
        let mut callers: BTreeMap<EntityId, BTreeSet<EntityId>> = BTreeMap::new();
        let calls = topology.bindings.values();
        for binding in calls.filter(|binding| binding.model == Communication::Call) {
            if let Some(callee) = &binding.to
                && topology.elements.contains_key(callee)
            {
                let of_callee = callers.entry(callee.clone()).or_default();
                of_callee.insert(binding.from.clone());
            }
        }
        Self {
            callers,
            known: BTreeMap::new(),
        }
    }
}

impl GlobalManager {
    /// The servers where the callers of a callee belong now.
    fn servers_of_callers(&self, callee: &EntityId) -> BTreeSet<EntityId> {
        let callers = self.callees.callers.get(callee).into_iter().flatten();
        let placed = callers.filter_map(|caller| self.elements.get(caller));
        placed.map(|placed| placed.server.clone()).collect()
    }

    /// Tells an agent where the callees of the elements are that belong on its server.
    pub(super) fn tell_of_callees(
        &self,
        to: &EntityId,
        agent: ConnectionId,
        effects: &mut Vec<Effect>,
    ) {
        for (server, callee) in self.callees.known.values() {
            if self.servers_of_callers(&callee.element).contains(to) {
                let reach = ToAgent::Reach(seen_from(to, server, callee));
                effects.push(Effect::TellAgent(agent, reach));
            }
        }
    }

    /// An element takes calls: the agents of its callers are told, unless a newer address is known.
    pub(super) fn listening(
        &mut self,
        server: &EntityId,
        callee: Callee,
        effects: &mut Vec<Effect>,
    ) {
        let before = self.callees.known.get(&callee.element);
        if before.is_some_and(|(_, before)| before.epoch > callee.epoch) {
            return;
        }
        for caller in &self.servers_of_callers(&callee.element) {
            if let Some(Some(agent)) = self.servers.get(caller) {
                let reach = ToAgent::Reach(seen_from(caller, server, &callee));
                effects.push(Effect::TellAgent(agent.connection, reach));
            }
        }
        let known = (server.clone(), callee.clone());
        self.callees.known.insert(callee.element, known);
    }
}

/// A Unix socket is of use on its own server only.
fn seen_from(caller: &EntityId, server: &EntityId, callee: &Callee) -> Callee {
    let DirectAddress { unix, tcp } = callee.address.clone();
    let unix = unix.filter(|_| caller == server);
    Callee {
        address: DirectAddress { unix, tcp },
        ..callee.clone()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::{Agent, Input};
    use super::*;
    use crate::machine::Machine;
    use crate::protocol::control::{FromAgent, PlacedStatus};
    use crate::time::Now;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn callee(epoch: u64) -> Callee {
        Callee {
            element: id("pump"),
            epoch,
            address: DirectAddress {
                unix: Some("/run/pump".into()),
                tcp: Some("127.0.0.1:9".into()),
            },
        }
    }

    fn placed(element: &str, server: &str) -> (EntityId, PlacedStatus) {
        let placed = PlacedStatus {
            server: id(server),
            status: super::super::unassigned(&id(element)),
        };
        (id(element), placed)
    }

    /// A manager whose element `pump`, on `pc`, is called from `pc` and `rpi`.
    fn manager() -> GlobalManager {
        let agent = |connection| Agent {
            connection: ConnectionId(connection),
            pid: 7,
            registered: true,
            stopped: false,
        };
        let servers = [
            (id("hub"), Some(agent(3))),
            (id("pc"), Some(agent(1))),
            (id("rpi"), Some(agent(2))),
        ];
        GlobalManager {
            servers: servers.into(),
            callees: Callees {
                callers: [(id("pump"), [id("nurse"), id("doctor")].into())].into(),
                known: BTreeMap::new(),
            },
            elements: [placed("nurse", "pc"), placed("doctor", "rpi")].into(),
            ..super::super::tests::registered()
        }
    }

    fn told(manager: &mut GlobalManager, by: u64, message: FromAgent) -> Vec<Effect> {
        let mut effects = Vec::new();
        let connection = ConnectionId(by);
        let input = Input::AgentTold {
            connection,
            message,
        };
        manager.handle(Now::default(), input, &mut effects);
        effects
    }

    fn reach(agent: u64, callee: Callee) -> Effect {
        Effect::TellAgent(ConnectionId(agent), ToAgent::Reach(callee))
    }

    fn from_afar(epoch: u64) -> Callee {
        let mut callee = callee(epoch);
        callee.address.unix = None;
        callee
    }

    #[test]
    fn the_agents_of_callers_learn_where_a_callee_is_and_no_others() {
        let mut manager = manager();
        let effects = told(&mut manager, 1, FromAgent::Listening(callee(4)));
        assert_eq!(effects, [reach(1, callee(4)), reach(2, from_afar(4))]);
    }

    #[test]
    fn an_address_of_an_older_epoch_is_not_passed_on() {
        let mut manager = manager();
        told(&mut manager, 1, FromAgent::Listening(callee(4)));
        let effects = told(&mut manager, 1, FromAgent::Listening(callee(3)));
        assert_eq!(effects, []);
    }

    #[test]
    fn an_agent_that_registers_again_learns_what_it_missed() {
        let mut manager = manager();
        told(&mut manager, 1, FromAgent::Listening(callee(4)));
        let hosted = vec![];
        let effects = told(&mut manager, 2, FromAgent::Registered { hosted });
        assert_eq!(effects[0], reach(2, from_afar(4)));
        let hosted = vec![];
        let effects = told(&mut manager, 3, FromAgent::Registered { hosted });
        assert!(matches!(effects[..], [Effect::Enrol { .. }]), "{effects:?}");
    }
}
