//! What a fog agent knows of appliances: what it thinks of those that it watches, and who serves in
//! whose place, and how those around its elements are, as these have it. It is kept while the manager
//! is away.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Effect, FogAgent};
use crate::detection::{ApplianceVerdict, BridgeVerdict};
use crate::ids::EntityId;
use crate::protocol::appliances::Reconfiguration;
use crate::protocol::control::FromAgent;

/// The appliances as one agent knows them.
#[derive(Debug, Default)]
pub(super) struct Appliances {
    verdicts: BTreeMap<EntityId, ApplianceVerdict>,
    bridges: BTreeMap<String, BridgeVerdict>,
    /// By element, the newest table, told by the manager or found in the element's log.
    pub(super) reconfigurations: BTreeMap<EntityId, Reconfiguration>,
}

impl FogAgent {
    pub(super) fn appliance_judged(
        &mut self,
        appliance: EntityId,
        verdict: ApplianceVerdict,
        effects: &mut Vec<Effect>,
    ) {
        let known = &mut self.appliances.verdicts;
        known.insert(appliance.clone(), verdict);
        self.tell_manager(FromAgent::Judged { appliance, verdict }, effects);
    }

    pub(super) fn bridge_judged(
        &mut self,
        bridge: String,
        verdict: BridgeVerdict,
        effects: &mut Vec<Effect>,
    ) {
        self.appliances.bridges.insert(bridge.clone(), verdict);
        self.tell_manager(FromAgent::JudgedBridge { bridge, verdict }, effects);
    }

    /// A host says who serves in whose place by its element's log.
    pub(super) fn reconfigured(
        &mut self,
        element: EntityId,
        reconfiguration: Reconfiguration,
        effects: &mut Vec<Effect>,
    ) {
        let known = &mut self.appliances.reconfigurations;
        let known = known.entry(element.clone()).or_default();
        known.join(&reconfiguration);
        let told = FromAgent::Reconfigured {
            element,
            reconfiguration,
        };
        self.tell_manager(told, effects);
    }

    /// Tells a manager that may have been started again all that is known, before it decides.
    pub(super) fn tell_of_appliances(&self, effects: &mut Vec<Effect>) {
        let Appliances {
            verdicts,
            bridges,
            reconfigurations,
        } = &self.appliances;
        for (element, reconfiguration) in reconfigurations {
            let told = FromAgent::Reconfigured {
                element: element.clone(),
                reconfiguration: reconfiguration.clone(),
            };
            self.tell_manager(told, effects);
        }
        for (appliance, verdict) in verdicts {
            let (appliance, verdict) = (appliance.clone(), *verdict);
            self.tell_manager(FromAgent::Judged { appliance, verdict }, effects);
        }
        for (bridge, verdict) in bridges {
            let (bridge, verdict) = (bridge.clone(), *verdict);
            self.tell_manager(FromAgent::JudgedBridge { bridge, verdict }, effects);
        }
    }
}
