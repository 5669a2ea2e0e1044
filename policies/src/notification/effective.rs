//! How an element is, by what it knows of the entities around it (paper, 4.2.3, rules 1 and 2).
//!
//! It is a function of the table and has no history, so failures that overlap, in whatever order they
//! are told, leave it the same.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::table::is_down;
use super::{EntityState, Table};
use crate::ids::EntityId;
use crate::model::{Endpoint, Topology};

/// Who is around an element.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbourhood {
    /// What the element depends on, and whether it cannot work without.
    pub prerequisites: BTreeMap<EntityId, Need>,
    /// The elements that depend on it: its followers.
    pub dependents: BTreeSet<EntityId>,
    /// Whether it also hears devices that the topology does not declare; nobody tells how they are.
    pub hears_others: bool,
}

/// How much an element needs a prerequisite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Need {
    /// It works without, with less.
    Optional,
    /// It cannot work without.
    Mandatory,
}

impl Neighbourhood {
    /// Who is around `element` in a topology.
    #[must_use]
    pub fn of(topology: &Topology, element: &EntityId) -> Self {
        let mut around = Self::default();
        for binding in topology.bindings.values() {
            let need = if binding.mandatory {
                Need::Mandatory
            } else {
                Need::Optional
            };
            match &binding.to {
                Some(to) if binding.from == *element => around.needs(to.clone(), need),
                Some(to) if to == element => {
                    around.dependents.insert(binding.from.clone());
                }
                Some(_) => {}
                None => {
                    let undeclared = |end: &Endpoint| match end {
                        Endpoint::Device { appliance, .. } => appliance.is_none(),
                        Endpoint::Element { .. } => false,
                    };
                    let hears = |flow: &crate::model::Flow| {
                        undeclared(&flow.source) && flow.target.element() == Some(element)
                    };
                    around.hears_others |= binding.flows.iter().any(hears);
                }
            }
        }
        around
    }

    /// Adds a prerequisite; the strongest need for it counts.
    pub fn needs(&mut self, prerequisite: EntityId, need: Need) {
        let known = self.prerequisites.entry(prerequisite).or_insert(need);
        *known = need.max(*known);
    }

    /// How the element is.
    #[must_use]
    pub fn effective(&self, table: &Table) -> EntityState {
        if self.is_stopped(table) {
            return EntityState::Stopped;
        }
        let mut effective = EntityState::Up;
        for (prerequisite, need) in &self.prerequisites {
            if !is_out(&table.state(prerequisite)) {
                continue;
            }
            if *need == Need::Mandatory && !table.is_done_without(prerequisite) {
                return EntityState::Suspended;
            }
            effective = EntityState::Degraded;
        }
        effective
    }

    /// With whom the element exchanges nothing now.
    ///
    /// Those who are down, the prerequisites that cannot serve, and, while the element cannot serve
    /// itself, its dependents: they take nothing from it either.
    #[must_use]
    pub fn blocked(&self, table: &Table) -> BTreeSet<EntityId> {
        let serves = match self.effective(table) {
            EntityState::Suspended | EntityState::Stopped => false,
            EntityState::Up
            | EntityState::Degraded
            | EntityState::Replaced(_)
            | EntityState::Failed
            | EntityState::Recovering => true,
        };
        let prerequisites = self.prerequisites.keys();
        let out = prerequisites.filter(|entity| is_out(&table.state(entity)));
        let dependents = self.dependents.iter();
        let down = dependents.filter(|entity| !serves || table.is_said_down(entity));
        out.chain(down).cloned().collect()
    }

    /// The neighbours that are the reason for how the element is, with how they are.
    #[must_use]
    pub fn reasons(&self, table: &Table) -> Vec<(EntityId, EntityState)> {
        let states = |entity: &EntityId| (entity.clone(), table.state(entity));
        let prerequisites = self.prerequisites.keys().map(states);
        let mut reasons: Vec<_> = prerequisites.filter(|(_, state)| is_out(state)).collect();
        if self.is_stopped(table) {
            reasons.extend(self.dependents.iter().map(states));
        }
        reasons
    }

    /// All who are around have failed, so there is nothing to be done for anybody. A side on which
    /// nobody is counts as failed, but not both. Of dependents only the manager's word counts: a
    /// dependent that stopped because this element did would keep it stopped for ever.
    fn is_stopped(&self, table: &Table) -> bool {
        let alone = self.prerequisites.is_empty() && self.dependents.is_empty();
        let mut prerequisites = self.prerequisites.keys();
        !alone
            && !self.hears_others
            && prerequisites.all(|entity| is_out(&table.state(entity)))
            && self
                .dependents
                .iter()
                .all(|entity| table.is_said_down(entity))
    }
}

/// Whether a prerequisite in this state gives its dependents nothing.
fn is_out(state: &EntityState) -> bool {
    match state {
        EntityState::Suspended | EntityState::Stopped => true,
        EntityState::Failed
        | EntityState::Recovering
        | EntityState::Up
        | EntityState::Replaced(_)
        | EntityState::Degraded => is_down(state),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::{Notice, NoticeDecision, Situation};
    use super::*;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    /// An element that needs `sensor`, would like `weather`, and serves `lights` and `log`.
    fn around() -> Neighbourhood {
        Neighbourhood {
            prerequisites: [
                (id("sensor"), Need::Mandatory),
                (id("weather"), Need::Optional),
            ]
            .into(),
            dependents: [id("lights"), id("log")].into(),
            hears_others: false,
        }
    }

    fn told(entity: &str, state: EntityState, decision: NoticeDecision) -> Table {
        Table::of(&Notice {
            term: 1,
            entity: id(entity),
            epoch: 1,
            state,
            decision,
        })
    }

    fn failed(entities: &[&str]) -> Table {
        let mut table = Table::default();
        for entity in entities {
            let state = EntityState::Failed;
            table.join(&told(entity, state, NoticeDecision::AwaitRecovery));
        }
        table
    }

    #[test]
    fn each_rule_gives_its_state_and_its_blocked_neighbours() {
        use EntityState::{Degraded, Stopped, Suspended, Up};
        let cases: [(&[&str], EntityState, &[&str]); 6] = [
            (&[], Up, &[]),
            (&["weather"], Degraded, &["weather"]),
            (&["lights"], Up, &["lights"]),
            (&["sensor"], Suspended, &["sensor", "lights", "log"]),
            (
                &["sensor", "weather", "lights"],
                Suspended,
                &["sensor", "weather", "lights", "log"],
            ),
            (
                &["sensor", "weather", "lights", "log"],
                Stopped,
                &["sensor", "weather", "lights", "log"],
            ),
        ];
        for (down, effective, blocked) in cases {
            let table = failed(down);
            assert_eq!(around().effective(&table), effective, "{down:?}");
            let blocked: BTreeSet<EntityId> = blocked.iter().map(|name| id(name)).collect();
            assert_eq!(around().blocked(&table), blocked, "{down:?}");
        }
    }

    #[test]
    fn a_prerequisite_that_is_recovering_or_cannot_serve_itself_suspends_too() {
        for state in [
            EntityState::Recovering,
            EntityState::Suspended,
            EntityState::Stopped,
        ] {
            let table = told("sensor", state.clone(), NoticeDecision::AwaitRecovery);
            assert_eq!(around().effective(&table), EntityState::Suspended);
            assert_eq!(around().reasons(&table), vec![(id("sensor"), state)]);
        }
    }

    #[test]
    fn a_mandatory_prerequisite_that_is_to_be_done_without_degrades_only() {
        let table = told("sensor", EntityState::Failed, NoticeDecision::RunWithout);
        assert_eq!(around().effective(&table), EntityState::Degraded);
        assert_eq!(around().blocked(&table), [id("sensor")].into());
    }

    #[test]
    fn a_prerequisite_in_whose_place_another_serves_blocks_nothing() {
        let state = EntityState::Replaced(id("spare"));
        let table = told("sensor", state, NoticeDecision::ConnectTo(id("spare")));
        assert_eq!(around().effective(&table), EntityState::Up);
        assert_eq!(around().blocked(&table), BTreeSet::new());
    }

    #[test]
    fn a_dependent_that_only_says_itself_that_it_stopped_stops_nobody() {
        let mut table = failed(&["sensor", "weather", "log"]);
        let said = Situation {
            incarnation: 1,
            version: 1,
            state: EntityState::Stopped,
        };
        table.join(&Table::of_situation(id("lights"), said));
        assert_eq!(around().effective(&table), EntityState::Suspended);
    }

    #[test]
    fn one_side_without_anybody_counts_as_failed_and_both_do_not() {
        let leaf = Neighbourhood {
            dependents: BTreeSet::new(),
            ..around()
        };
        let both = failed(&["sensor", "weather"]);
        assert_eq!(leaf.effective(&both), EntityState::Stopped);
        let alone = Neighbourhood::default();
        assert_eq!(alone.effective(&both), EntityState::Up);
    }

    #[test]
    fn one_that_hears_devices_of_which_nobody_tells_is_never_stopped() {
        let hears = Neighbourhood {
            hears_others: true,
            ..around()
        };
        let all = failed(&["sensor", "weather", "lights", "log"]);
        assert_eq!(hears.effective(&all), EntityState::Suspended);
    }
}
