//! What a fog agent knows of other servers: the local list of those it suspects (paper, 4.2.2).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Effect, FogAgent};
use crate::detection::{Judgement, MonitorOrder, Noticed};
use crate::ids::EntityId;
use crate::protocol::control::FromAgent;

/// What the monitor said, to be told again to a manager that has not heard it.
#[derive(Debug, Default)]
pub(super) struct Servers {
    beats: Option<(String, u64)>,
    suspected: BTreeMap<EntityId, Noticed>,
}

impl FogAgent {
    /// Where heartbeats are heard.
    pub(super) fn beating(&mut self, address: String, incarnation: u64, effects: &mut Vec<Effect>) {
        self.servers.beats = Some((address.clone(), incarnation));
        let beats = FromAgent::Beats {
            address,
            incarnation,
        };
        self.tell_manager(beats, effects);
    }

    pub(super) fn server_noticed(&mut self, noticed: Noticed, effects: &mut Vec<Effect>) {
        let server = noticed.server().clone();
        match &noticed {
            Noticed::Suspected { .. } => {
                self.servers.suspected.insert(server, noticed.clone());
            }
            Noticed::Heard { .. } => {
                self.servers.suspected.remove(&server);
            }
            Noticed::Silent { .. } => {}
        }
        self.tell_manager(FromAgent::Noticed(noticed), effects);
    }

    pub(super) fn monitor(&mut self, order: MonitorOrder, effects: &mut Vec<Effect>) {
        if let MonitorOrder::Judge(server, Judgement::Alive) = &order {
            self.servers.suspected.remove(server);
        }
        effects.push(Effect::Monitor(order));
    }

    /// Tells the manager, which may be another than before, all that it must know.
    pub(super) fn tell_of_servers(&self, effects: &mut Vec<Effect>) {
        if let Some((address, incarnation)) = self.servers.beats.clone() {
            let beats = FromAgent::Beats {
                address,
                incarnation,
            };
            self.tell_manager(beats, effects);
        }
        for noticed in self.servers.suspected.values() {
            self.tell_manager(FromAgent::Noticed(noticed.clone()), effects);
        }
    }
}
