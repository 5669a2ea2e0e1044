//! How many strangers may knock at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lamplighter_policies::time::Monotonic;

use crate::clock;

/// How many handshakes of one listener may be under way.
pub const HANDSHAKES_MAX: usize = 128;

/// How many of them may come from one address, so that one machine cannot keep out the others.
pub const HANDSHAKES_OF_ADDRESS_MAX: usize = 32;

/// How often refusals are told of; those in between are counted.
const COMPLAINTS_EVERY: Duration = Duration::from_secs(1);

/// The handshakes that are under way at one listener.
#[derive(Debug, Default)]
pub(super) struct Room(Mutex<Under>);

#[derive(Debug, Default)]
struct Under {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
    complained_at: Option<Monotonic>,
    unsaid: u64,
}

/// One handshake; it is over when this is dropped.
pub(super) struct Knock {
    room: Arc<Room>,
    address: IpAddr,
}

impl Room {
    /// Lets a handshake begin, unless too many are under way.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Knock> {
        let mut under = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = under.by_address.get(&address).copied().unwrap_or(0);
        if under.all >= HANDSHAKES_MAX || of_address >= HANDSHAKES_OF_ADDRESS_MAX {
            return None;
        }
        under.all += 1;
        under.by_address.insert(address, of_address + 1);
        Some(Knock {
            room: self.clone(),
            address,
        })
    }

    /// Whether a refusal may be told of now, and how many were not since the last. Whoever knocks at
    /// every instant must not fill the disk with words about it.
    pub(super) fn complain(&self) -> Option<u64> {
        let mut under = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::monotonic();
        if under
            .complained_at
            .is_some_and(|at| now - at < COMPLAINTS_EVERY)
        {
            under.unsaid += 1;
            return None;
        }
        under.complained_at = Some(now);
        Some(std::mem::take(&mut under.unsaid))
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        let mut under = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        under.all -= 1;
        if let Some(count) = under.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                under.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_the_room() {
        let room = Arc::new(Room::default());
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut knocks = Vec::new();
        for last in 1..=4 {
            for _ in 0..HANDSHAKES_OF_ADDRESS_MAX {
                knocks.push(room.enter(address(last)).unwrap());
            }
            assert!(room.enter(address(last)).is_none());
        }
        assert!(room.enter(address(5)).is_none(), "{HANDSHAKES_MAX} in all");
        knocks.pop();
        assert!(room.enter(address(5)).is_some());
        knocks.clear();
        assert!(room.0.lock().unwrap().by_address.is_empty());
        assert!(room.enter(address(1)).is_some());
    }
}
