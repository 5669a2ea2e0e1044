//! How often and how soon what failed is started again (restart intensity, exponential backoff).

use alloc::collections::VecDeque;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Monotonic;

/// How often something may restart and how long it waits before it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Most restarts within [`RestartPolicy::within`] before the failure is escalated.
    pub restarts_max: u32,
    /// The period over which restarts are counted.
    pub within: Duration,
    /// The wait before the second restart of the period, doubled with each further one. The first is
    /// at once, and so is one of something that had run well for a while, see [`RAN_WELL`].
    pub backoff_min: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            restarts_max: 5,
            within: Duration::from_secs(60),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
        }
    }
}

/// What ran this many times as long as it would have to wait has run well: waiting protects from what
/// fails again at once, and would only delay the repair of what was killed once more.
pub const RAN_WELL: u32 = 10;

/// What to do about one more failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start again after this wait.
    After(Duration),
    /// Too many failures in the period: hand the failure to whoever supervises.
    Escalate,
}

/// The restarts of one thing, as far as the policy cares about them.
#[derive(Clone, Debug)]
pub struct RestartHistory {
    policy: RestartPolicy,
    recent: VecDeque<Monotonic>,
}

impl RestartHistory {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            recent: VecDeque::new(),
        }
    }

    /// Notes a failure at `now` and says what follows from it.
    pub fn failed(&mut self, now: Monotonic) -> RestartDecision {
        self.recent.retain(|at| now - *at < self.policy.within);
        let count = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if count >= self.policy.restarts_max {
            return RestartDecision::Escalate;
        }
        let wait = self.backoff(count);
        let ran_well = self
            .recent
            .back()
            .is_some_and(|last| now - *last >= wait * RAN_WELL);
        self.recent.push_back(now);
        RestartDecision::After(if ran_well { Duration::ZERO } else { wait })
    }

    fn backoff(&self, earlier: u32) -> Duration {
        match earlier {
            0 => Duration::ZERO,
            n => self
                .policy
                .backoff_min
                .saturating_mul(2_u32.saturating_pow(n - 1))
                .min(self.policy.backoff_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const POLICY: RestartPolicy = RestartPolicy {
        restarts_max: 4,
        within: Duration::from_secs(60),
        backoff_min: Duration::from_millis(100),
        backoff_max: Duration::from_millis(250),
    };

    #[test]
    fn the_first_restart_is_at_once_then_waits_double_to_a_limit_then_escalate() {
        let mut history = RestartHistory::new(POLICY);
        let decisions: Vec<_> = (0..5)
            .map(|n| history.failed(Monotonic(n * 100_000_000)))
            .collect();
        assert_eq!(
            decisions,
            [
                RestartDecision::After(Duration::ZERO),
                RestartDecision::After(Duration::from_millis(100)),
                RestartDecision::After(Duration::from_millis(200)),
                RestartDecision::After(Duration::from_millis(250)),
                RestartDecision::Escalate,
            ]
        );
    }

    #[test]
    fn what_ran_well_since_its_last_failure_restarts_at_once() {
        let mut history = RestartHistory::new(POLICY);
        let decisions: Vec<_> = [0, 999, 2_999]
            .map(|ms| history.failed(Monotonic(ms * 1_000_000)))
            .into();
        assert_eq!(
            decisions,
            [
                RestartDecision::After(Duration::ZERO),
                RestartDecision::After(Duration::from_millis(100)),
                RestartDecision::After(Duration::ZERO),
            ]
        );
    }

    #[test]
    fn failures_older_than_the_period_are_forgotten() {
        let mut history = RestartHistory::new(POLICY);
        for second in [0, 1, 2, 3] {
            history.failed(Monotonic(second * 1_000_000_000));
        }
        assert_eq!(
            history.failed(Monotonic(120_000_000_000)),
            RestartDecision::After(Duration::ZERO)
        );
    }
}
