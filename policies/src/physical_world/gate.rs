//! The last trusted step before a device: it takes nothing from an owner that was replaced, and
//! nothing twice (paper, 4.2.4, where a parted network has two owners for a while).
//!
//! A process that was stopped between its last look at its lease and the write to the wire acts when
//! it is continued, however long after. Only who stands at the device can refuse that.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};

use super::event::EventId;
use crate::ids::EntityId;

/// What a command says it is, wherever its transport has room: the name of the attached property.
pub const ID: &str = "lamplighter-id";
/// Under which epoch of its owner it was sent: the name of the attached property.
pub const EPOCH: &str = "lamplighter-epoch";

/// How many commands a device remembers, to know one that comes again.
const REMEMBERED_MAX: usize = 256;
/// How many owners a device remembers.
const OWNERS_MAX: usize = 64;

/// What a device makes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It carries it out.
    Open,
    /// It took the same command before.
    Repeated,
    /// A newer owner has spoken.
    Replaced {
        /// The newer owner's epoch.
        epoch: u64,
    },
}

/// The gate before one device.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// By owner, the highest epoch that has spoken, and when it last did, counted in commands.
    owners: BTreeMap<String, (u64, u64)>,
    taken: VecDeque<String>,
    count: u64,
}

impl Gate {
    /// What to make of a command of `owner`, sent under `epoch`.
    pub fn passes(&mut self, owner: &str, epoch: u64, id: &str) -> Passage {
        self.count += 1;
        let (highest, last) = self.owners.entry(owner.to_string()).or_default();
        if epoch < *highest {
            return Passage::Replaced { epoch: *highest };
        }
        (*highest, *last) = (epoch, self.count);
        self.forget_the_oldest_owner();
        if self.taken.iter().any(|taken| taken == id) {
            return Passage::Repeated;
        }
        if self.taken.len() == REMEMBERED_MAX {
            self.taken.pop_front();
        }
        self.taken.push_back(id.to_string());
        Passage::Open
    }

    /// The same for a command as elements of this program send it.
    pub fn admits(&mut self, owner: &EntityId, epoch: u64, id: &EventId) -> Passage {
        self.passes(owner.as_str(), epoch, &id.to_string())
    }

    /// The same for a command with attached properties. One that has none is nobody's of ours, and is
    /// carried out.
    pub fn passes_with<'a>(
        &mut self,
        properties: impl IntoIterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Passage {
        let find = |name: &str| {
            let mut all = properties.clone().into_iter();
            all.find_map(|(key, value)| (key == name).then_some(value))
        };
        let (Some(id), Some(epoch)) = (find(ID), find(EPOCH).and_then(|text| text.parse().ok()))
        else {
            return Passage::Open;
        };
        let owner = id.rsplit_once('/').map_or(id, |(owner, _)| owner);
        self.passes(owner, epoch, id)
    }

    fn forget_the_oldest_owner(&mut self) {
        if self.owners.len() > OWNERS_MAX {
            let oldest = self.owners.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(owner, _)| owner.clone()) {
                self.owners.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn an_owner_that_was_replaced_is_refused() {
        let mut gate = Gate::default();
        assert_eq!(gate.passes("lights", 3, "lights/1.1.0"), Passage::Open);
        assert_eq!(gate.passes("lights", 4, "lights/1.2.0"), Passage::Open);
        let late = gate.passes("lights", 3, "lights/1.3.0");
        assert_eq!(late, Passage::Replaced { epoch: 4 });
        // The new owner's own command of that id is not lost by it.
        assert_eq!(gate.passes("lights", 4, "lights/1.3.0"), Passage::Open);
    }

    #[test]
    fn a_command_that_comes_again_is_known_whoever_sends_it() {
        let mut gate = Gate::default();
        assert_eq!(gate.passes("lights", 3, "lights/1.1.0"), Passage::Open);
        assert_eq!(gate.passes("lights", 3, "lights/1.1.0"), Passage::Repeated);
        assert_eq!(gate.passes("lights", 4, "lights/1.1.0"), Passage::Repeated);
    }

    #[test]
    fn two_controllers_of_one_device_have_epochs_of_their_own() {
        let mut gate = Gate::default();
        assert_eq!(gate.passes("lights", 9, "lights/1.1.0"), Passage::Open);
        assert_eq!(gate.passes("alarm", 1, "alarm/1.1.0"), Passage::Open);
    }

    #[test]
    fn attached_properties_tell_owner_and_epoch() {
        let mut gate = Gate::default();
        let mut pass = |epoch, id| gate.passes_with([(ID, id), (EPOCH, epoch)]);
        assert_eq!(pass("2", "lights/1.1.0"), Passage::Open);
        assert_eq!(pass("1", "lights/1.2.0"), Passage::Replaced { epoch: 2 });
        assert_eq!(gate.passes_with([]), Passage::Open);
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut gate = Gate::default();
        for n in 0..10_000 {
            gate.passes(&format!("owner-{n}"), 1, &format!("owner-{n}/1.1.0"));
        }
        assert_eq!(
            (gate.owners.len(), gate.taken.len()),
            (OWNERS_MAX, REMEMBERED_MAX)
        );
    }
}
