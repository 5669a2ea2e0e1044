//! Asking one server for a sign of life, in rounds.

use alloc::vec::Vec;

use crate::detection::heartbeat::Confirmation;
use crate::time::Monotonic;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask.
    Ask,
    /// It is not time yet.
    Wait,
    /// All was asked, and the time for answers is over.
    Ended,
}

/// The rounds, and what was asked in them.
#[derive(Debug)]
pub(super) struct Probing {
    rules: Confirmation,
    began: Monotonic,
    /// By nonce, when it was asked.
    asked: Vec<(u64, Monotonic)>,
}

impl Probing {
    pub(super) fn new(rules: Confirmation, began: Monotonic) -> Self {
        let asked = Vec::new();
        Self {
            rules,
            began,
            asked,
        }
    }

    /// When it was asked with this nonce.
    pub(super) fn asked_at(&self, nonce: u64) -> Option<Monotonic> {
        let asked = self.asked.iter().find(|(asked, _)| *asked == nonce);
        asked.map(|(_, at)| *at)
    }

    /// When the next round is due, if there is one.
    pub(super) fn asks_at(&self) -> Option<Monotonic> {
        let rounds = u32::try_from(self.asked.len()).unwrap_or(u32::MAX);
        let next = self.began + self.rules.spacing * rounds;
        (rounds < self.rules.rounds).then_some(next)
    }

    /// When there is something to do: a round, or the end.
    pub(super) fn deadline(&self) -> Monotonic {
        let end = self.began + self.rules.spacing * self.rules.rounds;
        self.asks_at().unwrap_or(end)
    }

    /// What is to be done at `now`; whoever asks does it with this nonce.
    pub(super) fn next(&mut self, now: Monotonic, nonce: u64) -> Next {
        if now < self.deadline() {
            return Next::Wait;
        }
        if self.asks_at().is_none() {
            return Next::Ended;
        }
        self.asked.push((nonce, now));
        Next::Ask
    }
}
