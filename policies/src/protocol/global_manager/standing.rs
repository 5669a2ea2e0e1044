//! What the global manager says of itself and of what it decided.

use alloc::format;
use alloc::vec::Vec;

use super::ledger::{Change, Entry};
use super::{ConnectionId, Effect, GlobalManager};
use crate::ids::EntityId;
use crate::protocol::control::{Answer, ManagerStanding};
use crate::time::Now;

/// How many entries one answer carries, so that it fits the frame limit.
const ENTRIES_MAX: usize = 64;

impl GlobalManager {
    pub(super) fn answer_standing(&self, now: Now, to: ConnectionId, effects: &mut Vec<Effect>) {
        let closed = |server: &EntityId| {
            let reason = self.closed_because(now, server)?;
            Some((server.clone(), reason))
        };
        let trouble = self
            .journal
            .trouble()
            .map(|(trouble, waiting)| format!("{waiting} decisions wait for the store: {trouble}"));
        let standing = ManagerStanding {
            term: self.journal.is_open().then(|| self.journal.term()),
            journal: trouble,
            servers: self.servers.keys().filter_map(closed).collect(),
            plans: u32::try_from(self.ledger.plans().count()).unwrap_or(u32::MAX),
        };
        effects.push(Effect::Answer(to, Answer::Standing(standing)));
    }

    pub(super) fn answer_timeline(
        &self,
        to: ConnectionId,
        entity: Option<&EntityId>,
        effects: &mut Vec<Effect>,
    ) {
        let wanted = |entry: &&Entry| entity.is_none_or(|entity| concerns(entry, entity));
        let entries: Vec<Entry> = self.ledger.timeline().filter(wanted).cloned().collect();
        let mut chunks = entries.chunks(ENTRIES_MAX);
        loop {
            let entries = chunks.next().unwrap_or_default().to_vec();
            let more = chunks.len() > 0;
            effects.push(Effect::Answer(to, Answer::Timeline { entries, more }));
            if !more {
                return;
            }
        }
    }
}

/// Whether an entry of the journal tells of an entity. The end of a plan is told of by its number alone,
/// so it is left out.
fn concerns(entry: &Entry, wanted: &EntityId) -> bool {
    match &entry.change {
        Change::Entity { notice, .. } => notice.entity == *wanted,
        Change::PlanBegun(plan) => {
            plan.roots.contains_key(wanted)
                || plan.steps.contains_key(wanted)
                || plan
                    .steps
                    .values()
                    .any(|step| step.to.as_ref() == Some(wanted))
        }
        Change::Stepped { element, .. } => element == wanted,
        Change::PlanEnded(_) => false,
        Change::Repaired {
            element, server, ..
        } => element == wanted || server == wanted,
        Change::Drained { server, .. } | Change::Struck { server, .. } => server == wanted,
    }
}
