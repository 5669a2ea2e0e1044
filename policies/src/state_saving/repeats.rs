//! What a broker sends again: told from what is new, for devices that do not number their events.
//!
//! A broker that was not answered sends again, first thing on the next connection and in the old
//! order, what it sent on the last one. What was already logged of that is a piece of the end of the
//! log, so it is recognised by content: as long as the messages of a new connection go on matching
//! consecutive logged ones, they are repeats. Nothing depends on MQTT's DUP flag, which not every
//! broker sets and not every client library shows.
//!
//! Content tells events apart only where a device's reports differ, as zigbee2mqtt's do by `last_seen`.
//! A device that was heard to say the same thing twice is taken at its word: of such a device an event
//! may be handled twice after a crash, and none is ever lost.

use alloc::collections::{BTreeSet, VecDeque};
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

    /// Whether what arrived on this connection is a repeat. If not it is remembered.
    pub fn is_repeat(&mut self, connection: u64, digest: u64) -> bool {
        if self.connection != Some(connection) {
            // The first message of a connection: repeats, if any, begin at its last occurrence.
            self.connection = Some(connection);
            self.cursor = self.first_repeat(digest);
        }
        if let Some(at) = self.cursor {
            if self.remembered.get(at) == Some(&digest) {
                self.cursor = Some(at + 1);
                return true;
            }
            self.cursor = None;
        }
        self.remember(digest);
        false
    }
}

impl Repeats {
    /// What was just remembered waits for the log, and the broker for an answer.
    pub fn is_unanswered(&mut self) {
        self.unanswered += 1;
    }

    /// The broker was answered about the earliest one that it had no answer to.
    pub fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Where the repeats of a new connection begin, if its first message is one.
    fn first_repeat(&self, digest: u64) -> Option<usize> {
        let unanswered = self.remembered.len().saturating_sub(self.unanswered);
        if self.remembered.get(unanswered) == Some(&digest) {
            return Some(unanswered);
        }
        let last = self.remembered.iter().rposition(|known| *known == digest);
        last.filter(|_| self.tells_apart())
    }

    /// Whether no two of the remembered events were alike, and there are enough of them to say so.
    fn tells_apart(&self) -> bool {
        let distinct: BTreeSet<u64> = self.remembered.iter().copied().collect();
        self.remembered.len() > 1 && distinct.len() == self.remembered.len()
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

    fn new_ones(repeats: &mut Repeats, connection: u64, digests: &[u64]) -> Vec<u64> {
        digests
            .iter()
            .copied()
            .filter(|digest| !repeats.is_repeat(connection, *digest))
            .collect()
    }

    #[test]
    fn what_is_sent_again_on_a_new_connection_is_recognised() {
        let mut repeats = Repeats::default();
        assert_eq!(new_ones(&mut repeats, 1, &[1, 2, 3, 4]), [1, 2, 3, 4]);
        assert_eq!(new_ones(&mut repeats, 2, &[3, 4, 5, 6]), [5, 6]);
        assert_eq!(new_ones(&mut repeats, 3, &[6, 7]), [7]);
    }

    #[test]
    fn equal_contents_on_one_connection_are_two_events() {
        let mut repeats = Repeats::default();
        assert_eq!(new_ones(&mut repeats, 1, &[1, 1, 1]), [1, 1, 1]);
    }

    #[test]
    fn a_device_that_says_the_same_thing_again_is_never_passed_over() {
        let mut repeats = Repeats::default();
        assert_eq!(new_ones(&mut repeats, 1, &[7]), [7]);
        assert_eq!(new_ones(&mut repeats, 2, &[7, 7]), [7, 7]);
        assert_eq!(new_ones(&mut repeats, 3, &[7]), [7]);
    }

    #[test]
    fn what_the_broker_had_no_answer_to_is_a_repeat_whatever_it_says() {
        let mut repeats = Repeats::default();
        assert_eq!(new_ones(&mut repeats, 1, &[7, 7]), [7, 7]);
        repeats.is_unanswered();
        assert_eq!(new_ones(&mut repeats, 2, &[7, 7]), [7]);
        repeats.answered();
        assert_eq!(new_ones(&mut repeats, 3, &[7]), [7]);
    }

    #[test]
    fn a_match_that_breaks_off_is_no_repeat_from_there_on() {
        let mut repeats = Repeats::default();
        new_ones(&mut repeats, 1, &[1, 2, 3]);
        assert_eq!(new_ones(&mut repeats, 2, &[2, 9, 3]), [9, 3]);
    }
}
