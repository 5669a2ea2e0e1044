//! Room in the log: new segments, and no more old ones than are needed.

use std::io;

use super::element::Kept;
use super::keeper::{Failure, Fault, Keeper};
use super::log::{Entry, Place};
use super::metadata::Change;
use super::record::{BODY_AT, record_bytes};
use crate::store::StoreError;

impl Keeper {
    /// Makes sure that a batch of `length` bytes can be staged.
    pub(super) fn make_room(
        &mut self,
        length: usize,
        attempted: impl Fn() -> String,
    ) -> Result<(), Failure> {
        let live = self.log.live() + record_bytes(length) as u64;
        if live > self.options.log_bytes_max {
            let reason = format!(
                "{} bytes are in the log that no checkpoint covers, and {} are allowed",
                self.log.live(),
                self.options.log_bytes_max
            );
            return Err(StoreError::Unavailable {
                attempted: attempted(),
                reason,
            }
            .into());
        }
        if self.log.fits(length) {
            return Ok(());
        }
        match self.roll(length) {
            Err(Fault::Log(error)) if is_full(&error) => {
                let reason = error.to_string();
                Err(StoreError::Unavailable {
                    attempted: attempted(),
                    reason,
                }
                .into())
            }
            Err(fault) => Err(Failure::Fault(fault)),
            Ok(()) => Ok(()),
        }
    }

    /// Closes the active segment and begins the next, with room for a batch of `length` bytes.
    pub(super) fn roll(&mut self, length: usize) -> Result<(), Fault> {
        self.log.flush()?;
        // Whatever the disk answers from here on, the active segment still takes this mark: a
        // place for it was left.
        let dead = self.log.dead();
        self.changes
            .extend(dead.iter().map(|number| Change::Remove(*number)));
        self.commit()?;
        let needed = (record_bytes(length) + 2 * BODY_AT) as u64;
        let prepared = self
            .log
            .prepare(needed.max(self.options.segment_bytes), &dead)?;
        if self.log.next_number() > 1 {
            self.log.stage_mark();
            self.log.flush()?;
        }
        self.changes.push(Change::Add(prepared.number));
        self.commit()?;
        self.log.advance(prepared);
        self.compact()
    }

    /// Copies what is left in the emptiest segment to the active one, so that an element that is
    /// slow to checkpoint does not pin the segments of all others. A segment is only chosen while
    /// the log takes more than twice what it needs, so it is less than half full, and a copy costs
    /// less than it frees.
    fn compact(&mut self) -> Result<(), Fault> {
        let Some(victim) = self.log.wasteful(4 * self.options.segment_bytes) else {
            return Ok(());
        };
        let mut elements = std::mem::take(&mut self.elements);
        let moved = elements
            .values_mut()
            .try_for_each(|kept| self.rescue(kept, victim));
        self.elements = elements;
        moved
    }

    /// Copies one element's batches out of the segment `victim`, as far as there is room.
    fn rescue(&mut self, kept: &mut Kept, victim: u64) -> Result<(), Fault> {
        let element = kept.row.number;
        let lying = kept
            .batches
            .iter_mut()
            .filter(|place| place.segment == victim);
        let mut damaged = None;
        for place in lying {
            if !self.log.fits(place.length as usize) {
                break;
            }
            let Some(bytes) = self.log.read(place)? else {
                damaged = damaged.or(Some(place.first));
                self.log.pin(victim);
                continue;
            };
            let Place {
                first,
                last,
                logged_at,
                ..
            } = *place;
            let entry = Entry {
                element,
                first,
                last,
                logged_at,
                moved: true,
            };
            let copy = self.log.stage(&entry, &bytes);
            self.log.release(place);
            *place = copy;
        }
        if let Some(first) = damaged {
            kept.damaged_at(
                first.max(kept.row.checkpoint + 1),
                "its checksum does not match",
            );
        }
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
