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
    /// Per callee, the servers of its callers.
    callers: BTreeMap<EntityId, BTreeSet<EntityId>>,
    /// Per callee, where it is and on which server.
    known: BTreeMap<EntityId, (EntityId, Callee)>,
}

impl Callees {
    pub(super) fn new(topology: &Topology, placement: &BTreeMap<EntityId, EntityId>) -> Self {
        let mut callers: BTreeMap<EntityId, BTreeSet<EntityId>> = BTreeMap::new();
        let calls = topology.bindings.values();
        for binding in calls.filter(|binding| binding.model == Communication::Call) {
            if let (Some(callee), Some(server)) = (&binding.to, placement.get(&binding.from))
                && topology.elements.contains_key(callee)
            {
                let servers = callers.entry(callee.clone()).or_default();
                servers.insert(server.clone());
            }
        }
        Self {
            callers,
            known: BTreeMap::new(),
        }
    }

    /// Tells an agent that has just registered where the callees of its elements are.
    pub(super) fn tell_all(&self, to: &EntityId, agent: ConnectionId, effects: &mut Vec<Effect>) {
        for (server, callee) in self.known.values() {
            let callers = self.callers.get(&callee.element);
            if callers.is_some_and(|callers| callers.contains(to)) {
                let reach = ToAgent::Reach(seen_from(to, server, callee));
                effects.push(Effect::TellAgent(agent, reach));
            }
        }
    }
}

impl GlobalManager {
    /// An element takes calls: the agents of its callers are told, unless a newer address is known.
    pub(super) fn listening(
        &mut self,
        server: &EntityId,
        callee: Callee,
        effects: &mut Vec<Effect>,
    ) {
        let Callees { callers, known } = &mut self.callees;
        let before = known.get(&callee.element);
        if before.is_some_and(|(_, before)| before.epoch > callee.epoch) {
            return;
        }
        for caller in callers.get(&callee.element).into_iter().flatten() {
            if let Some(Some(agent)) = self.servers.get(caller) {
                let reach = ToAgent::Reach(seen_from(caller, server, &callee));
                effects.push(Effect::TellAgent(agent.connection, reach));
            }
        }
        known.insert(callee.element.clone(), (server.clone(), callee));
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
    use crate::protocol::control::FromAgent;
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

    /// A manager whose element `pump`, on `pc`, is called from `pc` and `rpi`.
    fn manager() -> GlobalManager {
        let agent = |connection| Agent {
            connection: ConnectionId(connection),
            pid: 7,
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
                callers: [(id("pump"), [id("pc"), id("rpi")].into())].into(),
                known: BTreeMap::new(),
            },
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
