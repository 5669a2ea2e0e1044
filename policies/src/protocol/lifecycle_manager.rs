//! The lifecycle manager: which element runs where, and who is told to run it (paper, 3.3).
//!
//! An element runs where the topology says; the others go to the first server, by id, that has room.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ids::EntityId;
use crate::machine::Machine;
use crate::model::{Resources, Topology};
use crate::protocol::control::Assignment;
use crate::time::{Monotonic, Now};

/// No server can host an element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no server has room for {element}, which needs {demand:?}; add a server or lower the demand"
)]
pub struct NoPlace {
    /// Which element.
    pub element: EntityId,
    /// What it needs.
    pub demand: Resources,
}

/// Says on which server each element runs.
///
/// # Errors
/// The first element, by criticality and then id, for which there is no room.
pub fn place(topology: &Topology) -> Result<BTreeMap<EntityId, EntityId>, NoPlace> {
    let mut placement = BTreeMap::new();
    let mut free: BTreeMap<&EntityId, Option<Resources>> = topology
        .servers
        .iter()
        .map(|(id, server)| (id, server.resources))
        .collect();
    for (id, element) in &topology.elements {
        if let Some(server) = &element.server {
            placement.insert(id.clone(), server.clone());
            if let Some(Some(room)) = free.get_mut(server) {
                *room = without(*room, element.demand);
            }
        }
    }
    let mut open: Vec<_> = topology
        .elements
        .iter()
        .filter(|(_, element)| element.server.is_none())
        .collect();
    open.sort_by_key(|(id, element)| (core::cmp::Reverse(element.criticality), *id));
    for (id, element) in open {
        let demand = element.demand;
        let fits = |room: &Option<Resources>| room.is_none_or(|room| has_room(room, demand));
        let Some((server, room)) = free.iter_mut().find(|(_, room)| fits(room)) else {
            return Err(NoPlace {
                element: id.clone(),
                demand,
            });
        };
        *room = room.map(|room| without(room, demand));
        placement.insert(id.clone(), (*server).clone());
    }
    Ok(placement)
}

fn has_room(room: Resources, demand: Resources) -> bool {
    room.cpu_milli >= demand.cpu_milli
        && room.ram_mb >= demand.ram_mb
        && room.disk_mb >= demand.disk_mb
}

fn without(room: Resources, demand: Resources) -> Resources {
    Resources {
        cpu_milli: room.cpu_milli.saturating_sub(demand.cpu_milli),
        ram_mb: room.ram_mb.saturating_sub(demand.ram_mb),
        disk_mb: room.disk_mb.saturating_sub(demand.disk_mb),
    }
}

/// What the lifecycle manager is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The agent of a server registered; it hosts these elements already.
    ServerEnrolled {
        /// Which server.
        server: EntityId,
        /// What runs there.
        hosted: Vec<EntityId>,
    },
}

/// What the lifecycle manager asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Have a server's agent run an element.
    Deploy {
        /// Which server.
        server: EntityId,
        /// What it must know.
        assignment: Assignment,
    },
}

/// The lifecycle manager of one application.
#[derive(Debug)]
pub struct LifecycleManager {
    deployments: Vec<(EntityId, Assignment)>,
}

impl LifecycleManager {
    /// One that deploys each assignment to its server as soon as that is enrolled.
    #[must_use]
    pub fn new(deployments: Vec<(EntityId, Assignment)>) -> Self {
        Self { deployments }
    }
}

impl Machine for LifecycleManager {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, _: Now, input: Input, effects: &mut Vec<Effect>) {
        let Input::ServerEnrolled { server, hosted } = input;
        let missing = self.deployments.iter().filter(|(place, assignment)| {
            *place == server && !hosted.contains(&assignment.element)
        });
        effects.extend(missing.map(|(server, assignment)| Effect::Deploy {
            server: server.clone(),
            assignment: assignment.clone(),
        }));
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        None
    }

    fn wake(&mut self, _: Now, _: &mut Vec<Effect>) {}
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::protocol::messages::StartCause;
    use crate::restart::RestartPolicy;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn assignment(element: &str) -> Assignment {
        Assignment {
            element: id(element),
            epoch_floor: 0,
            cause: StartCause::Deployed,
            restart: RestartPolicy::default(),
            spec: vec![],
        }
    }

    #[test]
    fn a_server_that_enrols_is_given_what_it_does_not_run_yet() {
        let mut manager = LifecycleManager::new(vec![
            (id("pc"), assignment("lamp")),
            (id("pc"), assignment("door")),
            (id("rpi"), assignment("radio")),
        ]);
        let mut effects = Vec::new();
        let enrolled = Input::ServerEnrolled {
            server: id("pc"),
            hosted: vec![id("door")],
        };
        manager.handle(Now::default(), enrolled, &mut effects);
        assert_eq!(
            effects,
            [Effect::Deploy {
                server: id("pc"),
                assignment: assignment("lamp"),
            }]
        );
    }
}
