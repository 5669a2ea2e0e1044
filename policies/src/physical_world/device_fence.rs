//! The fence at a device: of the incarnations of one owner only the newest is obeyed (reliability of
//! the paper's 4.2.4: an element that was replaced may wake up late and act).
//!
//! A lease keeps an owner from acting after its successor has begun, as long as clocks and schedulers
//! do what they promise. A process that is stopped between looking at its lease and writing to the
//! network does not. The device, or whatever speaks for it last, is the one place where such a command
//! can still be told: it carries the epoch of its owner, and epochs only grow.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;

/// How many owners one device keeps apart; of any further one nothing is taken. A device has one owner,
/// or a few that are told the same by their author.
pub const OWNERS_MAX: usize = 256;

/// What a device remembers of its owners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFence {
    newest: BTreeMap<EntityId, u64>,
}

impl DeviceFence {
    /// Whether a command that `owner` sent in its `epoch` may be carried out. The epoch is remembered:
    /// nothing of an earlier one is taken from here on.
    ///
    /// Which command it is does not matter: what sets a state may be shown again in a later epoch under
    /// the id that it had, and a person may have one repeated.
    pub fn admits(&mut self, owner: &EntityId, epoch: u64) -> bool {
        let newest = self.newest.get(owner).copied();
        if newest.is_none() && self.newest.len() >= OWNERS_MAX {
            return false;
        }
        let admitted = newest.is_none_or(|newest| newest <= epoch);
        if admitted {
            self.newest.insert(owner.clone(), epoch);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn an_incarnation_that_was_replaced_is_not_obeyed_however_late_it_wakes() {
        let owner = EntityId::new("lights").unwrap();
        let mut fence = DeviceFence::default();
        let epochs = [3, 3, 4, 3, 4, 6, 5];
        let admitted = epochs.map(|epoch| fence.admits(&owner, epoch));
        assert_eq!(admitted, [true, true, true, false, true, true, false]);
    }

    #[test]
    fn owners_are_kept_apart_and_only_so_many_are_taken() {
        let mut fence = DeviceFence::default();
        for number in 0..OWNERS_MAX {
            let owner = EntityId::new(&format!("owner-{number}")).unwrap();
            assert!(fence.admits(&owner, 7));
        }
        let first = EntityId::new("owner-0").unwrap();
        let further = EntityId::new("further").unwrap();
        assert_eq!(
            (fence.admits(&first, 7), fence.admits(&further, 9)),
            (true, false)
        );
    }
}
