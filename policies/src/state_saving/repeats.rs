//! What a broker sends again: told from what is new, for devices that do not number their events.
//!
//! A broker that was not answered sends again, first thing on the next connection and in the old
//! order, what it sent on the last one. While the receiving process lives it knows what it has not
//! answered, and recognises exactly that. A process that is started again does not know what its
//! predecessor answered, and content alone does not tell: a lamp may be switched on twice. There only a
//! device whose reports are *identified*, which carry a time stamp or a counter, is handled exactly
//! once; of any other an event may be handled twice after a crash, and none is lost. Nothing depends on
//! MQTT's DUP flag, which not every broker sets and not every client library shows.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How many logged events of one binding are remembered: more than a client may leave unanswered.
pub const REMEMBERED_MAX: usize = 64;

/// The last events of one device that were accepted, by their contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    remembered: VecDeque<u64>,
    connection: Option<u64>,
    /// Where in `remembered` the next repeat is expected; `None` once something new arrived.
    cursor: Option<usize>,
    /// How many of the last remembered ones the broker has had no answer to: it will surely send them
    /// again if the connection breaks.
    unanswered: usize,
}

impl Repeats {
    /// Continues with what a checkpoint or the log remembers.
    pub fn remember(&mut self, digest: u64) {
        self.remembered.push_back(digest);
        if self.remembered.len() > REMEMBERED_MAX {
            self.remembered.pop_front();
        }
    }

    /// What to save.
    #[must_use]
    pub fn remembered(&self) -> Vec<u64> {
        self.remembered.iter().copied().collect()
    }

    /// Goes back to what was saved.
    pub fn restore(&mut self, saved: &[u64]) {
        self.remembered = saved.iter().copied().collect();
    }

    /// Whether what arrived on this connection is a repeat. If not it is remembered. `identified` says
    /// that no two events of the device have the same contents.
    pub fn is_repeat(&mut self, connection: u64, digest: u64, identified: bool) -> bool {
        let sent_again = self.is_sent_again(connection, digest);
        if sent_again || (identified && self.remembered.contains(&digest)) {
            return true;
        }
        self.remember(digest);
        false
    }

    fn is_sent_again(&mut self, connection: u64, digest: u64) -> bool {
        if self.connection != Some(connection) {
            self.connection = Some(connection);
            self.cursor = self.remembered.len().checked_sub(self.unanswered);
        }
        match self.cursor {
            Some(at) if self.remembered.get(at) == Some(&digest) => {
                self.cursor = Some(at + 1);
                true
            }
            Some(_) | None => {
                self.cursor = None;
                false
            }
        }
    }

    /// What was just remembered waits for the log, and the broker for an answer.
    pub fn is_unanswered(&mut self) {
        self.unanswered += 1;
    }

    /// The broker was answered about the earliest one that it had no answer to.
    pub fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }
}

/// A digest of an event's contents (FNV-1a, 64 bits).
#[must_use]
pub fn digest(contents: &[u8]) -> u64 {
    contents.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_ones(
        repeats: &mut Repeats,
        connection: u64,
        digests: &[u64],
        identified: bool,
    ) -> Vec<u64> {
        let is_new = |digest: &u64| !repeats.is_repeat(connection, *digest, identified);
        digests.iter().copied().filter(is_new).collect()
    }

    #[test]
    fn a_report_that_is_identified_counts_once_on_whatever_connection() {
        let mut repeats = Repeats::default();
        assert_eq!(new_ones(&mut repeats, 1, &[1, 2, 3, 4], true), [1, 2, 3, 4]);
        assert_eq!(new_ones(&mut repeats, 2, &[3, 4, 5, 6], true), [5, 6]);
        assert_eq!(new_ones(&mut repeats, 2, &[4, 7], true), [7]);
    }

    #[test]
    fn a_report_that_is_not_identified_is_never_passed_over_for_its_contents() {
        let mut repeats = Repeats::default();
        assert_eq!(new_ones(&mut repeats, 1, &[7, 8, 7], false), [7, 8, 7]);
        assert_eq!(new_ones(&mut repeats, 2, &[7, 8], false), [7, 8]);
    }

    #[test]
    fn what_the_broker_had_no_answer_to_is_a_repeat_whatever_it_says() {
        let mut repeats = Repeats::default();
        assert_eq!(new_ones(&mut repeats, 1, &[7, 7], false), [7, 7]);
        repeats.is_unanswered();
        assert_eq!(new_ones(&mut repeats, 2, &[7, 7], false), [7]);
        repeats.answered();
        assert_eq!(new_ones(&mut repeats, 3, &[7], false), [7]);
    }
}
