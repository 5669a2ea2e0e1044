//! Reading segments after a stop of any kind: which records are there, and whether what is not
//! there was cut off before anybody relied on it, or damaged after.
//!
//! Records are made durable in groups, and a group is written only after the one before is
//! durable. So a record of a later group proves all earlier ones: what cannot be read before it is
//! damage. What cannot be read and is proved by nothing was cut off while it was written; nobody
//! was told that it was taken, and it is erased with all behind it.

use std::ops::Range;

use lamplighter_policies::time::WallClock;

use super::log::Place;
use super::record::{self, Found, Header, MARK};

/// What was found in all segments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// The records of elements that are whole, in the order in which they were written.
    pub(super) records: Vec<(Header, Place)>,
    /// Records that are damaged, but say whose they are.
    pub(super) damaged: Vec<Header>,
    /// Sequences of which nothing is left that says whose they were.
    pub(super) holes: Vec<Range<u64>>,
    /// Segments with damage in them.
    pub(super) pinned: Vec<u64>,
    /// Where the next record goes in the last segment.
    pub(super) end: u64,
    /// How many bytes from there were cut off and must be erased.
    pub(super) erase: usize,
    /// The sequence of the next record.
    pub(super) sequence: u64,
}

/// Something in a segment.
enum Spot {
    Record {
        at: usize,
        found: Found,
    },
    /// Bytes that are no record although records follow.
    Unreadable {
        at: usize,
    },
}

/// Reads one segment after the other.
#[derive(Debug)]
pub(super) struct Scanner {
    scan: Scan,
    durable: u64,
    /// The sequence with which an unreadable place begins whose end was not found yet.
    hole: Option<u64>,
}

impl Scanner {
    /// `durable` is a sequence before which all records are known to have been durable.
    pub(super) fn new(durable: u64) -> Self {
        let scan = Scan {
            sequence: 1,
            ..Scan::default()
        };
        Self {
            scan,
            durable,
            hole: None,
        }
    }

    /// Takes the next segment; all but the `last` are full.
    pub(super) fn read(&mut self, number: u64, bytes: &[u8], last: bool) {
        let (mut spots, mut end) = spots(bytes, number);
        if last {
            let proven = spots.iter().map(group).max().unwrap_or(0).max(self.durable);
            if let Some((kept, cut)) = cut_off(&spots, proven, self.scan.sequence) {
                self.scan.erase = end - cut;
                spots.truncate(kept);
                end = cut;
            }
            self.scan.end = end as u64;
        }
        let mut ended = false;
        for spot in spots {
            match spot {
                Spot::Record { at, found } => {
                    let sequence = found.header.sequence;
                    if let Some(from) = self.hole.take() {
                        self.scan.holes.push(from..sequence);
                    }
                    self.scan.sequence = sequence + 1;
                    ended = found.header.element == MARK;
                    self.scan.take(number, at, found);
                }
                Spot::Unreadable { .. } => self.unreadable(number),
            }
        }
        let lost = if last {
            self.scan.sequence < self.durable
        } else {
            !ended
        };
        if lost {
            self.unreadable(number);
        }
    }

    fn unreadable(&mut self, segment: u64) {
        self.hole.get_or_insert(self.scan.sequence);
        self.scan.pinned.push(segment);
    }

    /// All that was found.
    pub(super) fn finish(mut self) -> Scan {
        self.scan.sequence = self.scan.sequence.max(self.durable);
        if let Some(from) = self.hole {
            self.scan.sequence = self.scan.sequence.max(from + 1);
            self.scan.holes.push(from..self.scan.sequence);
        }
        self.scan
    }
}

impl Scan {
    fn take(&mut self, segment: u64, at: usize, found: Found) {
        let header = found.header;
        if header.element == MARK {
            return;
        }
        if !found.whole {
            self.damaged.push(header);
            self.pinned.push(segment);
            return;
        }
        let place = Place {
            first: header.first,
            last: header.last,
            logged_at: WallClock(header.logged_at),
            segment,
            offset: at as u64,
            length: header.length,
        };
        self.records.push((header, place));
    }
}

/// All records in a segment and the unreadable places between them, and where the last one ends.
fn spots(bytes: &[u8], generation: u64) -> (Vec<Spot>, usize) {
    let mut spots = Vec::new();
    let mut at = 0;
    let mut newest = 0;
    loop {
        let next = (at..bytes.len()).step_by(8).find_map(|offset| {
            let found = record::read(&bytes[offset..], generation)?;
            (found.header.sequence > newest).then_some((offset, found))
        });
        let Some((offset, found)) = next else {
            return (spots, at);
        };
        if offset > at {
            spots.push(Spot::Unreadable { at });
        }
        newest = found.header.sequence;
        spots.push(Spot::Record { at: offset, found });
        // A record whose end was cut off may claim more than there is.
        at = (offset + found.header.record_bytes()).min(bytes.len());
    }
}

fn group(spot: &Spot) -> u64 {
    match spot {
        Spot::Record { found, .. } => found.header.group,
        Spot::Unreadable { .. } => 0,
    }
}

/// How many spots come before the first that was cut off, and where that one is. `expected` is the
/// sequence with which the segment begins.
fn cut_off(spots: &[Spot], proven: u64, expected: u64) -> Option<(usize, usize)> {
    let mut expected = expected;
    for (position, spot) in spots.iter().enumerate() {
        match spot {
            Spot::Record { at, found } => {
                expected = found.header.sequence;
                if !found.whole && expected >= proven {
                    return Some((position, *at));
                }
                expected += 1;
            }
            Spot::Unreadable { at } if expected >= proven => return Some((position, *at)),
            Spot::Unreadable { .. } => {}
        }
    }
    None
}
