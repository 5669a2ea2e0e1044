//! What an element knows of the entities around it (paper, 4.2.3).
//!
//! Two speak of an entity: the global manager, whose changes have epochs, and the entity itself, whose
//! situations have versions. Of each the newest holds, so two tables are joined entry by entry, and
//! whoever heard the same has the same table, in whatever order and how often ever it came.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EntityState, Notice, NoticeDecision};
use crate::ids::EntityId;

/// What the global manager last said of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Under which term of the manager. One of a later term is newer, whatever its epoch: a manager
    /// that was replaced cannot decide any more.
    #[serde(rename = "t")]
    pub term: u64,
    /// The number of the change.
    #[serde(rename = "e")]
    pub epoch: u64,
    /// How the entity is.
    #[serde(rename = "s")]
    pub state: EntityState,
    /// What those around it are to do.
    #[serde(rename = "d")]
    pub decision: NoticeDecision,
}

impl Told {
    fn age(&self) -> (u64, u64) {
        (self.term, self.epoch)
    }
}

/// What an entity last said of itself to those who follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    /// The fencing epoch of the start of the element that said it.
    #[serde(rename = "i")]
    pub incarnation: u64,
    /// Which of what this start said: the place in the element's log from which it follows.
    #[serde(rename = "v")]
    pub version: u64,
    /// How it is.
    #[serde(rename = "s")]
    pub state: EntityState,
}

impl Situation {
    /// What orders the situations of one element.
    #[must_use]
    pub fn age(&self) -> (u64, u64) {
        (self.incarnation, self.version)
    }
}

/// What is known of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// By the global manager.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// By itself.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Situation>,
}

impl PeerView {
    /// Takes what is newer in `other`. Says whether anything was.
    pub fn join(&mut self, other: &Self) -> bool {
        let told = newer(&mut self.told, other.told.as_ref(), Told::age);
        let own = newer(&mut self.own, other.own.as_ref(), Situation::age);
        told || own
    }

    /// How the entity is: as the manager says, if by that it is down, or else as it says itself.
    #[must_use]
    pub fn state(&self) -> EntityState {
        if let Some(told) = &self.told
            && (is_down(&told.state) || matches!(told.state, EntityState::Replaced(_)))
        {
            return told.state.clone();
        }
        let own = self.own.as_ref().map(|own| &own.state);
        let told = self.told.as_ref().map(|told| &told.state);
        own.or(told).cloned().unwrap_or_default()
    }
}

/// What is known of all entities around an element.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Table {
    /// By entity; one of which nothing was heard is up.
    pub peers: BTreeMap<EntityId, PeerView>,
}

impl Table {
    /// A table that says what a notice says.
    #[must_use]
    pub fn of(notice: &Notice) -> Self {
        let Notice {
            term,
            entity,
            epoch,
            state,
            decision,
        } = notice.clone();
        let told = Some(Told {
            term,
            epoch,
            state,
            decision,
        });
        let view = PeerView { told, own: None };
        Self {
            peers: BTreeMap::from([(entity, view)]),
        }
    }

    /// A table that says what an element says of itself.
    #[must_use]
    pub fn of_situation(element: EntityId, situation: Situation) -> Self {
        let own = Some(situation);
        let view = PeerView { told: None, own };
        Self {
            peers: BTreeMap::from([(element, view)]),
        }
    }

    /// Takes what is newer in `other`. Says whether anything was.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut news = false;
        for (entity, view) in &other.peers {
            news |= self.peers.entry(entity.clone()).or_default().join(view);
        }
        news
    }

    /// Whether nothing in `other` is news.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let known = |(entity, view): (&EntityId, &PeerView)| {
            let mut own = self.peers.get(entity).cloned().unwrap_or_default();
            !own.join(view)
        };
        other.peers.iter().all(known)
    }

    /// How an entity is.
    #[must_use]
    pub fn state(&self, entity: &EntityId) -> EntityState {
        self.peers
            .get(entity)
            .map(PeerView::state)
            .unwrap_or_default()
    }

    /// Whether the global manager says that an entity is down.
    #[must_use]
    pub fn is_said_down(&self, entity: &EntityId) -> bool {
        self.told(entity).is_some_and(|told| is_down(&told.state))
    }

    /// Whether those around a failed entity are to go on without it.
    #[must_use]
    pub fn is_done_without(&self, entity: &EntityId) -> bool {
        self.told(entity)
            .is_some_and(|told| is_down(&told.state) && told.decision == NoticeDecision::RunWithout)
    }

    fn told(&self, entity: &EntityId) -> Option<&Told> {
        self.peers.get(entity)?.told.as_ref()
    }
}

/// Whether whatever is in this state exchanges nothing.
pub(super) fn is_down(state: &EntityState) -> bool {
    match state {
        EntityState::Failed | EntityState::Recovering => true,
        EntityState::Up
        | EntityState::Replaced(_)
        | EntityState::Degraded
        | EntityState::Suspended
        | EntityState::Stopped => false,
    }
}

fn newer<T: Clone>(known: &mut Option<T>, said: Option<&T>, age: fn(&T) -> (u64, u64)) -> bool {
    let Some(said) = said else { return false };
    let is_newer = known.as_ref().is_none_or(|known| age(said) > age(known));
    if is_newer {
        *known = Some(said.clone());
    }
    is_newer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn notice(term: u64, epoch: u64, state: EntityState) -> Table {
        Table::of(&Notice {
            term,
            entity: id("lamp"),
            epoch,
            state,
            decision: NoticeDecision::AwaitRecovery,
        })
    }

    fn situation(incarnation: u64, version: u64, state: EntityState) -> Table {
        let said = Situation {
            incarnation,
            version,
            state,
        };
        Table::of_situation(id("lamp"), said)
    }

    #[test]
    fn an_entity_of_which_nothing_was_heard_is_up() {
        assert_eq!(Table::default().state(&id("lamp")), EntityState::Up);
    }

    #[test]
    fn a_stale_failure_after_the_recovery_changes_nothing() {
        let mut table = notice(1, 2, EntityState::Up);
        assert!(!table.join(&notice(1, 1, EntityState::Failed)));
        assert_eq!(table, notice(1, 2, EntityState::Up));
    }

    #[test]
    fn what_a_replaced_manager_says_counts_no_more_whatever_its_epoch() {
        let mut table = notice(2, 1, EntityState::Up);
        assert!(!table.join(&notice(1, 9, EntityState::Failed)));
        assert!(table.join(&notice(3, 1, EntityState::Failed)));
        assert_eq!(table.state(&id("lamp")), EntityState::Failed);
    }

    #[test]
    fn what_is_down_says_nothing_of_itself_that_counts() {
        let mut table = situation(4, 7, EntityState::Suspended);
        table.join(&notice(1, 1, EntityState::Failed));
        assert_eq!(table.state(&id("lamp")), EntityState::Failed);
        table.join(&notice(1, 2, EntityState::Up));
        assert_eq!(table.state(&id("lamp")), EntityState::Suspended);
        table.join(&situation(5, 1, EntityState::Up));
        assert_eq!(table.state(&id("lamp")), EntityState::Up);
        assert!(!table.join(&situation(4, 8, EntityState::Suspended)));
    }

    #[test]
    fn a_table_covers_what_it_has_joined() {
        let (failed, said) = (
            notice(1, 1, EntityState::Failed),
            situation(1, 1, EntityState::Up),
        );
        let mut table = failed.clone();
        assert!(!table.covers(&said));
        table.join(&said);
        assert!(table.covers(&said) && table.covers(&failed));
    }
}
