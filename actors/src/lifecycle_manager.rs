//! The lifecycle manager in its shell: what it deploys goes through the global manager, which knows
//! the agents (paper, 3.3).

use lamplighter_policies::protocol::global_manager::Input as ManagerInput;
use lamplighter_policies::protocol::lifecycle_manager::{Effect, Input, LifecycleManager};
use lamplighter_policies::time::Now;

use crate::shell::{Escalated, Incarnation, Perform, Role, RoleSettings, Shell};

/// Starts the role beside its global manager.
pub(crate) fn start(
    mut make: impl FnMut() -> LifecycleManager + 'static,
    manager: Role<ManagerInput>,
    escalate: impl FnOnce(Escalated) + 'static,
) -> Role<Input> {
    Shell::start(
        RoleSettings::new("lifecycle manager"),
        move |_| Incarnation {
            machine: make(),
            performer: Hands {
                manager: manager.clone(),
            },
            first: vec![],
        },
        escalate,
    )
}

struct Hands {
    manager: Role<ManagerInput>,
}

impl Perform for Hands {
    type Machine = LifecycleManager;

    fn perform(&mut self, _: Now, effect: Effect, _: &Role<Input>) {
        let Effect::Deploy { server, assignment } = effect;
        self.manager
            .tell(ManagerInput::DeployOrdered { server, assignment });
    }
}
