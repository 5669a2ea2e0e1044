//! The one writer of the embedded store: decides each request on what it keeps in memory, and
//! makes all that a round of requests changed durable at once.
//!
//! Order within a round: the log first, then metadata. So a checkpoint is never durable before the
//! batches it covers. A claim or a load ends its round, so that what it answers is exactly what is
//! kept, and nobody can write under a claim that is not durable.

use std::collections::BTreeMap;
use std::io;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use serde_bytes::ByteBuf;

use super::Options;
use super::element::{Kept, assemble, unreadable};
use super::log::{Entry, Log, Place};
use super::metadata::{Change, Metadata, Progress, Row};
use crate::store::{BATCH_BYTES_MAX, Delta, Fence, Nonce, Saved, StoreError, StoredBatch, Summary};

/// Why the store can do nothing more: what reached the disk is unknown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the log cannot be written: {0}")]
    Log(#[from] io::Error),
    #[error("the metadata cannot be written: {0}")]
    Metadata(#[from] redb::Error),
}

/// Why one request is not done.
pub(super) enum Failure {
    /// It alone is refused.
    Refused(StoreError),
    /// The store stops.
    Fault(Fault),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl<E: Into<Fault>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// All that the store keeps.
#[derive(Debug)]
pub(super) struct Keeper {
    metadata: Metadata,
    pub(super) log: Log,
    pub(super) elements: BTreeMap<EntityId, Kept>,
    /// What metadata does not know yet.
    pub(super) changes: Vec<Change>,
    next_number: u32,
    clock: WallClock,
    pub(super) options: Options,
}

impl Keeper {
    /// Takes up everything that an earlier run left.
    pub(super) fn open(options: Options, metadata: Metadata) -> Result<Self, Fault> {
        let contents = metadata.contents()?;
        let disk = options.disk.clone().expect("the caller has chosen a disk");
        let (mut log, scan) = Log::open(disk, &contents.segments, contents.progress.durable)?;
        let mut elements = BTreeMap::new();
        let mut clock = contents.progress.clock;
        for (header, _) in &scan.records {
            clock = clock.max(header.logged_at);
        }
        let mut numbers: Vec<u32> = scan
            .records
            .iter()
            .map(|(header, _)| header.element)
            .collect();
        for (element, row) in contents.elements {
            let kept = match row {
                Ok(row) => assemble(row, &scan),
                Err(reason) => unreadable(&reason),
            };
            for place in &kept.batches {
                log.keep(place);
            }
            if let Some(damage) = &kept.damage {
                tracing::error!(%element, place = damage.place, reason = damage.reason,
                    "stored data is damaged; the element cannot run");
            }
            numbers.push(kept.row.number);
            elements.insert(element, kept);
        }
        let next_number = numbers
            .into_iter()
            .filter(|number| *number < u32::MAX - 1)
            .max();
        pin_unowned(&mut log, &scan, &elements);
        let mut keeper = Self {
            metadata,
            log,
            elements,
            changes: Vec::new(),
            next_number: next_number.map_or(0, |number| number + 1),
            clock: WallClock(clock),
            options,
        };
        if !keeper.log.fits(0) {
            keeper.roll(0)?;
        }
        keeper.mark()?;
        Ok(keeper)
    }

    /// Proves all that was written so far, so that damage to it is never taken for a write that was
    /// cut off.
    pub(super) fn mark(&mut self) -> Result<(), Fault> {
        self.commit()?;
        if self.log.fits(0) {
            self.log.stage_mark();
            self.log.flush()?;
        }
        Ok(())
    }

    /// Makes all that was decided durable.
    pub(super) fn commit(&mut self) -> Result<(), Fault> {
        self.log.flush()?;
        if !self.changes.is_empty() {
            let progress = Progress {
                durable: self.log.durable(),
                clock: self.clock.0,
            };
            self.metadata
                .commit(std::mem::take(&mut self.changes), progress)?;
        }
        Ok(())
    }

    /// How much a commit would write to the log, in bytes.
    pub(super) fn staged_bytes(&self) -> usize {
        self.log.staged_bytes()
    }

    /// See [`crate::store::StableStore::claim`].
    pub(super) fn claim(
        &mut self,
        element: &EntityId,
        nonce: Nonce,
        floor: u64,
    ) -> Result<Fence, StoreError> {
        let known = self.elements.get(element);
        if let Some(kept) = known {
            kept.undamaged(element)?;
            if kept.row.nonce == nonce {
                return Ok(Fence {
                    element: element.clone(),
                    epoch: kept.row.epoch,
                    nonce,
                });
            }
        }
        let above = known.map_or(0, |kept| kept.row.epoch).max(floor);
        let Some(epoch) = above.checked_add(1) else {
            return Err(refused(
                format!("claiming {element}"),
                "no epoch is left above the floor",
                "the epoch floor is damaged; remove the agent's record of it",
            ));
        };
        if known.is_none() {
            let row = Row {
                number: self.next_number,
                epoch,
                nonce,
                head: 0,
                checkpoint: 0,
                checkpoint_at: None,
                sequence: 0,
            };
            self.next_number += 1;
            self.elements.insert(element.clone(), Kept::new(row));
        }
        if let Some(kept) = self.elements.get_mut(element) {
            (kept.row.epoch, kept.row.nonce) = (epoch, nonce);
            Self::put(&mut self.changes, &self.log, element, kept);
        }
        Ok(Fence {
            element: element.clone(),
            epoch,
            nonce,
        })
    }

    /// See [`crate::store::StableStore::append`].
    pub(super) fn append(
        &mut self,
        fence: &Fence,
        expected_head: u64,
        last: u64,
        bytes: &[u8],
    ) -> Result<WallClock, Failure> {
        let kept = self.admitted(fence)?;
        let attempted = || {
            format!(
                "appending {} bytes to the log of {}",
                bytes.len(),
                fence.element
            )
        };
        if last <= expected_head {
            let cure = "this is a fault of the program that sent it";
            return Err(refused(attempted(), "a batch holds at least one record", cure).into());
        }
        if bytes.len() > BATCH_BYTES_MAX {
            let reason = format!("a batch holds at most {BATCH_BYTES_MAX} bytes");
            return Err(refused(attempted(), &reason, "send smaller events").into());
        }
        let first = expected_head + 1;
        if let Some(place) = kept.find(first, last) {
            return Ok(place.logged_at);
        }
        if expected_head != kept.head {
            return Err(StoreError::Gap {
                element: fence.element.clone(),
                head: kept.head,
            }
            .into());
        }
        let element = kept.row.number;
        self.make_room(bytes.len(), attempted)?;
        let logged_at = self.now();
        let entry = Entry {
            element,
            first,
            last,
            logged_at,
            moved: false,
        };
        let place = self.log.stage(&entry, bytes);
        if let Some(kept) = self.elements.get_mut(&fence.element) {
            kept.head = last;
            kept.batches.push_back(place);
        }
        Ok(logged_at)
    }

    /// See [`crate::store::StableStore::checkpoint`].
    pub(super) fn checkpoint(&mut self, fence: &Fence, delta: Delta) -> Result<(), StoreError> {
        let now = self.now();
        let kept = self.admitted(fence)?;
        if delta.upto < kept.row.checkpoint || delta.upto > kept.head {
            return Err(StoreError::Gap {
                element: fence.element.clone(),
                head: kept.head,
            });
        }
        kept.row.checkpoint = delta.upto;
        kept.row.checkpoint_at = Some(now);
        let number = kept.row.number;
        for place in kept.trim(delta.upto) {
            self.log.release(&place);
        }
        if let Some(kept) = self.elements.get_mut(&fence.element) {
            Self::put(&mut self.changes, &self.log, &fence.element, kept);
        }
        self.changes.push(Change::Fold(number, delta));
        Ok(())
    }

    /// See [`crate::store::StableStore::prove`].
    pub(super) fn prove(&mut self, fence: &Fence) -> Result<WallClock, StoreError> {
        self.admitted(fence)?;
        Ok((self.options.clock)())
    }

    /// See [`crate::store::StableStore::bury`].
    pub(super) fn bury(&mut self, fence: &Fence, letter: Vec<u8>) -> Result<(), StoreError> {
        let number = self.admitted(fence)?.row.number;
        self.changes.push(Change::Bury(number, letter));
        Ok(())
    }

    /// Refuses whoever may not read.
    pub(super) fn admitted(&mut self, fence: &Fence) -> Result<&mut Kept, StoreError> {
        let Some(kept) = self.elements.get_mut(&fence.element) else {
            return Err(StoreError::Fenced {
                element: fence.element.clone(),
                epoch: 0,
            });
        };
        kept.admit(fence)?;
        Ok(kept)
    }

    /// Reads all that is kept of an element. Everything decided must have been committed.
    pub(super) fn saved(&mut self, element: &EntityId) -> Result<Saved, Failure> {
        let read_at = self.now();
        let Some(kept) = self.elements.get_mut(element) else {
            return Ok(Saved {
                read_at,
                ..Saved::default()
            });
        };
        let mut log = Vec::with_capacity(kept.batches.len());
        let mut damaged = None;
        for place in &kept.batches {
            let Some(bytes) = self.log.read(place)? else {
                damaged = Some(*place);
                break;
            };
            let Place {
                first,
                last,
                logged_at,
                ..
            } = *place;
            log.push(StoredBatch {
                first,
                last,
                logged_at,
                bytes,
            });
        }
        if let Some(place) = damaged {
            self.log.pin(place.segment);
            kept.batches.retain(|kept| kept.first < place.first);
            let index = place.first.max(kept.row.checkpoint + 1);
            kept.damaged_at(index, "its checksum does not match");
            kept.undamaged(element)?;
        }
        Ok(Saved {
            head: kept.head,
            checkpoint: kept.row.checkpoint,
            fields: self.metadata.fields(kept.row.number)?,
            log,
            read_at,
        })
    }

    /// See [`super::Embedded::salvage`].
    pub(super) fn salvaged(
        &mut self,
        element: &EntityId,
    ) -> Result<(Saved, Option<String>), Failure> {
        let damage = |kept: &Kept| kept.undamaged(element).err();
        let before = self.elements.get(element).and_then(damage);
        let saved = match self.saved(element) {
            // What is damaged on the disk is found when it is read, and is not read again.
            Err(Failure::Refused(StoreError::Damaged { .. })) => self.saved(element)?,
            other => other?,
        };
        let found = self.elements.get(element).and_then(damage);
        Ok((saved, before.or(found).map(|error| error.to_string())))
    }

    /// See [`crate::store::StableStore::peek`].
    pub(super) fn peek(&mut self, element: &EntityId) -> Result<Option<Saved>, Failure> {
        let Some(kept) = self.elements.get(element) else {
            return Ok(None);
        };
        kept.undamaged(element)?;
        self.saved(element).map(Some)
    }

    /// See [`crate::store::StableStore::summary`].
    pub(super) fn summary(&self, element: &EntityId) -> Option<Summary> {
        self.elements.get(element).map(Kept::summary)
    }

    /// See [`crate::store::StableStore::dead_letters`].
    pub(super) fn dead_letters(&self, element: &EntityId) -> Result<Vec<ByteBuf>, Failure> {
        match self.elements.get(element) {
            None => Ok(Vec::new()),
            Some(kept) => Ok(self.metadata.letters(kept.row.number)?),
        }
    }

    /// The present time, which never goes back.
    fn now(&mut self) -> WallClock {
        self.clock = self.clock.max((self.options.clock)());
        self.clock
    }

    fn put(changes: &mut Vec<Change>, log: &Log, element: &EntityId, kept: &mut Kept) {
        kept.row.head = kept.head;
        // The log is flushed before this row is written, whatever is staged.
        kept.row.sequence = log.reached();
        changes.push(Change::Put(element.clone(), kept.row.clone()));
    }
}

/// A segment whose records belong to nobody known holds the data of an element whose row is lost.
fn pin_unowned(log: &mut Log, scan: &super::scan::Scan, elements: &BTreeMap<EntityId, Kept>) {
    let known: Vec<u32> = elements.values().map(|kept| kept.row.number).collect();
    if elements.values().all(|kept| kept.row.number < u32::MAX - 1) {
        return;
    }
    for (header, place) in &scan.records {
        if !known.contains(&header.element) {
            log.pin(place.segment);
        }
    }
}

fn refused(attempted: String, reason: &str, cure: &str) -> StoreError {
    StoreError::Refused {
        attempted,
        reason: reason.into(),
        cure: cure.into(),
    }
}
