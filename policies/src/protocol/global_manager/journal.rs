//! The journal: what the manager decides is stable before anything follows from it (paper, 4.1: the
//! manager is assumed never to fail; here it may, and goes on where it was).
//!
//! Nobody groups by a timer: what was decided while a batch is on its way is the next batch. An effect
//! that follows from a decision waits for it, in order. While the store is away only restarts in place
//! go on, after [`IN_PLACE_WITHIN`]: the agents would do them alone anyway.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::ledger::{Entry, Ledger};
use super::{Effect, GlobalManager};
use crate::protocol::control::{Decision, ToAgent};
use crate::time::Monotonic;

/// How long the decision to restart an element in place waits for the store.
pub const IN_PLACE_WITHIN: Duration = Duration::from_millis(50);

/// After how many entries they are folded into a checkpoint.
pub const FOLD_EVERY: u64 = 256;

/// How many entries one batch holds.
const BATCH_ENTRIES_MAX: usize = 128;

/// How far the decisions are stable.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// The term of this manager, once it owns the journal.
    term: Option<u64>,
    /// The number of the last entry that was decided.
    last: u64,
    /// The number of the last one that was given to the store.
    sent: u64,
    /// The number of the last one that is stable.
    stable: u64,
    /// The number of the last one that the checkpoint covers.
    folded: u64,
    is_folding: bool,
    waiting: VecDeque<Entry>,
    held: VecDeque<Held>,
    trouble: Option<String>,
}

#[derive(Debug)]
struct Held {
    behind: u64,
    since: Monotonic,
    effect: Effect,
}

impl Journal {
    /// This manager owns the journal, which ends at `last`.
    pub(super) fn opened(&mut self, term: u64, folded: u64, last: u64) {
        *self = Self {
            term: Some(term),
            last,
            sent: last,
            stable: last,
            folded,
            ..Self::default()
        };
    }

    pub(super) fn is_open(&self) -> bool {
        self.term.is_some()
    }

    pub(super) fn term(&self) -> u64 {
        self.term.unwrap_or_default()
    }

    /// Takes a decision.
    pub(super) fn add(&mut self, entry: Entry) {
        self.last += 1;
        self.waiting.push_back(entry);
    }

    /// Everything up to here is stable.
    pub(super) fn stable_upto(&mut self, upto: u64) {
        self.stable = self.stable.max(upto);
        self.trouble = None;
    }

    /// The store could not take the last batch, and is asked again.
    pub(super) fn delayed(&mut self, reason: String) {
        self.trouble = Some(reason);
    }

    pub(super) fn folded_upto(&mut self, upto: Option<u64>) {
        self.is_folding = false;
        self.folded = self.folded.max(upto.unwrap_or(0));
    }

    /// What people must know of it: why decisions wait, and how many.
    pub(super) fn trouble(&self) -> Option<(&str, usize)> {
        let waiting = usize::try_from(self.last - self.stable).unwrap_or(usize::MAX);
        Some((self.trouble.as_deref()?, waiting))
    }

    /// Lets through what may leave, and keeps back what follows from a decision that is not stable yet.
    pub(super) fn pass(&mut self, now: Monotonic, wanted: Vec<Effect>, effects: &mut Vec<Effect>) {
        let behind = self.last;
        for effect in wanted {
            if self.stable < self.last && follows_from_decisions(&effect) {
                self.held.push_back(Held {
                    behind,
                    since: now,
                    effect,
                });
            } else {
                effects.push(effect);
            }
        }
        self.release(now, effects);
    }

    /// Lets what is kept back leave as soon as it may, in order.
    pub(super) fn release(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        let stable = self.stable;
        while let Some(held) = self.held.pop_front_if(|held| held.behind <= stable) {
            effects.push(held.effect);
        }
        let overdue =
            |held: &Held| is_in_place(&held.effect) && now >= held.since + IN_PLACE_WITHIN;
        if self.held.iter().any(overdue) {
            let held = core::mem::take(&mut self.held);
            for held in held {
                if overdue(&held) {
                    effects.push(held.effect);
                } else {
                    self.held.push_back(held);
                }
            }
        }
    }

    /// Gives the store what waits, if it is not busy, or has it folded.
    pub(super) fn further(&mut self, ledger: &Ledger, effects: &mut Vec<Effect>) {
        if self.sent > self.stable || self.is_folding || !self.is_open() {
            return;
        }
        if self.waiting.is_empty() {
            // The ledger is what the journal says only where nothing waits.
            if self.stable - self.folded >= FOLD_EVERY {
                self.is_folding = true;
                effects.push(Effect::Fold {
                    upto: self.stable,
                    ledger: Box::new(ledger.clone()),
                });
            }
            return;
        }
        let count = self.waiting.len().min(BATCH_ENTRIES_MAX);
        let first = self.sent + 1;
        self.sent += count as u64;
        effects.push(Effect::Journal {
            first,
            entries: self.waiting.drain(..count).collect(),
        });
    }

    /// When a restart in place is to go on without the store.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        let urgent = self.held.iter().filter(|held| is_in_place(&held.effect));
        urgent.map(|held| held.since + IN_PLACE_WITHIN).min()
    }
}

/// Whether an effect follows from what was decided, rather than from what was heard or asked.
fn follows_from_decisions(effect: &Effect) -> bool {
    match effect {
        Effect::TellAgent(_, told) => match told {
            ToAgent::Assign(_)
            | ToAgent::Decided { .. }
            | ToAgent::Release { .. }
            | ToAgent::Resume { .. }
            | ToAgent::Await { .. }
            | ToAgent::Reconfigure { .. }
            | ToAgent::Digest(_)
            | ToAgent::Watch { .. } => true,
            ToAgent::Orders { .. }
            | ToAgent::Report { .. }
            | ToAgent::Inject { .. }
            | ToAgent::Stop
            | ToAgent::Between(_)
            | ToAgent::Judge(_)
            | ToAgent::Monitor(_)
            | ToAgent::Reach(_) => false,
        },
        Effect::Enrol { .. } | Effect::Place(_) => true,
        Effect::Answer(..)
        | Effect::Refuse { .. }
        | Effect::Finish
        | Effect::Journal { .. }
        | Effect::Fold { .. } => false,
    }
}

fn is_in_place(effect: &Effect) -> bool {
    let Effect::TellAgent(_, ToAgent::Decided { decision, .. }) = effect else {
        return false;
    };
    match decision {
        Decision::RestartInPlace | Decision::RestartAndAwait => true,
        Decision::Leave { .. } => false,
    }
}

impl GlobalManager {
    /// Decides something: it holds from here on, and everything that follows from it waits until it is
    /// stable.
    pub(super) fn commit(&mut self, at: crate::time::WallClock, change: super::ledger::Change) {
        let entry = Entry { at, change };
        self.ledger.apply(&entry);
        self.journal.add(entry);
    }
}
