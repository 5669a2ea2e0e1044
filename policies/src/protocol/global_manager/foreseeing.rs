//! What would become of everything if something failed: the decisions of a failure, on how things are
//! now, and nothing carried out.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::GlobalManager;
use crate::ids::EntityId;
use crate::placement::Budget;
use crate::protocol::forecast::Forecast;
use crate::recovery::decide::{Case, decide};
use crate::time::Now;

impl GlobalManager {
    /// Foresees the failure of a server, channel, element or appliance.
    pub(super) fn foresee(&self, now: Now, entity: &EntityId) -> Result<Forecast, String> {
        let topology = &self.topology;
        let may_fail = topology.servers.contains_key(entity)
            || topology.channels.contains_key(entity)
            || topology.elements.contains_key(entity)
            || topology.appliances.contains_key(entity);
        if !may_fail {
            return Err(format!(
                "the topology has no server, channel, element or appliance {entity}"
            ));
        }
        let (appliances_failed, unreachable, standing) = self.appliances.present();
        let case = Case {
            problem: self.problem(&BTreeSet::new(), self.open_servers(now)),
            manager: None,
            exhausted: BTreeSet::new(),
            appliances_failed,
            unreachable,
            standing,
        };
        let roots = BTreeSet::from([entity.clone()]);
        let outcome = decide(case, &roots, Budget::FAILOVER);
        Ok(Forecast::new(
            topology,
            entity,
            &outcome,
            &self.repair_times(),
        ))
    }

    /// How long the last repair of each element took, of those that had one.
    fn repair_times(&self) -> BTreeMap<EntityId, Duration> {
        let took = |(id, placed): (&EntityId, &crate::protocol::control::PlacedStatus)| {
            let noted = self.ledger.repair(id).map(|(_, failure)| failure);
            let failure = placed.status.last_failure.as_ref().or(noted)?;
            Some((id.clone(), failure.phases.repaired?))
        };
        self.elements.iter().filter_map(took).collect()
    }
}
