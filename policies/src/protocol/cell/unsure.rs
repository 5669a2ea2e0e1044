//! While nobody knows what the store's clock reads (paper, 4.2.1: validity is compared with one clock).
//!
//! A clock was set, and no answer of the store has settled yet whose. Nothing is surely valid then, so
//! nothing is sent; but nothing is surely over either. What has an end waits until the clock is known:
//! timers, calls, what goes back by itself, and what appliances are to show.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Cell, Effect};
use crate::time::{Monotonic, Now};

/// The wait before the store is asked for its clock, and asked again: whoever noticed that a clock was
/// set asks at once.
const ASK_AFTER: Duration = Duration::from_millis(500);

/// What waits for the clock.
#[derive(Debug, Default)]
pub(super) struct Unsure {
    /// Flows whose appliances are to be shown what they are to show.
    links: BTreeSet<String>,
    /// Whether a recovery has not looked yet which timers it missed.
    timers: bool,
    /// When the store is to be asked; `None` while the clock is known.
    ask_at: Option<Monotonic>,
}

impl Unsure {
    /// Whether an appliance is still to be shown what it is to show.
    pub(super) fn is_unshown(&self, link: &str) -> bool {
        self.links.contains(link)
    }

    pub(super) fn ask_at(&self) -> Option<Monotonic> {
        self.ask_at
    }
}

impl Cell {
    /// Puts off what an appliance is to be shown, if nobody knows what still holds.
    pub(super) fn puts_off(&mut self, link: &str, now: Now) -> bool {
        if !now.is_sure() {
            self.unsure.links.insert(link.into());
        }
        !now.is_sure()
    }

    /// A recovery has folded the log: timers that came due meanwhile fire late or not at all.
    pub(super) fn judge_missed(&mut self, now: Now) {
        self.unsure.timers = !now.is_sure();
        if now.is_sure() {
            self.explain_timers(now);
            self.timers.drop_missed(now);
        }
    }

    /// Does what was put off, once the clock is known again.
    pub(super) fn catch_up(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.is_live() || !now.is_sure() {
            return;
        }
        self.unsure.ask_at = None;
        if core::mem::take(&mut self.unsure.timers) {
            self.judge_missed(now);
        }
        let links = core::mem::take(&mut self.unsure.links);
        if links.is_empty() {
            return;
        }
        for link in links {
            self.show_when_gone_back(now, link, effects);
        }
        // What goes back is on its way to the log before anything newer is.
        self.fire_timers(now, effects);
    }

    /// Asks the store again and again what its clock reads, as long as something waits for that.
    pub(super) fn ask_clock(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let waits = self.is_live() && !now.is_sure() && self.waits_for_clock();
        if !waits {
            self.unsure.ask_at = None;
            return;
        }
        match self.unsure.ask_at {
            Some(at) if now.monotonic < at => {}
            asked => {
                self.unsure.ask_at = Some(now.monotonic + ASK_AFTER);
                if asked.is_some() {
                    effects.push(Effect::Prove);
                }
            }
        }
    }

    fn waits_for_clock(&self) -> bool {
        let ends = [
            self.timers.next_due_at(),
            self.surroundings.next_reversion_at(),
            self.calling.open.next_due_at(),
        ];
        let commands = self.commands.values().any(|each| each.waiting() > 0);
        commands
            || self.unsure.timers
            || !self.unsure.links.is_empty()
            || self.concludes()
            || ends.iter().any(Option::is_some)
    }
}
