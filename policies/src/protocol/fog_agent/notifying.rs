//! What a fog agent passes on of failures and reconfigurations (paper, 4.2.3): to its own elements at
//! once, to others through the manager.
//!
//! It remembers the newest of it for each of its elements, so that one that starts knows how those
//! around it are before it goes live, whether the manager is there or not.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Effect, FogAgent, HostId};
use crate::ids::EntityId;
use crate::notification::{BetweenElements, EntityState, Newest, Said, Table};
use crate::protocol::appliances::Reconfiguration;
use crate::protocol::control::FromAgent;
use crate::protocol::messages::ToHost;

impl FogAgent {
    /// The manager says who serves in whose place, or how entities are. It says so until the element
    /// shows that it knows, so the host is told again too.
    pub(super) fn reconfigure(
        &mut self,
        element: &EntityId,
        reconfiguration: Reconfiguration,
        effects: &mut Vec<Effect>,
    ) {
        self.remember(element, &reconfiguration);
        if let Some(host) = self.host_of(element) {
            let message = ToHost::Reconfigure {
                element: element.clone(),
                reconfiguration,
            };
            effects.push(Effect::Tell { host, message });
        }
    }

    /// A host that is about to run an element is told all that is known for it.
    pub(super) fn tell_present(&self, host: HostId, element: &EntityId, effects: &mut Vec<Effect>) {
        if let Some(reconfiguration) = self.appliances.reconfigurations.get(element) {
            let message = ToHost::Reconfigure {
                element: element.clone(),
                reconfiguration: reconfiguration.clone(),
            };
            effects.push(Effect::Tell { host, message });
        }
    }

    /// An element of this agent says something to another one.
    pub(super) fn between(&mut self, message: BetweenElements, effects: &mut Vec<Effect>) {
        if self.host_of(&message.to).is_some() {
            return self.deliver_between(message, effects);
        }
        self.tell_manager(FromAgent::Between(message), effects);
    }

    /// Something is said to an element of this agent. If it does not run now it is told when it
    /// starts, or again by whoever said it.
    pub(super) fn deliver_between(&mut self, message: BetweenElements, effects: &mut Vec<Effect>) {
        if !self.elements.contains_key(&message.to) {
            return;
        }
        if let Said::Reconfigured(situation) = &message.said
            && (situation.state != EntityState::Up || self.has_heard_of(&message))
        {
            let said = Table::of_situation(message.from.clone(), situation.clone());
            self.remember(&message.to, &Reconfiguration::of_peers(said));
        }
        if let Some(host) = self.host_of(&message.to) {
            let message = ToHost::Between(message);
            effects.push(Effect::Tell { host, message });
        }
    }

    pub(super) fn lacks(
        &self,
        element: EntityId,
        entities: Vec<EntityId>,
        effects: &mut Vec<Effect>,
    ) {
        self.tell_manager(FromAgent::Lacking { element, entities }, effects);
    }

    pub(super) fn pass_digest(
        &self,
        digest: &BTreeMap<EntityId, Newest>,
        effects: &mut Vec<Effect>,
    ) {
        let tell = |host| Effect::Tell {
            host,
            message: ToHost::Digest(digest.clone()),
        };
        effects.extend(self.hosts.busy().map(tell));
    }

    fn remember(&mut self, element: &EntityId, reconfiguration: &Reconfiguration) {
        let known = &mut self.appliances.reconfigurations;
        let known = known.entry(element.clone()).or_default();
        known.join(reconfiguration);
    }

    /// Whether the element was told anything else of this one before: that it is up is supposed anyhow.
    fn has_heard_of(&self, message: &BetweenElements) -> bool {
        let known = self.appliances.reconfigurations.get(&message.to);
        let known = known.and_then(|known| known.peers.peers.get(&message.from));
        known.is_some_and(|view| view.own.is_some())
    }

    fn host_of(&self, element: &EntityId) -> Option<HostId> {
        self.elements.get(element)?.host()
    }
}
