//! The log of all elements, in segments.
//!
//! A segment is a file filled with zeros before its first record, so that making a record durable
//! is one write and one fdatasync which changes no size. Its number is its generation and enters
//! every checksum. The last record of a segment that is full is a mark. Segments are deleted, or
//! begun anew under a new number, when a checkpoint covers all that they hold.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use lamplighter_policies::time::WallClock;

use super::disk::{Disk, DiskFile};
use super::record::{self, BODY_AT, Header, MARK};
use super::scan::{Scan, Scanner};

/// Where a batch lies, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) logged_at: WallClock,
    pub(super) segment: u64,
    /// Where its record begins in the segment.
    pub(super) offset: u64,
    /// How long its bytes are.
    pub(super) length: u32,
}

impl Place {
    pub(super) fn record_bytes(&self) -> u64 {
        record::record_bytes(self.length as usize) as u64
    }
}

/// What one record is to hold, beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) element: u32,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) logged_at: WallClock,
    /// Whether it is copied from an older segment.
    pub(super) moved: bool,
}

/// All segments, and where the next record goes.
#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    segments: BTreeMap<u64, Segment>,
    /// The segment that is written to; 0 before the first.
    active: u64,
    /// Where in it the staged records will begin.
    at: u64,
    /// Records that are not written yet.
    staged: Vec<u8>,
    /// The sequence of the next record.
    sequence: u64,
    /// The sequence of the first record after the last flush.
    group: u64,
}

#[derive(Debug)]
struct Segment {
    file: Arc<dyn DiskFile>,
    length: u64,
    /// How many bytes no checkpoint covers.
    live: u64,
    /// Whether it holds damage, which must stay in sight.
    pinned: bool,
}

impl Log {
    /// Reads all segments. `durable` is a sequence before which all records are known to have been
    /// durable; what is missing there is damage, and not a write that was cut off.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        numbers: &[u64],
        durable: u64,
    ) -> io::Result<(Self, Scan)> {
        let mut segments = BTreeMap::new();
        for &number in numbers {
            let file = disk.open(&name(number))?;
            let length = file.length()?;
            segments.insert(
                number,
                Segment {
                    file,
                    length,
                    live: 0,
                    pinned: false,
                },
            );
        }
        remove_strangers(disk.as_ref(), numbers)?;
        let mut scanner = Scanner::new(durable);
        let active = numbers.iter().copied().max().unwrap_or(0);
        for (&number, segment) in &segments {
            let length = usize::try_from(segment.length).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            segment.file.read(0, &mut bytes)?;
            scanner.read(number, &bytes, number == active);
        }
        let scan = scanner.finish();
        for number in &scan.pinned {
            if let Some(segment) = segments.get_mut(number) {
                segment.pinned = true;
            }
        }
        let log = Self {
            disk,
            active,
            segments,
            at: scan.end,
            staged: Vec::new(),
            sequence: scan.sequence,
            group: scan.sequence,
        };
        if scan.erase > 0 {
            // What was cut off must never look like damage later, so it goes before anything is
            // written behind it.
            let file = &log.segments[&log.active].file;
            file.write(log.at, &vec![0; scan.erase])?;
            file.sync()?;
        }
        Ok((log, scan))
    }

    /// Whether a record with `length` bytes and the closing mark fit in the active segment.
    pub(super) fn fits(&self, length: usize) -> bool {
        let wanted = self.staged.len() + record::record_bytes(length) + BODY_AT;
        self.segments
            .get(&self.active)
            .is_some_and(|segment| self.at + wanted as u64 <= segment.length)
    }

    /// Adds a record to those that the next flush writes. It must fit.
    pub(super) fn stage(&mut self, entry: &Entry, bytes: &[u8]) -> Place {
        let offset = self.at + self.staged.len() as u64;
        let header = Header {
            sequence: self.sequence,
            group: self.group,
            element: entry.element,
            length: u32::try_from(bytes.len()).expect("a batch is at most 4 MiB"),
            first: entry.first,
            last: entry.last,
            logged_at: entry.logged_at.0,
            moved: entry.moved,
        };
        record::write(&mut self.staged, self.active, &header, bytes);
        self.sequence += 1;
        let place = Place {
            first: entry.first,
            last: entry.last,
            logged_at: entry.logged_at,
            segment: self.active,
            offset,
            length: header.length,
        };
        if entry.element != MARK {
            self.keep(&place);
        }
        place
    }

    /// Adds a mark, which proves all that was flushed before it.
    pub(super) fn stage_mark(&mut self) {
        let logged_at = WallClock(0);
        self.stage(
            &Entry {
                element: MARK,
                first: 0,
                last: 0,
                logged_at,
                moved: false,
            },
            &[],
        );
    }

    /// How many bytes wait to be written.
    pub(super) fn staged_bytes(&self) -> usize {
        self.staged.len()
    }

    /// Makes all staged records durable.
    ///
    /// # Errors
    /// The system's. What is durable is unknown then: nothing more may be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let file = &self.segments[&self.active].file;
        file.write(self.at, &self.staged)?;
        file.sync()?;
        self.at += self.staged.len() as u64;
        self.staged.clear();
        self.group = self.sequence;
        Ok(())
    }

    /// All records before this sequence are durable.
    pub(super) fn durable(&self) -> u64 {
        self.group
    }

    /// The sequence after all records, staged ones included.
    pub(super) fn reached(&self) -> u64 {
        self.sequence
    }

    /// The number that the next segment will have.
    pub(super) fn next_number(&self) -> u64 {
        self.active + 1
    }

    /// Makes the file of the next segment, at least `length` bytes of zeros or of an earlier life;
    /// the segment is not part of the log yet. `reuse` are segments that have left the log.
    ///
    /// # Errors
    /// The system's; the log is as it was, and the file is gone or will be at the next opening.
    pub(super) fn prepare(&mut self, length: u64, reuse: &[u64]) -> io::Result<Prepared> {
        let number = self.next_number();
        let mut old: Vec<(u64, Segment)> = reuse
            .iter()
            .filter_map(|number| Some((*number, self.segments.remove(number)?)))
            .collect();
        let fitting = old.iter().position(|(_, segment)| segment.length >= length);
        let kept = fitting.map(|position| old.swap_remove(position));
        for (number, _) in old {
            self.disk.remove(&name(number))?;
        }
        if let Some((earlier, segment)) = kept {
            self.disk.rename(&name(earlier), &name(number))?;
            self.disk.sync_names()?;
            return Ok(Prepared { number, segment });
        }
        let made = self.create(number, length);
        if made.is_err() {
            // A disk that is full must not be filled further by what cannot be used. Should the
            // removal fail as well, the next opening removes it.
            drop(self.disk.remove(&name(number)));
        }
        made
    }

    fn create(&self, number: u64, length: u64) -> io::Result<Prepared> {
        let file = self.disk.open(&name(number))?;
        let size = usize::try_from(length).map_err(io::Error::other)?;
        file.write(0, &vec![0; size])?;
        file.sync()?;
        self.disk.sync_names()?;
        let segment = Segment {
            file,
            length,
            live: 0,
            pinned: false,
        };
        Ok(Prepared { number, segment })
    }

    /// Writes to the prepared segment from here on. Nothing may be staged.
    pub(super) fn advance(&mut self, prepared: Prepared) {
        assert!(
            self.staged.is_empty(),
            "what is staged belongs to the segment before"
        );
        self.active = prepared.number;
        self.at = 0;
        self.segments.insert(prepared.number, prepared.segment);
    }

    /// The bytes of a batch; `None` if they are damaged.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn read(&self, place: &Place) -> io::Result<Option<Vec<u8>>> {
        let Some(segment) = self.segments.get(&place.segment) else {
            return Ok(None);
        };
        let length = usize::try_from(place.record_bytes()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        segment.file.read(place.offset, &mut bytes)?;
        let whole = record::read(&bytes, place.segment).is_some_and(|found| {
            found.whole && (found.header.first, found.header.last) == (place.first, place.last)
        });
        Ok(whole.then(|| bytes[BODY_AT..BODY_AT + place.length as usize].to_vec()))
    }

    /// Counts a batch as needed.
    pub(super) fn keep(&mut self, place: &Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live += place.record_bytes();
        }
    }

    /// Counts a batch as covered.
    pub(super) fn release(&mut self, place: &Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live -= place.record_bytes();
        }
    }

    /// Keeps a segment for ever, for it holds damage.
    pub(super) fn pin(&mut self, segment: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.pinned = true;
        }
    }

    /// The segments that hold nothing any more.
    pub(super) fn dead(&self) -> Vec<u64> {
        self.closed()
            .filter(|(_, segment)| segment.live == 0)
            .map(|(number, _)| number)
            .collect()
    }

    /// The closed segment that holds least, if the log takes much more room than it needs.
    pub(super) fn wasteful(&self, spare_bytes: u64) -> Option<u64> {
        let total: u64 = self.segments.values().map(|segment| segment.length).sum();
        if total <= 2 * self.live() + spare_bytes {
            return None;
        }
        self.closed()
            .filter(|(_, segment)| segment.live > 0)
            .min_by_key(|(_, segment)| segment.live)
            .map(|(number, _)| number)
    }

    /// How many bytes no checkpoint covers.
    pub(super) fn live(&self) -> u64 {
        self.segments.values().map(|segment| segment.live).sum()
    }

    fn closed(&self) -> impl Iterator<Item = (u64, &Segment)> {
        self.segments
            .iter()
            .filter(|(number, segment)| **number != self.active && !segment.pinned)
            .map(|(number, segment)| (*number, segment))
    }
}

/// A segment whose file is ready and durable.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) number: u64,
    segment: Segment,
}

const PREFIX: &str = "segment-";

fn name(number: u64) -> String {
    format!("{PREFIX}{number:012}")
}

/// Removes the files of segments that had not begun, or had ended, when the store stopped.
fn remove_strangers(disk: &dyn Disk, numbers: &[u64]) -> io::Result<()> {
    for found in disk.names()? {
        let number = found
            .strip_prefix(PREFIX)
            .and_then(|digits| digits.parse().ok());
        if number.is_some_and(|number: u64| !numbers.contains(&number)) {
            disk.remove(&found)?;
        }
    }
    Ok(())
}
