//! The right to act on the world: an owner acts while its last proof of ownership is young (paper,
//! 4.2.4: nobody acts twice; the paper leaves open who acts while a network is parted).
//!
//! A proof is the store's answer to a request under our fence. It counts from when it was *asked*
//! for: whoever claims the element later does so after the store answered us, so when the claimer has
//! waited a lease from its own claim, ours is over. No two clocks are compared, only spans, which is
//! why a clock that is set does no harm.

use core::time::Duration;

use crate::time::Monotonic;

/// How long a command may take from the last look at the lease until it is on the wire.
const ON_THE_WIRE_WITHIN: Duration = Duration::from_millis(500);
/// The wait before the store is asked again after it did not answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Whether an owner may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Holds,
    /// The owner before may still act, until this instant.
    Shared(Monotonic),
    /// Nobody knows whether it still owns the element: it has to prove that first.
    Unproven,
}

/// The lease of one element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// How long a proof is good for; `None` is for ever, where nobody else can own the element.
    span: Option<Duration>,
    proven_at: Option<Monotonic>,
    /// Until when the owner before may act.
    free_at: Monotonic,
    /// Whether the store is being asked.
    is_asked: bool,
    /// Not to be asked before.
    ask_at: Monotonic,
}

/// How long to wait, from the answer to a claim on, until the owner before can act no more, where its
/// end was not seen.
fn time_to_free(span: Duration) -> Duration {
    // Two clocks run at rates that differ by less than a hundredth.
    span + span / 100 + ON_THE_WIRE_WITHIN
}

/// What one who has just claimed an element knows of the owner before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// The epoch of the claim; the owner before had the one below.
    pub claimed: u64,
    /// The newest epoch whose process was seen to end, by who watched it.
    pub seen_to_end: Option<u64>,
    /// The newest epoch whose owner said itself that it acts no more.
    pub released: Option<u64>,
}

impl Predecessor {
    /// Whether the owner before surely acts no more: nobody was before the first epoch.
    #[must_use]
    pub fn is_over(self) -> bool {
        let before = self.claimed.saturating_sub(1);
        before == 0 || self.seen_to_end == Some(before) || self.released == Some(before)
    }

    /// Until when it may act, at `now`, after the answer to the claim.
    #[must_use]
    pub fn free_at(self, now: Monotonic, span: Duration) -> Monotonic {
        if self.is_over() {
            Monotonic(0)
        } else {
            now + time_to_free(span)
        }
    }
}

impl Lease {
    /// Nothing proven yet.
    #[must_use]
    pub fn new(span: Option<Duration>) -> Self {
        Self {
            span,
            ..Self::default()
        }
    }

    /// The element was claimed, or is claimed still; the owner before may act until `free_at`. That was
    /// said once: no later word makes it earlier.
    pub fn claimed(&mut self, asked_at: Monotonic, free_at: Monotonic) {
        self.free_at = self.free_at.max(free_at);
        self.proven(asked_at);
    }

    /// The store answered what we asked as the owner at `asked_at`.
    pub fn proven(&mut self, asked_at: Monotonic) {
        self.proven_at = self.proven_at.max(Some(asked_at));
        self.is_asked = false;
    }

    /// The store did not answer.
    pub fn not_proven(&mut self, now: Monotonic) {
        self.is_asked = false;
        self.ask_at = now + ASK_AGAIN_AFTER;
    }

    /// Something was not done in time: a proof is wanted before it is tried again, after a while.
    pub fn lapse(&mut self, now: Monotonic) {
        if self.span.is_some() {
            self.proven_at = None;
            self.ask_at = now + ASK_AGAIN_AFTER;
        }
    }

    /// Whether the owner may act.
    #[must_use]
    pub fn standing(&self, now: Monotonic) -> Standing {
        let Some(span) = self.span else {
            return Standing::Holds;
        };
        if now < self.free_at {
            return Standing::Shared(self.free_at);
        }
        match self.proven_at {
            Some(at) if now < at + span => Standing::Holds,
            Some(_) | None => Standing::Unproven,
        }
    }

    /// When the store is to be asked for a proof, as long as something waits to be done: a third of
    /// the lease before it ends.
    #[must_use]
    pub fn ask_at(&self) -> Option<Monotonic> {
        let span = self.span.filter(|_| !self.is_asked)?;
        let due = self.proven_at.map_or(Monotonic(0), |at| at + span * 2 / 3);
        Some(due.max(self.ask_at))
    }

    /// When to look again, as long as something waits to be done.
    #[must_use]
    pub fn next_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let free_at = Some(self.free_at).filter(|at| now < *at && self.span.is_some());
        [free_at, self.ask_at()].into_iter().flatten().min()
    }

    /// Whether the store is to be asked now; if so it is taken as asked.
    pub fn ask(&mut self, now: Monotonic) -> bool {
        let due = self.ask_at().is_some_and(|at| at <= now);
        self.is_asked |= due;
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: Duration = Duration::from_secs(3);

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic(milliseconds * 1_000_000)
    }

    fn lease() -> Lease {
        let mut lease = Lease::new(Some(SPAN));
        lease.claimed(at(0), at(0));
        lease
    }

    #[test]
    fn an_owner_acts_as_long_as_its_last_proof_is_young() {
        let mut lease = lease();
        assert_eq!(lease.standing(at(2_999)), Standing::Holds);
        assert_eq!(lease.standing(at(3_000)), Standing::Unproven);
        lease.proven(at(2_500));
        assert_eq!(lease.standing(at(5_499)), Standing::Holds);
        assert_eq!(lease.standing(at(5_500)), Standing::Unproven);
    }

    #[test]
    fn an_answer_that_is_late_counts_from_when_it_was_asked_for() {
        let mut lease = lease();
        lease.proven(at(2_000));
        lease.proven(at(1_000));
        assert_eq!(lease.standing(at(4_999)), Standing::Holds);
        assert_eq!(lease.standing(at(5_000)), Standing::Unproven);
    }

    #[test]
    fn a_new_owner_waits_until_the_one_before_can_act_no_more() {
        let mut lease = Lease::new(Some(SPAN));
        lease.claimed(at(0), at(2_000));
        assert_eq!(lease.standing(at(1_999)), Standing::Shared(at(2_000)));
        assert_eq!(lease.next_deadline(at(0)), Some(at(2_000)));
        assert_eq!(lease.standing(at(2_000)), Standing::Holds);
    }

    #[test]
    fn only_an_owner_whose_end_is_known_need_not_be_waited_for() {
        let predecessor = |claimed, seen_to_end, released| Predecessor {
            claimed,
            seen_to_end,
            released,
        };
        let free_at = |of: Predecessor| of.free_at(at(1_000), SPAN);
        for over in [
            predecessor(1, None, None),
            predecessor(5, Some(4), None),
            predecessor(5, None, Some(4)),
        ] {
            assert_eq!(free_at(over), at(0), "{over:?}");
        }
        let waits = at(1_000) + time_to_free(SPAN);
        for unknown in [
            predecessor(5, None, None),
            predecessor(5, Some(3), Some(3)),
            predecessor(5, Some(5), None),
        ] {
            assert_eq!(free_at(unknown), waits, "{unknown:?}");
        }
    }

    #[test]
    fn an_owner_that_is_mended_meanwhile_waits_as_long() {
        let mut lease = Lease::new(Some(SPAN));
        lease.claimed(at(0), at(2_000));
        lease.claimed(at(500), at(0));
        assert_eq!(lease.standing(at(1_999)), Standing::Shared(at(2_000)));
    }

    #[test]
    fn the_store_is_asked_once_a_third_before_the_end_and_again_when_it_does_not_answer() {
        let mut lease = lease();
        assert!(!lease.ask(at(1_999)));
        assert!(lease.ask(at(2_000)));
        assert!(!lease.ask(at(2_001)));
        lease.not_proven(at(2_100));
        assert_eq!(lease.next_deadline(at(2_100)), Some(at(2_300)));
        assert!(!lease.ask(at(2_299)));
        assert!(lease.ask(at(2_300)));
    }

    #[test]
    fn where_nobody_else_can_own_it_nothing_is_asked() {
        let mut lease = Lease::new(None);
        assert_eq!(lease.standing(at(1)), Standing::Holds);
        assert!(!lease.ask(at(1_000_000)));
        assert_eq!(lease.next_deadline(at(0)), None);
    }

    proptest! {
        /// Proofs of one owner until another claims; clocks that run up to half a hundredth off.
        #[test]
        fn the_lease_of_the_owner_before_is_over_when_the_new_one_acts(
            proofs in prop::collection::vec((0_u64..3_000, 1_u64..400, 1_u64..400), 1..20),
            claim_after in 0_u64..5_000,
            answer in 0_u64..400,
            slow in 0_u64..5,
        ) {
            let mut old = Lease::new(Some(SPAN));
            let (mut now, mut last_answered) = (0, 0);
            for (wait, there, back) in proofs {
                let asked = now + wait;
                last_answered = asked + there;
                now = last_answered + back;
                old.proven(at(asked));
            }
            // The claim is taken after the last request that the store answered the old owner.
            let claimed = last_answered + claim_after;
            let answered = claimed + answer;
            let opens = answered + u64::try_from(time_to_free(SPAN).as_millis()).unwrap();
            // The old owner's clock has shown less than has passed.
            let shown = opens - opens * slow / 1_000;
            let drift = opens * slow / 1_000;
            if drift <= u64::try_from((SPAN / 100).as_millis()).unwrap() {
                prop_assert_ne!(old.standing(at(shown)), Standing::Holds);
            }
        }
    }
}
