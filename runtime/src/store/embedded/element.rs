//! What the embedded store keeps in memory of an element: its row, and where its batches lie.

use std::collections::{BTreeMap, VecDeque};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;

use super::log::Place;
use super::metadata::Row;
use super::scan::Scan;
use crate::store::{Fence, StoreError, Summary};

/// One element.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) row: Row,
    /// The index of the last record ever logged.
    pub(super) head: u64,
    /// The batches with records after the checkpoint, in order.
    pub(super) batches: VecDeque<Place>,
    /// Why the element must not run.
    pub(super) damage: Option<Damage>,
}

/// The first thing of an element that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) place: String,
    pub(super) reason: String,
}

impl Kept {
    /// An element that has a row and nothing else.
    pub(super) fn new(row: Row) -> Self {
        Self {
            head: row.head,
            row,
            batches: VecDeque::new(),
            damage: None,
        }
    }

    /// Refuses whoever is not the owner, and everybody if the element is damaged.
    pub(super) fn admit(&self, fence: &Fence) -> Result<(), StoreError> {
        if (self.row.epoch, self.row.nonce) != (fence.epoch, fence.nonce) {
            return Err(StoreError::Fenced {
                element: fence.element.clone(),
                epoch: self.row.epoch,
            });
        }
        self.undamaged(&fence.element)
    }

    /// Refuses everybody if the element is damaged.
    pub(super) fn undamaged(&self, element: &EntityId) -> Result<(), StoreError> {
        match &self.damage {
            None => Ok(()),
            Some(Damage { place, reason }) => Err(StoreError::Damaged {
                element: element.clone(),
                place: place.clone(),
                reason: reason.clone(),
            }),
        }
    }

    /// The batch at exactly these indices, if it is kept.
    pub(super) fn find(&self, first: u64, last: u64) -> Option<&Place> {
        let position = self
            .batches
            .binary_search_by_key(&first, |place| place.first);
        let place = &self.batches[position.ok()?];
        (place.last == last).then_some(place)
    }

    /// The batches that a checkpoint up to `upto` covers, no longer kept.
    pub(super) fn trim(&mut self, upto: u64) -> Vec<Place> {
        let covered = self
            .batches
            .iter()
            .take_while(|place| place.last <= upto)
            .count();
        self.batches.drain(..covered).collect()
    }

    /// What can be seen of it from outside.
    pub(super) fn summary(&self) -> Summary {
        Summary {
            epoch: self.row.epoch,
            head: self.head,
            checkpoint: self.row.checkpoint,
            checkpoint_at: self.row.checkpoint_at,
        }
    }

    /// Notes damage at an index of the log.
    pub(super) fn damaged_at(&mut self, index: u64, reason: &str) {
        self.damage = Some(Damage {
            place: format!("index {index}"),
            reason: reason.into(),
        });
    }
}

/// Puts an element together from its row and what was found in the log.
pub(super) fn assemble(row: Row, scan: &Scan) -> Kept {
    let mut kept = Kept::new(row);
    let mine = || {
        scan.records
            .iter()
            .filter(|(header, _)| header.element == kept.row.number)
    };
    let checkpoint = kept.row.checkpoint;
    // A batch that was moved appears twice until its old segment is gone; the later place counts.
    let found: BTreeMap<u64, Place> = mine()
        .filter(|(header, _)| header.last > checkpoint)
        .map(|(header, place)| (header.first, *place))
        .collect();
    // Moved records are written late and prove nothing about what came before them.
    let newest = mine()
        .filter(|(header, _)| !header.moved)
        .map(|(header, _)| header.sequence)
        .max();
    let seen = newest.map_or(0, |newest| newest + 1).max(kept.row.sequence);
    let mut end = checkpoint;
    let mut batches = VecDeque::new();
    for place in found.values() {
        let joined = place.first == end + 1 || (batches.is_empty() && place.first <= end + 1);
        if !joined {
            break;
        }
        end = place.last;
        batches.push_back(*place);
    }
    let missing = batches.len() < found.len() || end < kept.row.head;
    let broken = scan
        .damaged
        .iter()
        .any(|header| header.element == kept.row.number && header.last > end);
    if broken {
        kept.damaged_at(end + 1, "its checksum does not match");
    } else if missing {
        kept.damaged_at(end + 1, "it is missing");
    } else if scan.holes.iter().any(|hole| hole.end > seen) {
        kept.damaged_at(
            end + 1,
            "part of the log is unreadable, and may have held it",
        );
    }
    kept.head = end.max(kept.row.head);
    kept.batches = batches;
    kept
}

/// Stands for an element whose row is damaged.
pub(super) fn unreadable(reason: &str) -> Kept {
    let row = Row {
        number: u32::MAX - 1,
        epoch: 0,
        nonce: crate::store::Nonce(0),
        head: 0,
        checkpoint: 0,
        checkpoint_at: None::<WallClock>,
        sequence: 0,
    };
    let mut kept = Kept::new(row);
    kept.damage = Some(Damage {
        place: "its owner and checkpoint".into(),
        reason: reason.into(),
    });
    kept
}
