//! From a suspicion to a failure: nothing is repaired before others have looked too (paper, 4.2.2 and
//! 4.2.4, the decision before the repair).
//!
//! One sign of life that is younger than the suspicion refutes it. A failure is confirmed at the end
//! of the window, if enough who can look saw nothing; where too few can, the window is doubled. Who is
//! not well itself counts for less, and who suspects everybody for nothing.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::heartbeat::Confirmation;
use crate::ids::EntityId;
use crate::time::Monotonic;

/// How much must have seen nothing: two observers that are well.
const QUORUM: u32 = 2 * WEIGHT;
/// What one observer that is well counts.
const WEIGHT: u32 = 1_000;
/// So many windows more if the network, and not the server, seems to have failed.
const HOLD_WINDOWS: u32 = 2;

/// What is known of one suspicion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    since: Monotonic,
    rules: Confirmation,
    /// Who saw nothing, with how unwell it is itself.
    silent: BTreeMap<EntityId, u8>,
    refuted: bool,
    held: bool,
}

/// What is to be thought of a suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is too early to say.
    Open,
    /// There was a sign of life.
    Refuted,
    /// Nobody who counts has seen nothing: there is nothing to decide.
    Unfounded,
    /// It failed.
    Confirmed,
}

impl Suspicion {
    /// Something is wrong with a server, and nobody has said yet that it is silent.
    #[must_use]
    pub fn new(rules: Confirmation, since: Monotonic) -> Self {
        Self {
            since,
            rules,
            silent: BTreeMap::new(),
            refuted: false,
            held: false,
        }
    }

    /// When it began.
    #[must_use]
    pub fn since(&self) -> Monotonic {
        self.since
    }

    /// Somebody saw a sign of life that was given at `given_at`. An older one tells nothing.
    pub fn alive(&mut self, given_at: Monotonic) {
        self.refuted |= given_at > self.since;
    }

    /// Somebody looked and saw nothing. Its `unwellness` is how often its own timers were late lately.
    pub fn silent(&mut self, by: EntityId, unwellness: u8) {
        self.silent.insert(by, unwellness);
    }

    /// What somebody says counts no more.
    pub fn discount(&mut self, by: &EntityId) {
        self.silent.remove(by);
    }

    /// Who saw nothing.
    pub fn silent_for(&self) -> impl Iterator<Item = &EntityId> {
        self.silent.keys()
    }

    /// Whether somebody saw nothing.
    #[must_use]
    pub fn is_silent_for(&self, by: &EntityId) -> bool {
        self.silent.contains_key(by)
    }

    /// The network seems to have failed: more time is given.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Whether more time is given.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// When it is to be decided at the latest.
    #[must_use]
    pub fn ends_at(&self) -> Monotonic {
        let weight = |unwellness: &u8| WEIGHT / (1 + u32::from(*unwellness));
        let heard: u32 = self.silent.values().map(weight).sum();
        let windows = if heard < QUORUM { 2 } else { 1 };
        let held = if self.held { HOLD_WINDOWS } else { 0 };
        self.since + self.rules.within * (windows + held)
    }

    /// What is to be thought of it at `now`.
    #[must_use]
    pub fn verdict(&self, now: Monotonic) -> Verdict {
        if self.refuted {
            Verdict::Refuted
        } else if now < self.ends_at() {
            Verdict::Open
        } else if self.silent.is_empty() {
            Verdict::Unfounded
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

    /// Begun at 1 s; silent for so many, each so unwell.
    fn suspicion(unwell: &[u8]) -> Suspicion {
        let rules = DetectionProfile::Fast.heartbeats().confirmation;
        let mut suspicion = Suspicion::new(rules, Monotonic(1_000 * MS));
        for (number, unwellness) in unwell.iter().enumerate() {
            suspicion.silent(id(&alloc::format!("rpi{number}")), *unwellness);
        }
        suspicion
    }

    fn ends_after(suspicion: &Suspicion) -> Duration {
        suspicion.ends_at() - Monotonic(1_000 * MS)
    }

    #[test]
    fn what_two_do_not_hear_is_confirmed_at_the_end_of_the_window() {
        let suspicion = suspicion(&[0, 0]);
        assert_eq!(suspicion.verdict(Monotonic(1_449 * MS)), Verdict::Open);
        assert_eq!(suspicion.verdict(Monotonic(1_450 * MS)), Verdict::Confirmed);
    }

    #[test]
    fn a_sign_of_life_refutes_only_if_it_is_younger_than_the_suspicion() {
        let mut suspicion = suspicion(&[0, 0]);
        suspicion.alive(Monotonic(999 * MS));
        assert_eq!(suspicion.verdict(Monotonic(1_100 * MS)), Verdict::Open);
        suspicion.alive(Monotonic(1_001 * MS));
        assert_eq!(suspicion.verdict(Monotonic(9_000 * MS)), Verdict::Refuted);
    }

    #[test]
    fn the_fewer_and_the_less_well_who_saw_nothing_the_longer_it_takes() {
        let window = Duration::from_millis(450);
        let cases: [(&[u8], u32); 5] = [
            (&[0], 2),
            (&[0, 0], 1),
            (&[0, 1], 2),
            (&[0, 1, 1], 1),
            (&[3, 3, 3, 3, 3], 2),
        ];
        for (unwell, windows) in cases {
            let took = ends_after(&suspicion(unwell));
            assert_eq!(took, window * windows, "{unwell:?}");
        }
        let mut held = suspicion(&[0, 0]);
        held.hold();
        assert_eq!(ends_after(&held), window * 3);
    }

    #[test]
    fn what_nobody_who_counts_says_is_not_confirmed() {
        let mut suspicion = suspicion(&[0]);
        suspicion.discount(&id("rpi0"));
        assert_eq!(suspicion.verdict(Monotonic(9_000 * MS)), Verdict::Unfounded);
    }
}
