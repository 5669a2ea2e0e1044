//! What a cell counts for people.

use alloc::string::String;
use alloc::vec::Vec;

/// What the cell counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Handler failures mended.
    pub(super) panics: u64,
    /// Inputs given up after repeated failure.
    pub(super) dead_letters: u64,
    /// Arrivals dropped because they were accepted before.
    pub(super) duplicates: u64,
    /// Arrivals that contradict what their source sent before.
    pub(super) diverged: u64,
    /// What devices said without waiting for an answer while the mailbox was full.
    pub(super) overflowed: u64,
    /// Replies to calls that had ended without them.
    pub(super) late_replies: u64,
}

impl Counters {
    /// What a person should look at, in plain words.
    pub(super) fn trouble(&self, unknown: u64) -> Option<String> {
        let told = [
            (
                unknown,
                "commands that must not be repeated are of unknown fate: say `ack` or `redo`",
            ),
            (
                self.diverged,
                "events contradict what their sender sent before",
            ),
            (
                self.overflowed,
                "messages of devices were let go because the mailbox was full",
            ),
        ];
        let told = told.iter().filter(|(count, _)| *count > 0);
        let told: Vec<String> = told
            .map(|(count, what)| alloc::format!("{count} {what}"))
            .collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}
