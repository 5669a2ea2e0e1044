//! Commands leave only while the element surely owns its appliances: see [`Lease`](crate::physical_world::Lease).
//!
//! Every answer of the store proves the ownership, so while events arrive nothing is asked for. Only
//! where commands wait and no answer came for long is the store asked, once.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Cause, Cell, Effect};
use crate::physical_world::Standing;
use crate::time::{Monotonic, Now};

impl Cell {
    /// The element was claimed, as was asked for at `asked_at`; the owner before may act until
    /// `free_at`.
    pub(super) fn claimed(&mut self, asked_at: Monotonic, free_at: Monotonic) {
        self.lease.claimed(asked_at, free_at);
    }

    /// The store answered the owner, and perhaps told what its clock reads.
    pub(super) fn proven(&mut self, now: Now, asked_at: Monotonic, effects: &mut Vec<Effect>) {
        self.lease.proven(asked_at);
        if self.is_live() && self.commands_wait() {
            self.send(now, effects);
        }
    }

    pub(super) fn not_proven(&mut self, now: Now, cause: Cause, effects: &mut Vec<Effect>) {
        match cause {
            Cause::Unavailable(_) | Cause::Gap { .. } => self.lease.not_proven(now.monotonic),
            Cause::Fenced(cause) | Cause::Refused(cause) => self.give_up(cause, false, effects),
        }
    }

    /// A command could not leave in time: it is offered again under a new proof.
    pub(super) fn handed_back(&mut self, now: Now, link: &str, sending: u64) {
        self.lease.lapse(now.monotonic);
        let commands = self.commands.get_mut(link);
        if commands.is_some_and(|commands| commands.handed_back(sending)) {
            self.not_under_way(link);
        }
    }

    /// Whether a command may leave now. What may not is kept, and offered again when it may.
    pub(super) fn may_act(&mut self, now: Now, effects: &mut Vec<Effect>) -> bool {
        // While a clock is in doubt nobody knows what has expired; the store is being asked.
        let is_sure = now.is_sure();
        let holds = self.lease.standing(now.monotonic) == Standing::Holds;
        self.renew(now, effects);
        is_sure && holds
    }

    /// Asks for a proof if one is due and something waits for it.
    pub(super) fn renew(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.is_live() && self.commands_wait() && self.lease.ask(now.monotonic) {
            effects.push(Effect::Prove);
        }
    }

    /// Looks again at what waits, when the owner before can act no more.
    pub(super) fn act_when_free(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.lease_deadline.is_some_and(|at| at <= now.monotonic) && self.is_live() {
            self.renew(now, effects);
            if self.lease.standing(now.monotonic) == Standing::Holds {
                self.send(now, effects);
            }
        }
    }

    pub(super) fn arm_lease(&mut self, now: Now) {
        let waiting = self.is_live() && self.commands_wait();
        let deadline = || self.lease.next_deadline(now.monotonic);
        self.lease_deadline = waiting.then(deadline).flatten();
        self.unreached_deadline = self.unreached.next_deadline(now.monotonic);
    }

    /// What to tell people of commands that wait for a proof.
    pub(super) fn held_back(&self, now: Now) -> Option<String> {
        let waiting: usize = self.commands.values().map(|each| each.waiting()).sum();
        let why = match self.lease.standing(now.monotonic) {
            _ if waiting == 0 => return None,
            Standing::Holds => return None,
            Standing::Shared(_) => "until the owner before can act no more",
            Standing::Unproven => "until the store says who owns the element",
        };
        Some(format!("{waiting} commands to appliances wait {why}"))
    }

    fn commands_wait(&self) -> bool {
        self.commands
            .values()
            .any(|commands| commands.waiting() > 0)
    }
}
