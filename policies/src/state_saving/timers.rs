//! Durable timers: an absolute due time in the element's own commit, arriving as logged events.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Timed;
use crate::time::{Monotonic, Now, WallClock};

/// What becomes of a timer that came due while nobody ran the element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missed {
    /// It fires as soon as the element is back.
    #[default]
    Fire,
    /// It is dropped.
    Drop,
}

/// A timer as it was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When it is due.
    pub due_at: WallClock,
    /// Until when firing still matters; `None` is always.
    pub expires_at: Option<WallClock>,
    /// What happens if it comes due during an outage.
    pub missed: Missed,
    /// The input it delivers, encoded.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// A handler's wish about a timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerChange {
    /// Set it, in place of one of the same name.
    Set(String, Timer),
    /// Forget it.
    Cancel(String),
}

/// The timers of one element, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    set: BTreeMap<String, Timer>,
    /// Due times that are on their way through the log and must not fire again.
    #[serde(skip)]
    fired: BTreeMap<String, WallClock>,
}

impl Timers {
    /// Carries out what a handler wished.
    pub fn change(&mut self, change: TimerChange) {
        match change {
            TimerChange::Set(name, timer) => {
                self.set.insert(name, timer);
            }
            TimerChange::Cancel(name) => {
                self.set.remove(&name);
            }
        }
    }

    /// Takes the timers that are due; each comes out once. One whose validity is over is dropped.
    pub fn due(&mut self, now: Now) -> Vec<Timed> {
        let mut due = Vec::new();
        self.set.retain(|key, timer| {
            let waiting = now.wall < timer.due_at || self.fired.get(key) == Some(&timer.due_at);
            if waiting {
                return true;
            }
            if !now.surely_before(timer.expires_at) {
                return false;
            }
            self.fired.insert(key.clone(), timer.due_at);
            let Timer {
                due_at,
                expires_at,
                ref payload,
                ..
            } = *timer;
            due.push(Timed {
                key: key.clone(),
                due_at,
                expires_at,
                payload: payload.clone(),
            });
            true
        });
        due.sort_by(|a, b| (a.due_at, &a.key).cmp(&(b.due_at, &b.key)));
        due
    }

    /// Whether a firing found in the log still stands; if so the timer is over. One that was replaced
    /// or cancelled between firing and handling does not.
    pub fn stands(&mut self, fired: &Timed) -> bool {
        let stands = self
            .set
            .get(&fired.key)
            .is_some_and(|timer| timer.due_at == fired.due_at);
        if stands {
            self.set.remove(&fired.key);
        }
        if self.fired.get(&fired.key) == Some(&fired.due_at) {
            self.fired.remove(&fired.key);
        }
        stands
    }

    /// Goes back to saved timers, keeping in mind which firings are on their way to the log.
    pub fn restore(&mut self, saved: Self) {
        self.set = saved.set;
    }

    /// Notes that a firing is on its way through the log already.
    pub fn on_its_way(&mut self, fired: &Timed) {
        self.fired.insert(fired.key.clone(), fired.due_at);
    }

    /// The timers that are set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Timer)> {
        self.set.iter()
    }

    /// Drops what came due during an outage that ends at `now` and asked not to fire late.
    pub fn drop_missed(&mut self, now: Now) {
        self.set.retain(|key, timer| {
            let missed = timer.due_at <= now.wall && self.fired.get(key) != Some(&timer.due_at);
            !(missed && timer.missed == Missed::Drop)
        });
    }

    /// When the next timer is due, by this machine's monotonic clock.
    #[must_use]
    pub fn next_due_at(&self) -> Option<WallClock> {
        self.set
            .iter()
            .filter(|(key, timer)| self.fired.get(*key) != Some(&timer.due_at))
            .map(|(_, timer)| timer.due_at)
            .min()
    }
}

/// The monotonic instant at which the wall clock reads `at`, as far as can be known at `now`.
#[must_use]
pub fn monotonic_at(now: Now, at: WallClock) -> Monotonic {
    now.monotonic + at.since(now.wall)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn timer(due_at: i64) -> Timer {
        Timer {
            due_at: WallClock(due_at),
            expires_at: None,
            missed: Missed::Fire,
            payload: vec![],
        }
    }

    fn set(name: &str, timer: Timer) -> TimerChange {
        TimerChange::Set(name.into(), timer)
    }

    fn now(wall: i64) -> Now {
        Now {
            wall: WallClock(wall),
            ..Now::default()
        }
    }

    fn fired(timers: &mut Timers, at: i64) -> Vec<(String, i64)> {
        timers
            .due(now(at))
            .into_iter()
            .map(|timed| (timed.key, timed.due_at.0))
            .collect()
    }

    #[test]
    fn a_timer_fires_once_and_only_when_due() {
        let mut timers = Timers::default();
        timers.change(set("hold", timer(10)));
        assert_eq!(fired(&mut timers, 9), []);
        assert_eq!(fired(&mut timers, 10), [("hold".into(), 10)]);
        assert_eq!(fired(&mut timers, 11), []);
        assert_eq!(timers.next_due_at(), None);
    }

    #[test]
    fn a_firing_that_was_replaced_before_it_was_handled_does_not_stand() {
        let mut timers = Timers::default();
        timers.change(set("hold", timer(10)));
        let firing = timers.due(now(10)).remove(0);
        timers.change(set("hold", timer(20)));
        assert!(!timers.stands(&firing));
        assert_eq!(timers.next_due_at(), Some(WallClock(20)));
    }

    #[test]
    fn a_timer_missed_during_an_outage_fires_late_or_is_dropped_as_it_was_set() {
        let mut timers = Timers::default();
        timers.change(set("late", timer(10)));
        timers.change(set(
            "drop",
            Timer {
                missed: Missed::Drop,
                ..timer(10)
            },
        ));
        timers.drop_missed(now(50));
        assert_eq!(fired(&mut timers, 50), [("late".into(), 10)]);
    }

    #[test]
    fn a_timer_whose_validity_is_over_never_fires() {
        let mut timers = Timers::default();
        timers.change(set(
            "hold",
            Timer {
                expires_at: Some(WallClock(15)),
                ..timer(10)
            },
        ));
        assert_eq!(fired(&mut timers, 15), []);
        assert_eq!(timers, Timers::default());
    }
}
