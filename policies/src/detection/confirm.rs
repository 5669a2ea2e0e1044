//! From a suspicion to a failure: nothing is repaired before others have looked too (paper, 4.2.2 and
//! 4.2.4, the decision before the repair).
//!
//! One sign of life that is younger than the suspicion refutes it. A failure is confirmed at the end
//! of the window, if enough who can look saw nothing; where only one can look, the window is doubled.

use alloc::collections::BTreeSet;
use core::time::Duration;

use super::heartbeat::Confirmation;
use crate::ids::EntityId;
use crate::time::Monotonic;

/// How many must have seen nothing, where so many can look.
const QUORUM: usize = 2;

/// What is known of one suspicion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    since: Monotonic,
    rules: Confirmation,
    /// Who can look at all.
    voters: usize,
    silent: BTreeSet<EntityId>,
    refuted: bool,
}

/// What is to be thought of a suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is too early to say.
    Open,
    /// There was a sign of life.
    Refuted,
    /// It failed.
    Confirmed,
}

impl Suspicion {
    /// `by` has heard nothing; `voters` can look, `by` included.
    #[must_use]
    pub fn new(rules: Confirmation, since: Monotonic, by: EntityId, voters: usize) -> Self {
        Self {
            since,
            rules,
            voters: voters.max(1),
            silent: BTreeSet::from([by]),
            refuted: false,
        }
    }

    /// Somebody saw a sign of life that was given at `given_at`. An older one tells nothing.
    pub fn alive(&mut self, given_at: Monotonic) {
        self.refuted |= given_at > self.since;
    }

    /// Somebody looked and saw nothing.
    pub fn silent(&mut self, by: EntityId) {
        self.silent.insert(by);
    }

    /// When it is to be decided at the latest.
    #[must_use]
    pub fn ends_at(&self) -> Monotonic {
        let lonely = self.silent.len().min(self.voters) < QUORUM;
        self.since + self.rules.within * if lonely { 2 } else { 1 }
    }

    /// What is to be thought of it at `now`.
    #[must_use]
    pub fn verdict(&self, now: Monotonic) -> Verdict {
        if self.refuted {
            Verdict::Refuted
        } else if now < self.ends_at() {
            Verdict::Open
        } else {
            Verdict::Confirmed
        }
    }

    /// When the suspected server is asked, after the suspicion.
    pub fn rounds(rules: Confirmation) -> impl Iterator<Item = Duration> {
        (0..rules.rounds).map(move |round| rules.spacing * round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DetectionProfile;

    const MS: u64 = 1_000_000;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn suspicion(voters: usize) -> Suspicion {
        let rules = DetectionProfile::Fast.heartbeats().confirmation;
        Suspicion::new(rules, Monotonic(1_000 * MS), id("rpi1"), voters)
    }

    #[test]
    fn what_two_do_not_hear_is_confirmed_at_the_end_of_the_window() {
        let mut suspicion = suspicion(3);
        suspicion.silent(id("rpi2"));
        assert_eq!(suspicion.verdict(Monotonic(1_449 * MS)), Verdict::Open);
        assert_eq!(suspicion.verdict(Monotonic(1_450 * MS)), Verdict::Confirmed);
    }

    #[test]
    fn a_sign_of_life_refutes_only_if_it_is_younger_than_the_suspicion() {
        let mut suspicion = suspicion(3);
        suspicion.silent(id("rpi2"));
        suspicion.alive(Monotonic(999 * MS));
        assert_eq!(suspicion.verdict(Monotonic(1_100 * MS)), Verdict::Open);
        suspicion.alive(Monotonic(1_001 * MS));
        assert_eq!(suspicion.verdict(Monotonic(9_000 * MS)), Verdict::Refuted);
    }

    #[test]
    fn who_looks_alone_looks_twice_as_long() {
        let alone = suspicion(1);
        assert_eq!(alone.verdict(Monotonic(1_899 * MS)), Verdict::Open);
        assert_eq!(alone.verdict(Monotonic(1_900 * MS)), Verdict::Confirmed);
        assert_eq!(suspicion(3).ends_at(), Monotonic(1_900 * MS));
    }
}
