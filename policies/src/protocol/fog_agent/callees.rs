//! Where elements take calls: what a fog agent passes on between hosts and manager.
//!
//! An address is known to hosts of the same server at once, also while the manager is away, and to
//! others through the manager. Each start of a callee has a new address and a higher epoch.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{Effect, FogAgent, HostId};
use crate::ids::EntityId;
use crate::protocol::control::FromAgent;
use crate::protocol::messages::{Callee, ToHost};

/// The elements that can be called, as far as this agent must know.
#[derive(Debug, Default)]
pub(super) struct Callees {
    known: BTreeMap<EntityId, Callee>,
    /// Those that this agent's own hosts told of.
    own: BTreeSet<EntityId>,
}

impl Callees {
    /// Takes an address unless a newer one is known. Returns whether it is news.
    fn learnt(&mut self, callee: &Callee) -> bool {
        let known = self.known.get(&callee.element);
        if known.is_some_and(|known| known.epoch > callee.epoch || known == callee) {
            return false;
        }
        self.known.insert(callee.element.clone(), callee.clone());
        true
    }
}

impl FogAgent {
    /// A host of this server told where one of its elements takes calls.
    pub(super) fn listening(&mut self, callee: Callee, effects: &mut Vec<Effect>) {
        self.callees.own.insert(callee.element.clone());
        self.tell_manager(FromAgent::Listening(callee.clone()), effects);
        self.reach(callee, effects);
    }

    /// Whoever runs elements here is told where a callee is.
    pub(super) fn reach(&mut self, callee: Callee, effects: &mut Vec<Effect>) {
        if self.callees.learnt(&callee) {
            let tell = |host| Effect::Tell {
                host,
                message: ToHost::Reach(callee.clone()),
            };
            effects.extend(self.hosts.busy().map(tell));
        }
    }

    /// A host that is about to run an element is told where all callees are.
    pub(super) fn tell_of_callees(&self, host: HostId, effects: &mut Vec<Effect>) {
        let tell = |callee: &Callee| Effect::Tell {
            host,
            message: ToHost::Reach(callee.clone()),
        };
        effects.extend(self.callees.known.values().map(tell));
    }

    /// A manager that is back is told what this agent's own hosts said.
    pub(super) fn tell_of_own_callees(&self, effects: &mut Vec<Effect>) {
        let own = self.callees.own.iter();
        for callee in own.filter_map(|element| self.callees.known.get(element)) {
            self.tell_manager(FromAgent::Listening(callee.clone()), effects);
        }
    }
}
