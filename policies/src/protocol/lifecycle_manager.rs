//! The lifecycle manager: who is told to run what (paper, 3.3). Which element runs where is decided
//! in [`placement`](crate::placement).

use alloc::vec::Vec;

use crate::ids::EntityId;
use crate::machine::Machine;
use crate::protocol::control::Assignment;
use crate::time::{Monotonic, Now};

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
