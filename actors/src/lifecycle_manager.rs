//! The lifecycle manager in its shell: what it deploys goes through the global manager, which knows
//! the agents (paper, 3.3).

use std::rc::Rc;

use lamplighter_policies::protocol::control::Assignment;
use lamplighter_policies::protocol::global_manager::Input as ManagerInput;
use lamplighter_policies::protocol::lifecycle_manager::{
    Deployment, Effect, Input, LifecycleManager,
};
use lamplighter_policies::time::Now;

use crate::shell::{Escalated, Incarnation, Perform, Role, RoleSettings, Shell};

/// Writes down for an agent all that the host of an element must know where it is placed.
pub(crate) type Describe = Rc<dyn Fn(&Deployment) -> Option<Assignment>>;

/// Starts the role beside its global manager.
pub(crate) fn start(
    mut make: impl FnMut() -> LifecycleManager + 'static,
    describe: Describe,
    manager: Role<ManagerInput>,
    escalate: impl FnOnce(Escalated) + 'static,
) -> Role<Input> {
    Shell::start(
        RoleSettings::new("lifecycle manager"),
        move |_| Incarnation {
            machine: make(),
            performer: Hands {
                manager: manager.clone(),
                describe: Rc::clone(&describe),
            },
            first: vec![],
        },
        escalate,
    )
}

struct Hands {
    manager: Role<ManagerInput>,
    describe: Describe,
}

impl Perform for Hands {
    type Machine = LifecycleManager;

    fn perform(&mut self, _: Now, effect: Effect, _: &Role<Input>) {
        let Effect::Deploy(deployment) = effect;
        let Some(assignment) = (self.describe)(&deployment) else {
            return tracing::error!(element = %deployment.element, "it cannot be described to its host");
        };
        let server = deployment.server;
        self.manager
            .tell(ManagerInput::DeployOrdered { server, assignment });
    }
}
