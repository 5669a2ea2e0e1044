//! Appliances whose adapters cannot reach them: each is tried again after a while of its own, so that
//! one that is dead holds up no other, and what a device refuses is kept for people.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Cell, Effect};
use crate::physical_world::Position;
use crate::time::{Monotonic, Now};

/// The first wait before a device that was not reached is tried again; each further one is twice as
/// long.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The flows whose devices were not reached the last time.
#[derive(Debug, Default)]
pub(super) struct Unreached(BTreeMap<String, Wait>);

#[derive(Debug)]
struct Wait {
    again_at: Monotonic,
    failures: u32,
    cause: String,
}

impl Unreached {
    /// Whether the device at the end of this flow is not to be tried yet.
    pub(super) fn waits(&self, link: &str, now: Now) -> bool {
        let wait = self.0.get(link);
        wait.is_some_and(|wait| now.monotonic < wait.again_at)
    }

    /// When the next one is tried again.
    pub(super) fn next_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let open = self.0.values().map(|wait| wait.again_at);
        open.filter(|at| *at > now).min()
    }

    fn failed(&mut self, now: Monotonic, link: &str, cause: String) {
        let failures = self.0.get(link).map_or(0, |wait| wait.failures);
        let wait = WAIT_MIN.saturating_mul(2_u32.saturating_pow(failures));
        let wait = Wait {
            again_at: now + wait.min(WAIT_MAX),
            failures: failures.saturating_add(1),
            cause,
        };
        self.0.insert(link.into(), wait);
    }

    /// The device took something.
    pub(super) fn reached(&mut self, link: &str) {
        self.0.remove(link);
    }

    /// What to tell people.
    pub(super) fn trouble(&self) -> Option<String> {
        let told = |(link, wait): (&String, &Wait)| format!("{link}: {}", wait.cause);
        let told: Vec<String> = self.0.iter().map(told).collect();
        (!told.is_empty()).then(|| format!("not reached: {}", told.join("; ")))
    }
}

impl Cell {
    /// Nothing of the command in flight reached its device. Says whether it was this sending of it.
    pub(super) fn unreached(&mut self, now: Now, link: &str, sending: u64, cause: String) -> bool {
        let commands = self.commands.get_mut(link);
        let is_it = commands.is_some_and(|commands| commands.handed_back(sending));
        if is_it {
            self.unreached.failed(now.monotonic, link, cause);
        }
        is_it
    }

    /// Tries again what was not reached and has waited for long enough.
    pub(super) fn try_unreached(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due =
            |(link, wait): (&String, &Wait)| (wait.again_at <= now.monotonic).then(|| link.clone());
        let due: Vec<String> = self.unreached.0.iter().filter_map(due).collect();
        for link in due {
            self.actuate(now, &link, effects);
        }
    }

    /// A device does not take a command: it is given up, and kept for people.
    pub(super) fn refused_by_device(
        &mut self,
        now: Now,
        link: &str,
        (position, sending): (Position, u64),
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let commands = self.commands.get(link);
        if !commands.is_some_and(|commands| commands.is_in_flight(sending)) {
            return;
        }
        self.counters.dead_letters += 1;
        effects.push(Effect::Bury {
            index: position.index,
            what: format!("command {position:?} on {link}"),
            cause: format!("the appliance refused it: {reason}"),
        });
        self.settled(now, link, (position, sending), effects);
    }
}
