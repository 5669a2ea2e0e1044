//! Whom heartbeats come from and go to.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lamplighter_policies::detection::{Observation, Peer};
use lamplighter_policies::ids::EntityId;

use super::packet::Tag;

/// How many servers that were only asked about are remembered.
const ASKED_ABOUT_MAX: usize = 256;

/// The servers that are known, with their names on the wire.
#[derive(Debug)]
pub(super) struct Peers {
    own: Tag,
    assigned: BTreeMap<EntityId, Option<SocketAddr>>,
    /// Those that the manager asked to look at.
    asked_about: BTreeMap<EntityId, Option<SocketAddr>>,
    servers: BTreeMap<Tag, EntityId>,
}

impl Peers {
    pub(super) fn new(own: EntityId) -> Self {
        Self {
            own: Tag::of(&own),
            assigned: BTreeMap::new(),
            asked_about: BTreeMap::new(),
            servers: BTreeMap::new(),
        }
    }

    pub(super) fn own(&self) -> Tag {
        self.own
    }

    /// These, and no others, are assigned. An address that the manager does not know is kept.
    pub(super) fn assigned(&mut self, observation: &Observation) {
        let before = std::mem::take(&mut self.assigned);
        for peer in observation.observed.iter().chain(&observation.observers) {
            let known = before.get(&peer.server).copied().flatten();
            let address = address(peer).or(known);
            self.assigned.insert(peer.server.clone(), address);
        }
        self.name();
    }

    /// This one too, until there are too many.
    pub(super) fn look(&mut self, peer: &Peer) {
        if self.asked_about.len() >= ASKED_ABOUT_MAX {
            self.asked_about.clear();
        }
        self.asked_about.insert(peer.server.clone(), address(peer));
        self.name();
    }

    pub(super) fn server(&self, tag: Tag) -> Option<EntityId> {
        self.servers.get(&tag).cloned()
    }

    pub(super) fn address(&self, server: &EntityId) -> Option<(SocketAddr, Tag)> {
        let assigned = self.assigned.get(server).copied().flatten();
        let asked_about = self.asked_about.get(server).copied().flatten();
        Some((asked_about.or(assigned)?, Tag::of(server)))
    }

    fn name(&mut self) {
        let known = self.assigned.keys().chain(self.asked_about.keys());
        self.servers = known.map(|id| (Tag::of(id), id.clone())).collect();
    }
}

fn address(peer: &Peer) -> Option<SocketAddr> {
    let text = peer.address.as_ref()?;
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            tracing::warn!(server = %peer.server, text, "not an address for heartbeats");
            None
        }
    }
}
