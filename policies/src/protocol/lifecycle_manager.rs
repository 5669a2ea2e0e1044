//! The lifecycle manager: who is told to run what (paper, 3.3). Which element runs where is decided
//! in [`placement`](crate::placement).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ids::EntityId;
use crate::machine::Machine;
use crate::protocol::messages::StartCause;
use crate::time::{Monotonic, Now};

/// Where an element belongs, and how it starts there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Which element.
    pub element: EntityId,
    /// On which server.
    pub server: EntityId,
    /// The highest epoch that anybody ever saw for it.
    pub epoch_floor: u64,
    /// Why it starts.
    pub cause: StartCause,
}

impl Deployment {
    /// The first start of an element, where the topology has it.
    #[must_use]
    pub fn first(element: &EntityId, server: &EntityId) -> Self {
        Self {
            element: element.clone(),
            server: server.clone(),
            epoch_floor: 0,
            cause: StartCause::Deployed,
        }
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
    /// It was decided where an element belongs from now on.
    Placed(Deployment),
}

/// What the lifecycle manager asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Have a server's agent run an element. Nothing happens while that agent is away.
    Deploy(Deployment),
}

/// The lifecycle manager of one application.
#[derive(Debug)]
pub struct LifecycleManager {
    deployments: BTreeMap<EntityId, Deployment>,
}

impl LifecycleManager {
    /// One that deploys each element where it is placed, as soon as that server is enrolled.
    #[must_use]
    pub fn new(placement: &BTreeMap<EntityId, EntityId>) -> Self {
        let deployment = |(element, server): (&EntityId, &EntityId)| {
            (element.clone(), Deployment::first(element, server))
        };
        Self {
            deployments: placement.iter().map(deployment).collect(),
        }
    }
}

impl Machine for LifecycleManager {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, _: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::ServerEnrolled { server, hosted } => {
                let missing = self.deployments.values().filter(|deployment| {
                    deployment.server == server && !hosted.contains(&deployment.element)
                });
                effects.extend(missing.cloned().map(Effect::Deploy));
            }
            Input::Placed(deployment) => {
                effects.push(Effect::Deploy(deployment.clone()));
                self.deployments
                    .insert(deployment.element.clone(), deployment);
            }
        }
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

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn deployment(element: &str, server: &str) -> Deployment {
        Deployment {
            element: id(element),
            server: id(server),
            epoch_floor: 0,
            cause: StartCause::Deployed,
        }
    }

    fn manager() -> LifecycleManager {
        let placement = [("lamp", "pc"), ("door", "pc"), ("radio", "rpi")];
        LifecycleManager::new(&placement.map(|(e, s)| (id(e), id(s))).into())
    }

    fn told(manager: &mut LifecycleManager, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        manager.handle(Now::default(), input, &mut effects);
        effects
    }

    #[test]
    fn a_server_that_enrols_is_given_what_it_does_not_run_yet() {
        let enrolled = Input::ServerEnrolled {
            server: id("pc"),
            hosted: vec![id("door")],
        };
        let expected = [Effect::Deploy(deployment("lamp", "pc"))];
        assert_eq!(told(&mut manager(), enrolled), expected);
    }

    #[test]
    fn what_is_placed_anew_goes_there_and_no_longer_to_where_it_was() {
        let mut manager = manager();
        let moved = Deployment {
            epoch_floor: 7,
            cause: StartCause::Recovered,
            ..deployment("lamp", "rpi")
        };
        let effects = told(&mut manager, Input::Placed(moved.clone()));
        assert_eq!(effects, [Effect::Deploy(moved.clone())]);
        let enrolled = |server: &str| Input::ServerEnrolled {
            server: id(server),
            hosted: vec![],
        };
        let expected = [Effect::Deploy(deployment("door", "pc"))];
        assert_eq!(told(&mut manager, enrolled("pc")), expected);
        let expected = [moved, deployment("radio", "rpi")].map(Effect::Deploy);
        assert_eq!(told(&mut manager, enrolled("rpi")), expected);
    }
}
