//! What befalls the house besides crashes: devices fail and others take their places, and clocks are set.

use std::time::Duration;

use lamplighter_policies::model::ActuationClass;
use lamplighter_policies::protocol::appliances::{Reconfiguration, Served};
use lamplighter_policies::protocol::cell::Input;
use lamplighter_policies::state_saving::{Missed, Timer, TimerChange};
use lamplighter_policies::time::{Now, WallClock};

use super::{Happening, House, MS, id};
use crate::device::Device;
use crate::dice::Dice;

/// Timers that say something of the event `n` say this much more.
const TIMER: u8 = 50;

/// What befell the house.
#[derive(Debug)]
pub(crate) struct Misfortunes {
    /// Who serves where, as it was decided last.
    decided: Reconfiguration,
    /// The same, as this process speaks to devices.
    routed: Reconfiguration,
    /// Which places were filled anew in this process.
    handed_over: Vec<bool>,
    /// How often a place was filled anew.
    pub(crate) hand_overs: usize,
    /// When the last command to each device arrives.
    arrives_at: Vec<i64>,
    /// Until when nobody knows what the store's clock reads, and how far the clock is off that was set.
    unsure: Option<(WallClock, i64)>,
    /// Commands that were sent meanwhile.
    pub(crate) sent_unsure: usize,
}

impl Misfortunes {
    pub(super) fn new(devices: usize) -> Self {
        Self {
            decided: Reconfiguration::default(),
            routed: Reconfiguration::default(),
            handed_over: vec![false; devices],
            hand_overs: 0,
            arrives_at: vec![0; devices],
            unsure: None,
            sent_unsure: 0,
        }
    }
}

/// Whether each command to a device is to be carried out once.
pub(crate) fn counts_by_itself(device: &Device) -> bool {
    device.class == ActuationClass::Irreversible || device.accumulates
}

/// Which timer the author sets at an event, if any.
pub(crate) fn timer_of(event: u8) -> Option<u8> {
    event.is_multiple_of(3).then_some(TIMER + event)
}

impl House {
    /// Draws what befalls the house soon after an event.
    pub(super) fn foresee(&mut self, at: i64) {
        if self.dice.one_in(6) {
            let device = usize::try_from(self.dice.below(4)).expect("small");
            let after = self.delay(100);
            self.later(at + after, Happening::Decided(device));
            if self.dice.one_in(2) {
                // Who returns soon finds commands on their way to the other.
                let back = self.delay(40);
                self.later(at + after + back, Happening::Decided(device));
            }
        }
        if self.dice.one_in(20) {
            let after = self.delay(100);
            self.later(at + after, Happening::ClockSet);
        }
    }

    /// The devices that the element is bound to.
    pub(super) fn bound(&self) -> &[Device] {
        &self.devices[..self.devices.len() / 2]
    }

    pub(super) fn decide(&mut self, device: usize) {
        if device >= self.bound().len() {
            return;
        }
        let appliance = id(self.devices[device].name);
        let decided = &mut self.misfortunes.decided;
        let served = match (decided.served.get(&appliance), self.dice.below(3)) {
            (Some(Served::By(_)), 0) | (None, 0) => Some(Served::Nobody),
            (None | Some(Served::Nobody), _) => Some(Served::By(id("spare"))),
            (Some(Served::By(_)), _) => None,
        };
        decided.epoch += 1;
        match served {
            Some(served) => decided.served.insert(appliance, served),
            None => decided.served.remove(&appliance),
        };
        self.misfortunes.hand_overs += 1;
        self.tell_decision();
    }

    /// Whoever decides tells the element, and tells it again when it was started again.
    pub(super) fn tell_decision(&mut self) {
        let decided = self.misfortunes.decided.clone();
        if decided.epoch > 0 {
            let delay = self.delay(20);
            self.answer(delay, Input::Reconfigured(decided));
        }
    }

    /// A new process knows nothing of substitutes before its log tells.
    pub(super) fn routed_anew(&mut self) {
        self.misfortunes.routed = Reconfiguration::default();
        self.misfortunes.handed_over.fill(false);
    }

    pub(super) fn reroute(&mut self, table: &Reconfiguration) {
        for (at, device) in self.devices.iter().enumerate() {
            let appliance = id(device.name);
            let before = self.misfortunes.routed.served.get(&appliance);
            if before != table.served.get(&appliance) {
                self.misfortunes.handed_over[at] = true;
            }
        }
        self.misfortunes.routed = table.clone();
    }

    pub(super) fn was_handed_over(&self, device: usize) -> bool {
        self.misfortunes.handed_over[device]
    }

    fn who_serves(&self, table: &Reconfiguration, device: usize) -> Option<usize> {
        let bound = self.bound();
        let known = bound.get(device)?;
        match table.served.get(&id(known.name)) {
            None => Some(device),
            Some(Served::By(_)) => Some(bound.len() + device),
            Some(Served::Nobody) => None,
        }
    }

    /// Who is spoken to in the place of a device.
    pub(super) fn routed(&self, device: usize) -> Option<usize> {
        self.who_serves(&self.misfortunes.routed, device)
    }

    /// Who serves in the place of a device by the last decision.
    pub(crate) fn serving(&self, device: usize) -> Option<usize> {
        self.who_serves(&self.misfortunes.decided, device)
    }

    /// A connection brings commands to one device in the order in which they were sent.
    pub(super) fn in_order(&mut self, device: usize, delay_ms: i64) -> i64 {
        let last = &mut self.misfortunes.arrives_at[device];
        let now = self.now.wall.0;
        *last = (*last).max(now + delay_ms * MS);
        (*last - now).div_euclid(MS) + 1
    }

    /// The connection is not there for a moment, so that a command never left.
    pub(super) fn hand_back(&mut self, link: &str, sending: u64) {
        let link = link.to_owned();
        let delay = self.delay(20);
        self.answer(delay, Input::Returned { link, sending });
        let after = delay + self.delay(20);
        self.answer(after, Input::Connected);
    }

    pub(super) fn set_clock(&mut self) {
        let span = Duration::from_millis(1 + self.dice.below(3_000));
        let off = i64::try_from(self.dice.below(36_000_000)).expect("small") - 18_000_000;
        self.misfortunes.unsure = Some((self.now.wall + span, off * MS));
    }

    pub(super) fn is_unsure(&self) -> bool {
        let unsure = self.misfortunes.unsure;
        unsure.is_some_and(|(until, _)| self.now.wall < until)
    }

    /// The store was asked for its clock.
    pub(super) fn prove(&mut self) {
        let asked_at = self.now.monotonic;
        let delay = self.delay(5);
        self.answer(delay, Input::Proven { asked_at });
    }

    /// What the element is told of the time.
    pub(super) fn seen(&self) -> Now {
        match self.misfortunes.unsure {
            Some((_, off)) if self.is_unsure() => Now {
                wall: WallClock(self.now.wall.0 + off),
                skew: Duration::MAX,
                ..self.now
            },
            Some(_) | None => self.now,
        }
    }

    /// The author sets a timer now and then, some with an end long after it is due.
    pub(super) fn timers(&self, event: u8, at: WallClock) -> Vec<TimerChange> {
        let Some(says) = timer_of(event) else {
            return Vec::new();
        };
        let mut chance = Dice::new(u64::from(says));
        let due_at = at + Duration::from_millis(chance.below(2_000));
        let timer = Timer {
            due_at,
            expires_at: chance
                .one_in(2)
                .then(|| due_at + Duration::from_secs(3_600)),
            missed: Missed::Fire,
            payload: vec![says],
        };
        vec![TimerChange::Set(format!("timer {event}"), timer)]
    }
}
