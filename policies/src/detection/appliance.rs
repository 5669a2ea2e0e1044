//! Whether appliances are there, from what is heard of them (paper, 4.2.2: observation of applicative
//! messages, and ping-acks where a device does not speak by itself).
//!
//! Real devices give contradictory signals, so one bad signal is never enough: it must last for the
//! device's debounce, and any sign of life refutes it. A device that can be asked is asked before
//! it is suspected. While our own connection or the device's bridge is down, silence says nothing:
//! the bridge is one failure, and no device behind it is blamed.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::machine::Machine;
use crate::model::Liveness;
use crate::time::{Monotonic, Now, WallClock};

#[cfg(test)]
mod tests;

/// One appliance to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplianceWatch {
    /// Which.
    pub appliance: EntityId,
    /// Where it reports; `None` if it never does.
    pub topic: Option<String>,
    /// The property by which it is asked for a report.
    pub asked_for: String,
    /// By which signals it is known to be there.
    pub liveness: Liveness,
    /// Where it is read over HTTP, if it is not on the broker.
    pub address: Option<String>,
}

/// What a monitor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// These are to be watched, besides those that are.
    Watched(Vec<ApplianceWatch>),
    /// The connection over which appliances are heard is up, for the first time or again.
    Connected,
    /// That connection is down.
    Disconnected,
    /// An appliance reported; not what a broker kept of old.
    Heard(EntityId),
    /// Somebody says whether an appliance is there.
    AvailabilityTold {
        /// Which appliance.
        appliance: EntityId,
        /// Whether it is there.
        available: bool,
        /// The broker had kept it: nobody knows when it was true.
        retained: bool,
    },
    /// A bridge says, or its broker for it, whether it is there.
    BridgeTold {
        /// The topic on which it does.
        bridge: String,
        /// Whether it is there.
        available: bool,
    },
}

/// What a monitor asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask an appliance for a report.
    Probe(EntityId),
    /// What is thought of an appliance has changed.
    Judge(EntityId, ApplianceVerdict),
    /// What is thought of a bridge has changed: one failure, whatever is behind it.
    JudgeBridge(String, BridgeVerdict),
}

/// What is thought of an appliance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApplianceVerdict {
    /// Nothing was heard of it yet, and nothing speaks against it.
    #[default]
    Unheard,
    /// It is there.
    Trusted,
    /// It is not.
    Suspected {
        /// Since when the signs were bad.
        since: WallClock,
        /// The first of them.
        signal: Signal,
    },
}

/// A sign that an appliance is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Signal {
    /// It has not spoken for longer than it ever should.
    Silence,
    /// It did not answer.
    NoAnswer,
    /// It was said to be gone.
    Offline,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silence => "it is silent",
            Self::NoAnswer => "it does not answer",
            Self::Offline => "it is said to be offline",
        })
    }
}

/// What is thought of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BridgeVerdict {
    /// It is there.
    Up,
    /// It is not, since then.
    Down(WallClock),
}

/// Watches appliances over one connection.
#[derive(Debug, Default)]
pub struct ApplianceMonitor {
    appliances: BTreeMap<EntityId, Watched>,
    bridges: BTreeMap<String, Bridge>,
    connected: bool,
}

#[derive(Debug)]
struct Watched {
    watch: ApplianceWatch,
    verdict: ApplianceVerdict,
    /// The last sign of life, or since when it could have given one.
    heard_at: Monotonic,
    offline_at: Option<Monotonic>,
    unanswered_at: Option<Monotonic>,
    probing: Option<Probing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probing {
    /// It is asked at this instant.
    Due(Monotonic),
    /// It was asked and has until this instant to answer.
    Asked(Monotonic),
}

#[derive(Debug, Default)]
struct Bridge {
    down_at: Option<Monotonic>,
    shown_down: bool,
    debounce: Duration,
}

impl Watched {
    fn new(watch: ApplianceWatch, now: Monotonic) -> Self {
        let mut watched = Self {
            watch,
            verdict: ApplianceVerdict::Unheard,
            heard_at: now,
            offline_at: None,
            unanswered_at: None,
            probing: None,
        };
        watched.begin(now);
        watched
    }

    /// Forgets what spoke against it: from here on it can be heard.
    fn begin(&mut self, now: Monotonic) {
        self.heard_at = now;
        self.offline_at = None;
        self.unanswered_at = None;
        self.probing = self.watch.liveness.probe.map(|_| Probing::Due(now));
    }

    /// It gave a sign of life, which refutes everything that spoke against it.
    fn lives(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        self.begin(now);
        let probe = self.watch.liveness.probe;
        self.probing = probe.map(|probe| Probing::Due(now + probe.every));
        self.judge(ApplianceVerdict::Trusted, effects);
    }

    /// Somebody says that it is there. That does not show that its bridge is, and what a broker
    /// kept of old only takes back that it was said to be offline.
    fn said_to_live(&mut self, now: Monotonic, retained: bool, effects: &mut Vec<Effect>) {
        if retained {
            self.offline_at = None;
        } else {
            self.lives(now, effects);
        }
    }

    fn judge(&mut self, verdict: ApplianceVerdict, effects: &mut Vec<Effect>) {
        if self.verdict != verdict {
            self.verdict = verdict;
            effects.push(Effect::Judge(self.watch.appliance.clone(), verdict));
        }
    }

    fn silent_at(&self) -> Option<Monotonic> {
        let silent_after = self.watch.liveness.silent_after?;
        Some(self.heard_at + silent_after)
    }

    /// Since when the signs are bad, and the first of them.
    fn bad_at(&self, now: Monotonic) -> Option<(Monotonic, Signal)> {
        let silent = self.silent_at().filter(|at| *at <= now);
        let signs = [
            (self.offline_at, Signal::Offline),
            (self.unanswered_at, Signal::NoAnswer),
            (silent, Signal::Silence),
        ];
        let signs = signs
            .into_iter()
            .filter_map(|(at, signal)| Some((at?, signal)));
        signs.min()
    }

    /// Asks it now if it can be asked, because something speaks against it.
    fn hurry(&mut self, now: Monotonic) {
        if let Some(Probing::Due(_)) = self.probing {
            self.probing = Some(Probing::Due(now));
        }
    }

    fn wake(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let at = now.monotonic;
        let just_silent = self.unanswered_at.is_none()
            && self.offline_at.is_none()
            && self.silent_at().is_some_and(|silent| silent <= at);
        let suspected = matches!(self.verdict, ApplianceVerdict::Suspected { .. });
        if let (Some(Probing::Asked(until)), Some(probe)) =
            (self.probing, self.watch.liveness.probe)
            && until <= at
        {
            self.unanswered_at.get_or_insert(until);
            // Once more at once while it is not yet suspected, then as often as usual.
            let next = if suspected { at + probe.every } else { at };
            self.probing = Some(Probing::Due(next));
        } else if just_silent && !suspected {
            self.hurry(at);
        }
        if let (Some(Probing::Due(due)), Some(probe)) = (self.probing, self.watch.liveness.probe)
            && due <= at
        {
            self.probing = Some(Probing::Asked(at + probe.within));
            effects.push(Effect::Probe(self.watch.appliance.clone()));
        }
        if let Some((bad_at, signal)) = self.bad_at(at)
            && bad_at + self.watch.liveness.debounce <= at
            && !suspected
        {
            let since = now.wall - (at - bad_at);
            self.judge(ApplianceVerdict::Suspected { since, signal }, effects);
        }
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        let probing = self.probing.map(|probing| match probing {
            Probing::Due(at) | Probing::Asked(at) => at,
        });
        let suspected = matches!(self.verdict, ApplianceVerdict::Suspected { .. });
        let silent = self.silent_at();
        let signs = [self.offline_at, self.unanswered_at, silent];
        let first = signs.into_iter().flatten().min();
        let debounce = self.watch.liveness.debounce;
        let suspicion = first.map(|at| at + debounce).filter(|_| !suspected);
        // Silence is also an instant of its own, at which the appliance is asked.
        let silent = silent.filter(|at| {
            let told = self.offline_at.is_some() || self.unanswered_at.is_some();
            let asks = matches!(self.probing, Some(Probing::Due(due)) if due > *at);
            !suspected && !told && asks
        });
        [probing, suspicion, silent].into_iter().flatten().min()
    }
}

impl ApplianceMonitor {
    /// Watches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn watch(&mut self, now: Monotonic, watch: ApplianceWatch) {
        if let Some(bridge) = &watch.liveness.bridge {
            let bridge = self.bridges.entry(bridge.clone()).or_default();
            bridge.debounce = bridge.debounce.max(watch.liveness.debounce);
        }
        match self.appliances.get_mut(&watch.appliance) {
            Some(watched) if watched.watch == watch => {}
            Some(_) | None => {
                let id = watch.appliance.clone();
                self.appliances.insert(id, Watched::new(watch, now));
            }
        }
    }

    /// A sign of life, which also shows that its bridge is there.
    fn heard(&mut self, now: Now, appliance: &EntityId, effects: &mut Vec<Effect>) {
        let Some(watched) = self.appliances.get_mut(appliance) else {
            return;
        };
        watched.lives(now.monotonic, effects);
        if let Some(bridge) = watched.watch.liveness.bridge.clone() {
            self.bridge_told(now, &bridge, true, effects);
        }
    }

    fn bridge_told(&mut self, now: Now, topic: &str, available: bool, effects: &mut Vec<Effect>) {
        let Some(bridge) = self.bridges.get_mut(topic) else {
            return;
        };
        if !available {
            bridge.down_at.get_or_insert(now.monotonic);
            return;
        }
        if bridge.down_at.take().is_none() {
            return;
        }
        if core::mem::take(&mut bridge.shown_down) {
            effects.push(Effect::JudgeBridge(topic.into(), BridgeVerdict::Up));
        }
        let behind =
            |watched: &&mut Watched| watched.watch.liveness.bridge.as_deref() == Some(topic);
        for watched in self.appliances.values_mut().filter(behind) {
            watched.begin(now.monotonic);
        }
    }

    /// The appliances of which something can be heard at present.
    fn audible(&self) -> impl Iterator<Item = &Watched> {
        let hidden = |watched: &Watched| {
            let bridge = watched.watch.liveness.bridge.as_ref();
            let bridge = bridge.and_then(|topic| self.bridges.get(topic));
            bridge.is_some_and(|bridge| bridge.down_at.is_some())
        };
        let all = self.appliances.values().filter(|_| self.connected);
        all.filter(move |watched| !hidden(watched))
    }
}

impl Machine for ApplianceMonitor {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Watched(all) => {
                for watch in all {
                    self.watch(now.monotonic, watch);
                }
            }
            Input::Connected => {
                self.connected = true;
                for watched in self.appliances.values_mut() {
                    watched.begin(now.monotonic);
                }
            }
            Input::Disconnected => self.connected = false,
            Input::Heard(appliance) => self.heard(now, &appliance, effects),
            Input::AvailabilityTold {
                appliance,
                available: true,
                retained,
            } => {
                if let Some(watched) = self.appliances.get_mut(&appliance) {
                    watched.said_to_live(now.monotonic, retained, effects);
                }
            }
            Input::AvailabilityTold {
                appliance,
                available: false,
                retained: _,
            } => {
                if let Some(watched) = self.appliances.get_mut(&appliance) {
                    watched.offline_at.get_or_insert(now.monotonic);
                    watched.hurry(now.monotonic);
                }
            }
            Input::BridgeTold { bridge, available } => {
                self.bridge_told(now, &bridge, available, effects);
            }
        }
        self.wake(now, effects);
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        let appliances = self.audible().filter_map(Watched::next_deadline);
        let bridges = self.bridges.values().filter(|bridge| !bridge.shown_down);
        let bridges = bridges.filter_map(|bridge| Some(bridge.down_at? + bridge.debounce));
        appliances.chain(bridges).min()
    }

    fn wake(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for (topic, bridge) in &mut self.bridges {
            if let Some(down_at) = bridge.down_at
                && !bridge.shown_down
                && down_at + bridge.debounce <= now.monotonic
            {
                bridge.shown_down = true;
                let since = now.wall - (now.monotonic - down_at);
                let verdict = BridgeVerdict::Down(since);
                effects.push(Effect::JudgeBridge(topic.clone(), verdict));
            }
        }
        let audible: Vec<EntityId> = self
            .audible()
            .filter(|watched| {
                watched
                    .next_deadline()
                    .is_some_and(|at| at <= now.monotonic)
            })
            .map(|watched| watched.watch.appliance.clone())
            .collect();
        for appliance in audible {
            if let Some(watched) = self.appliances.get_mut(&appliance) {
                watched.wake(now, effects);
            }
        }
    }
}
