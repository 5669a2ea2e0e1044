//! How long to wait for a store that is out of reach (paper, 4.1: it survives every failure, and may be
//! away for a while).

use core::time::Duration;

/// The wait after the first time that it was out of reach.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// The longest wait: a store that comes back is noticed by then.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The wait before a store is asked again that was out of reach so many times in a row before this one:
/// 50 ms, doubled with each, 2 s at most.
#[must_use]
pub fn wait_for_store(failures_before: u32) -> Duration {
    let doubled = WAIT_MIN.saturating_mul(2_u32.saturating_pow(failures_before));
    doubled.min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_for_a_store_is_twice_the_one_before_up_to_two_seconds() {
        let waits = [0, 1, 5, 6, u32::MAX].map(wait_for_store);
        assert_eq!(
            waits.map(|wait| wait.as_millis()),
            [50, 100, 1_600, 2_000, 2_000]
        );
    }
}
