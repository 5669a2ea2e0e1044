//! Algorithm 1 as the paper prints it: no epochs, no versions, and every notification passed on.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;

/// What passes: the failed entity, and whether it is said to be back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    pub(crate) to: EntityId,
    pub(crate) from: Option<EntityId>,
    pub(crate) recovered: bool,
}

#[derive(Default)]
pub(crate) struct Algorithm1 {
    pub(crate) followers: BTreeMap<EntityId, Vec<EntityId>>,
    /// By element, whom it waits for.
    pub(crate) waits_for: BTreeMap<EntityId, BTreeSet<Option<EntityId>>>,
    pub(crate) wires: Vec<Notification>,
    pub(crate) messages: usize,
}

impl Algorithm1 {
    /// The manager tells the dependents of what failed, or is back.
    pub(crate) fn notify(&mut self, dependents: &[EntityId], recovered: bool) {
        for to in dependents {
            let (to, from) = (to.clone(), None);
            self.wires.push(Notification {
                to,
                from,
                recovered,
            });
        }
    }

    /// Lets the message at a place arrive: `localReconf`, then the same to every follower.
    pub(crate) fn arrive(&mut self, at: usize) {
        let Notification {
            to,
            from,
            recovered,
        } = self.wires.remove(at);
        self.messages += 1;
        let waits_for = self.waits_for.entry(to.clone()).or_default();
        if recovered {
            waits_for.remove(&from);
        } else {
            waits_for.insert(from);
        }
        for follower in self.followers.get(&to).cloned().unwrap_or_default() {
            self.wires.push(Notification {
                to: follower,
                from: Some(to.clone()),
                recovered,
            });
        }
    }
}
