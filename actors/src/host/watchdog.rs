//! Notices a handler that does not return.
//!
//! Rust cannot end a thread, so the process ends; its agent sees that and starts another, and the
//! store's fence makes whatever the stuck handler would still do harmless. What the handler waited for a
//! processor does not count: a busy machine is no reason to start again.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::Monotonic;
use lamplighter_runtime::clock;
use lamplighter_runtime::process::thread_waited;

/// How the process ends when a handler did not return in time.
pub(super) const EXIT_HUNG: i32 = 71;

/// What one element's handler is doing.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    element: EntityId,
    /// When the present call began, in nanoseconds; 0 between calls.
    since: AtomicU64,
    index: AtomicU64,
}

impl Progress {
    pub(super) fn new(element: EntityId) -> Self {
        Self(Arc::new(Shared {
            element,
            since: AtomicU64::new(0),
            index: AtomicU64::new(0),
        }))
    }

    pub(super) fn begins(&self, index: u64) {
        self.0.index.store(index, Ordering::Relaxed);
        self.0.since.store(clock::monotonic().0, Ordering::Release);
    }

    pub(super) fn ends(&self) {
        self.0.since.store(0, Ordering::Release);
    }

    /// When the present call began; `None` between calls.
    fn since(&self) -> Option<Monotonic> {
        let since = self.0.since.load(Ordering::Acquire);
        (since != 0).then_some(Monotonic(since))
    }

    /// What hangs at `now`, for people; `starved` is what it waited for a processor.
    fn hung(&self, now: Monotonic, starved: Duration, within: Duration) -> Option<String> {
        let hung = (now - self.since()?).saturating_sub(starved) >= within;
        hung.then(|| {
            let index = self.0.index.load(Ordering::Relaxed);
            let element = &self.0.element;
            format!("the handler of {element} has not returned from record {index} for {within:?}")
        })
    }
}

/// Watches an element from a thread of its own, for as long as the process lives: each of its handlers
/// has to return within this time.
pub(super) fn watch(progress: Progress, within: Duration) -> std::io::Result<()> {
    // Handlers run on the first thread of the process, whose id is that of the process.
    let handlers = std::process::id();
    let look = move || {
        let mut first_seen = (None, Duration::ZERO);
        loop {
            // Nothing signals that nothing happens; this looks four times per limit.
            std::thread::sleep(within / 4);
            let waited = thread_waited(handlers);
            let since = progress.since();
            if first_seen.0 != since {
                first_seen = (since, waited);
            }
            let starved = waited.saturating_sub(first_seen.1);
            if let Some(hung) = progress.hung(clock::monotonic(), starved, within) {
                writeln!(
                    std::io::stderr(),
                    "{hung}; this process ends and another takes over"
                )
                .ok();
                std::process::exit(EXIT_HUNG);
            }
        }
    };
    std::thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(look)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_lasts_too_long_is_hung() {
        let progress = Progress::new(EntityId::new("lamp").unwrap());
        let within = Duration::from_secs(10);
        let later = |span| clock::monotonic() + Duration::from_secs(span);
        let none = Duration::ZERO;
        assert_eq!(progress.hung(later(60), none, within), None);
        progress.begins(7);
        assert_eq!(progress.hung(later(1), none, within), None);
        assert_eq!(
            progress.hung(later(11), Duration::from_secs(5), within),
            None
        );
        assert_eq!(
            progress.hung(later(11), none, within).as_deref(),
            Some("the handler of lamp has not returned from record 7 for 10s")
        );
        progress.ends();
        assert_eq!(progress.hung(later(60), none, within), None);
    }
}
