//! With whom the element exchanges nothing, because they failed or cannot serve (paper, 4.2.3, rules 1
//! and 2).
//!
//! Nothing is taken from a blocked neighbour: an element keeps what nobody acknowledged, so it comes
//! when both are there again. What is for it waits here, within a limit. Which neighbours are blocked
//! follows from the log, as all does; from the time at which a start or a mend has read the log until
//! it has folded it, those count that the log blocks in the end.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use super::{Cell, Effect, Neighbour};
use crate::ids::EntityId;
use crate::notification::{EntityState, Need, Table};
use crate::protocol::appliances::{PlaceChange, PlaceFate, Reconfiguration};
use crate::time::Now;

/// What is blocked, and how the element is.
#[derive(Debug, Default)]
pub(super) struct Blocking {
    /// By what the state has folded.
    links: BTreeSet<EntityId>,
    /// How the element is, by the same.
    effective: EntityState,
}

impl Cell {
    /// Whether nothing is exchanged on a link now.
    pub(super) fn is_blocked(&self, link: &EntityId) -> bool {
        if self.is_live() {
            return self.blocking.links.contains(link);
        }
        self.links_blocked_by(self.substituting.newest())
            .contains(link)
    }

    /// Lets an entity be that the topology did not name, and without which the element can do; for test
    /// benches.
    pub fn add_prerequisite(&mut self, entity: EntityId, neighbour: Neighbour) {
        self.settings.around.hears_others = true;
        self.settings.around.needs(entity.clone(), Need::Optional);
        self.settings.neighbours.insert(entity, neighbour);
    }

    /// Whether all around the element have failed: it does nothing until one of them is back.
    pub(super) fn is_paused(&self) -> bool {
        self.blocking.effective == EntityState::Stopped
    }

    /// How the element is.
    pub(super) fn effective(&self) -> EntityState {
        self.blocking.effective.clone()
    }

    /// Why it is so, for people: by neighbour, how that one is.
    pub(super) fn reasons(&self) -> Vec<(EntityId, EntityState)> {
        let seen = self.substituting.table.seen();
        self.settings.around.reasons(&seen)
    }

    /// The table has changed: what is blocked now is held, and what is free again goes on from where
    /// its two ends stopped.
    pub(super) fn block_anew(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let blocked = self.links_blocked_by(&self.substituting.table);
        let seen = self.substituting.table.seen();
        let effective = self.settings.around.effective(&seen);
        let was_paused = self.is_paused();
        self.blocking.effective = effective;
        let before = core::mem::replace(&mut self.blocking.links, blocked);
        for link in &self.blocking.links {
            if let Some(outbox) = self.outboxes.get_mut(link) {
                outbox.hold();
            }
        }
        if self.is_paused() && !was_paused {
            // What it is to go on from is saved while there is time.
            self.checkpoint.due_at = Some(now.monotonic);
        }
        let freed: Vec<EntityId> = before.difference(&self.blocking.links).cloned().collect();
        for link in freed {
            self.go_on(now, &link, effects);
        }
    }

    /// Both ends find out what the other misses.
    fn go_on(&mut self, now: Now, link: &EntityId, effects: &mut Vec<Effect>) {
        self.limit_held(now, link, effects);
        if let Some(outbox) = self.outboxes.get_mut(link) {
            outbox.release();
        }
        if !self.is_live() || !(self.connected || self.calling.is_direct(link)) {
            return;
        }
        if self.source(link, super::Source::Element).is_some()
            && let Some(inbound) = self.inbound.get(link)
        {
            let mark = inbound.mark();
            self.acknowledge(link, effects);
            let link = link.clone();
            effects.push(Effect::Resume { link, mark });
        }
        if let Some(outbox) = self.outboxes.get_mut(link) {
            let envelopes = outbox.resume(now.monotonic, outbox.last_acknowledged());
            if !envelopes.is_empty() {
                let link = link.clone();
                effects.push(Effect::Send { link, envelopes });
            }
        }
    }

    /// What waits on blocked links stays within its limit.
    pub(super) fn limit_all_held(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for link in self.blocking.links.clone() {
            self.limit_held(now, &link, effects);
        }
    }

    fn limit_held(&mut self, now: Now, link: &EntityId, effects: &mut Vec<Effect>) {
        if !self.is_live() {
            return;
        }
        let Some(outbox) = self.outboxes.get_mut(link) else {
            return;
        };
        // What has surely expired would only be noted as such by its receiver.
        let earliest = now.earliest();
        let left_out = outbox.keep_within(self.settings.hold, |envelope| {
            envelope.expires_at.is_some_and(|end| end <= earliest)
        });
        for envelope in left_out {
            self.counters.dead_letters += 1;
            effects.push(Effect::Bury {
                index: envelope.position.index,
                what: format!("output {:?} on {link}", envelope.position),
                cause: "the element that it was for is down, and too much waits for it".into(),
            });
        }
    }

    /// Outputs for neighbours with whom nothing is exchanged: they have a limit of their own and hold
    /// nothing up.
    pub(super) fn held_outputs(&self) -> usize {
        let held = self.blocking.links.iter();
        let outboxes = held.filter_map(|link| self.outboxes.get(link));
        outboxes.map(|outbox| outbox.unacknowledged()).sum()
    }

    /// What the author is told: which prerequisites failed, are back, or have others in their places.
    pub(super) fn peer_changes(&self, before: &Reconfiguration) -> Vec<PlaceChange> {
        let (before, after) = (before.seen(), self.substituting.table.seen());
        let mut changes = Vec::new();
        for prerequisite in self.settings.around.prerequisites.keys() {
            let Some(neighbour) = self.settings.neighbours.get(prerequisite) else {
                continue;
            };
            let fates = (fate(&before, prerequisite), fate(&after, prerequisite));
            if fates.0 == fates.1 {
                continue;
            }
            changes.extend(neighbour.outputs.iter().map(|output| PlaceChange {
                output: output.clone(),
                fate: fates.1.clone(),
            }));
        }
        changes
    }

    fn links_blocked_by(&self, table: &Reconfiguration) -> BTreeSet<EntityId> {
        let blocked = self.settings.around.blocked(&table.seen());
        let neighbours = blocked
            .iter()
            .filter_map(|entity| self.settings.neighbours.get(entity));
        neighbours
            .flat_map(|neighbour| neighbour.links.iter().cloned())
            .collect()
    }
}

fn fate(table: &Table, entity: &EntityId) -> PlaceFate {
    match table.state(entity) {
        EntityState::Up | EntityState::Degraded => PlaceFate::Recovered,
        EntityState::Replaced(by) => PlaceFate::Replaced(by),
        EntityState::Failed
        | EntityState::Recovering
        | EntityState::Suspended
        | EntityState::Stopped => PlaceFate::Failed,
    }
}
