//! Commands to one appliance, which cannot save its own state: the element's log is its memory
//! (paper, 4.2.1, logging at emission).
//!
//! A command is a map of properties, and the device model says of each what repeating it does. Of
//! properties that are set only the newest value counts, so what is outstanding of them is one merged
//! command, however many were emitted: a recovery shows the final state and no intermediate one.
//! What must not be repeated, and what warns people, is a queue, one command at a time.

mod queue;
mod relative;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use self::queue::{Doubt, Finding, Unknown, Verdict};
use self::queue::{Queue, SavedQueue};
pub use self::relative::{Refused, resolve};
use crate::model::{ActuationClass, DeviceModel, Evidence, Value};
use crate::physical_world::Position;
use crate::time::{Now, WallClock};

/// A command or a report as properties and their values; one that is not a map has one nameless
/// property.
pub type Properties = BTreeMap<String, Value>;

/// One command to carry out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Where it came from: its identity towards the device. Of a merged command, the newest.
    pub position: Position,
    /// Until when it may act on the world; `None` is until overridden.
    pub expires_at: Option<WallClock>,
    /// What it sets or does.
    pub properties: Properties,
}

/// A value that a device is to show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// The command that wants it.
    pub position: Position,
    /// Until when it is wanted; `None` is until overridden.
    pub expires_at: Option<WallClock>,
    /// The value.
    pub value: Value,
}

/// Which of the two ways a command goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// With all others that set properties, the newest value of each.
    #[serde(rename = "m")]
    Merged,
    /// By itself, in order.
    #[serde(rename = "q")]
    Queued,
}

/// What a checkpoint saves of the commands to one appliance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedCommands {
    settled: Position,
    desired: BTreeMap<String, Desired>,
    queue: SavedQueue,
    #[serde(default)]
    handed_over: u64,
}

/// The sending end towards one appliance.
#[derive(Clone, Debug)]
pub struct Commands {
    model: DeviceModel,
    settled: Position,
    desired: BTreeMap<String, Desired>,
    queue: Queue,
    in_flight: Option<InFlight>,
    /// How often a command was sent: what is said of an older sending says nothing of this one.
    sendings: u64,
    /// By which decision the device serves that is spoken to.
    handed_over: u64,
    /// The newest of what it was to show whatever had been settled, until that is taken or shown: no
    /// log says so, and a replay does not make it again.
    owed: Option<Position>,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    lane: Lane,
    position: Position,
    sending: u64,
}

/// What is to be done next towards an appliance.
#[derive(Clone, Debug, PartialEq)]
pub enum NextCommand {
    /// Send it.
    Send(Command),
    /// Ask the device for this property, which shows whether the next command was carried out, and
    /// say so with [`Commands::read`].
    Read(String),
    /// Make it known to the log that it is about to be sent.
    Begin {
        /// Which command.
        position: Position,
        /// How often people asked for it again.
        attempt: u32,
        /// What the device counted before.
        counter: Option<Value>,
    },
}

impl Commands {
    /// Nothing emitted yet.
    #[must_use]
    pub fn new(model: DeviceModel) -> Self {
        Self {
            model,
            settled: Position::default(),
            desired: BTreeMap::new(),
            queue: Queue::default(),
            in_flight: None,
            sendings: 0,
            handed_over: 0,
            owed: None,
        }
    }

    /// What the device is.
    #[must_use]
    pub fn model(&self) -> &DeviceModel {
        &self.model
    }

    /// What a checkpoint is to save.
    #[must_use]
    pub fn saved(&self) -> SavedCommands {
        SavedCommands {
            settled: self.settled,
            desired: self.desired.clone(),
            queue: self.queue.saved().clone(),
            handed_over: self.handed_over,
        }
    }

    /// How many commands or properties wait to be carried out.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.desired.len() + self.queue.waiting()
    }

    /// Drops the oldest of the commands that go by themselves and have not begun, until at most `max`
    /// are left, and returns them.
    pub fn keep_newest(&mut self, max: usize) -> Vec<Command> {
        self.queue.keep_newest(max)
    }

    /// The commands of which nobody knows whether they were carried out, until a person says so.
    pub fn unknown(&self) -> impl Iterator<Item = &Unknown> {
        self.queue.saved().unknown()
    }

    /// Goes back to what a checkpoint saved, keeping what has been learnt since.
    pub fn restore(&mut self, saved: SavedCommands) {
        let settled = self.settled.max(saved.settled);
        self.desired = saved.desired;
        self.handed_over = saved.handed_over;
        self.queue.restore(saved.queue);
        self.settle_merged(settled);
    }

    /// Takes a command that a handler emitted; what was settled before is passed over.
    pub fn emitted(&mut self, command: Command) {
        let Command {
            position,
            expires_at,
            properties,
        } = command;
        let mut by_itself = Properties::new();
        for (name, value) in properties {
            if class_of(&self.model, &name) != ActuationClass::Set {
                by_itself.insert(name, value);
            } else if position > self.settled {
                let desired = Desired {
                    position,
                    expires_at,
                    value,
                };
                self.desired.insert(name, desired);
            }
        }
        if !by_itself.is_empty() {
            self.queue.emitted(Command {
                position,
                expires_at,
                properties: by_itself,
            });
        }
    }

    /// A command that goes by itself and waits.
    #[must_use]
    pub fn command_at(&self, position: Position) -> Option<&Command> {
        let mut waiting = self.queue.commands();
        waiting.find(|command| command.position == position)
    }

    /// Says what to do next, if anything; nothing while a command is in flight. What is no longer
    /// surely valid is dropped here, so it never leaves.
    pub fn next(&mut self, now: Now) -> Option<NextCommand> {
        if self.in_flight.is_some() {
            return None;
        }
        let merged = self.merged(now);
        let queued = self.queue.next(&self.model, now);
        let (lane, command) = match (merged, queued) {
            (_, Some(step @ (NextCommand::Read(_) | NextCommand::Begin { .. }))) => {
                return Some(step);
            }
            (Some(merged), Some(NextCommand::Send(queued))) => {
                if merged.position <= queued.position {
                    (Lane::Merged, merged)
                } else {
                    (Lane::Queued, queued)
                }
            }
            (Some(merged), None) => (Lane::Merged, merged),
            (None, Some(NextCommand::Send(queued))) => (Lane::Queued, queued),
            (None, None) => return None,
        };
        self.sendings += 1;
        self.in_flight = Some(InFlight {
            lane,
            position: command.position,
            sending: self.sendings,
        });
        Some(NextCommand::Send(command))
    }

    /// Which sending is the last that [`Commands::next`] asked for; 0 is none.
    #[must_use]
    pub fn sending(&self) -> u64 {
        self.sendings
    }

    /// By which decision the device serves that is spoken to; 0 where it was always the same.
    #[must_use]
    pub fn handed_over(&self) -> u64 {
        self.handed_over
    }

    /// From here on another device is spoken to, by the decision `epoch`. What was sent to the one
    /// before and not answered is offered again, except what must not be repeated (see
    /// [`Commands::doubt`]), and these commands are offered to it too, although the one before took
    /// them.
    pub fn hand_over(&mut self, epoch: u64, again: Vec<Command>) {
        self.returned();
        self.handed_over = epoch;
        self.queue.hand_over(epoch, again);
    }

    /// Commands that the device may have been sent, and of which another device does not know that it
    /// was sent them: each counts by itself, and only a key that the device remembers keeps them from
    /// being carried out twice.
    #[must_use]
    pub fn known_to_device_only(&self) -> Vec<Position> {
        let counts = |name: &String| {
            let property = self.model.properties.get(name);
            property.is_some_and(|property| property.accumulates)
                && class_of(&self.model, name) == ActuationClass::Keyed
        };
        let waiting = self.queue.commands();
        let known = waiting.filter(|command| command.properties.keys().any(counts));
        known.map(|command| command.position).collect()
    }

    /// Whether the next command to the same properties makes this one as if it had not been.
    #[must_use]
    pub fn is_overridden(&self, command: &Command) -> bool {
        let mut names = command.properties.keys();
        names.all(|name| class_of(&self.model, name) == ActuationClass::Set)
    }

    /// The device was asked what it counts, before a command that must not be repeated; `None` if it
    /// did not answer.
    pub fn read(&mut self, counter: Option<Value>) {
        self.queue.read(counter);
    }

    /// The log knows that a command is about to be sent to the device that serves by the decision
    /// `handed_over`. If another one serves since, it never was, and begins anew.
    pub fn begun(
        &mut self,
        position: Position,
        attempt: u32,
        counter: Option<Value>,
        handed_over: u64,
    ) {
        let stands = handed_over >= self.handed_over;
        self.queue
            .begun(position, attempt, stands.then_some(counter));
    }

    /// The device took the command in flight, or it is given up. Returns which way it went, for the
    /// log; `None` if this sending is not in flight any more.
    pub fn taken(&mut self, position: Position, sending: u64) -> Option<Lane> {
        let InFlight { lane, .. } = self
            .in_flight
            .take_if(|flying| flying.is(position, sending))?;
        match lane {
            Lane::Merged => {
                self.owed.take_if(|owed| *owed <= position);
                self.settle_merged(position);
            }
            Lane::Queued => self.queue.settled(position, self.handed_over),
        }
        Some(lane)
    }

    /// The log says that the commands that went this way, up to `position`, are settled by the device
    /// that serves by the decision `handed_over`. Returns whether that is the one that is spoken to.
    pub fn settle(&mut self, lane: Lane, position: Position, handed_over: u64) -> bool {
        let is_it = handed_over >= self.handed_over;
        match lane {
            Lane::Merged if is_it => self.settle_merged(position),
            Lane::Merged => {}
            Lane::Queued => self.queue.settle_for_good(position, handed_over),
        }
        self.in_flight
            .take_if(|flying| is_it && flying.lane == lane && flying.position <= position);
        is_it
    }

    /// The command in flight was not taken; it will be offered again.
    pub fn returned(&mut self) {
        self.in_flight = None;
        self.queue.forget_reading();
    }

    /// The same of one sending, if it is still in flight. Returns whether it was.
    pub fn handed_back(&mut self, sending: u64) -> bool {
        let is_it = self.is_in_flight(sending);
        if is_it {
            self.returned();
        }
        is_it
    }

    /// Whether nothing is known yet of what became of a sending.
    #[must_use]
    pub fn is_in_flight(&self, sending: u64) -> bool {
        self.in_flight.is_some_and(|it| it.sending == sending)
    }

    /// What the device was asked before a command that must not be repeated is answered by nobody any
    /// more, because it was asked something else since: it is asked again.
    pub fn forget_reading(&mut self) {
        self.queue.forget_reading();
    }

    /// Nobody knows whether the command in flight was taken. Returns whether that has to be found
    /// out; if not, it is offered again.
    pub fn doubted(&mut self, position: Position, sending: u64) -> bool {
        self.in_flight
            .take_if(|flying| flying.is(position, sending));
        self.doubt().is_some()
    }

    /// The command that may or may not have been carried out and must not be repeated, and what of
    /// the device shows which: there is at most one.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt<'_>> {
        match self.in_flight.map(|flying| flying.lane) {
            Some(Lane::Queued) => None,
            Some(Lane::Merged) | None => self.queue.doubt(&self.model),
        }
    }

    /// The device shows that the command in doubt was carried out.
    pub fn settle_in_doubt(&mut self, position: Position) {
        self.queue.settled(position, self.handed_over);
    }

    /// What a device's answer says of what it counts, if it counts.
    #[must_use]
    pub fn counter_in(&self, shown: &Properties) -> Option<Value> {
        match &self.model.evidence {
            Some(Evidence::Counter(counter)) => shown.get(counter).cloned(),
            Some(Evidence::LastCommand(_)) | None => None,
        }
    }

    /// Nobody knows whether a command was carried out: it waits for a person's word.
    pub fn give_over(&mut self, position: Position) {
        self.queue.give_over(position);
    }

    /// The log says what is held of a command of unknown fate. Returns whether it was one.
    pub fn judged(&mut self, position: Position, verdict: Verdict, at: WallClock) -> bool {
        self.queue.judged(position, verdict, at)
    }

    /// Something newer speaks of these properties: what waits to be set of them is not sent.
    pub fn overridden(&mut self, properties: &[String]) {
        self.desired.retain(|name, _| !properties.contains(name));
        self.owed.take_if(|_| self.desired.is_empty());
    }

    /// From here on the device is to show exactly this, whatever was outstanding.
    pub fn show(&mut self, target: BTreeMap<String, Desired>) {
        self.owed = target.values().map(|desired| desired.position).max();
        self.desired = target;
    }

    /// Whether it is to show what [`Commands::show`] said and does not as far as is known.
    #[must_use]
    pub fn owes_showing(&self) -> bool {
        self.owed.is_some()
    }

    /// Whether a command waits to be carried out, in whole or in part, or is on its way.
    #[must_use]
    pub fn holds(&self, position: Position) -> bool {
        let mut desired = self.desired.values();
        desired.any(|desired| desired.position == position)
            || self.queue.holds(position)
            || self
                .in_flight
                .as_ref()
                .is_some_and(|it| it.position == position)
    }

    /// What the device is to show, and does not as far as is known.
    #[must_use]
    pub fn desired(&self) -> &BTreeMap<String, Desired> {
        &self.desired
    }

    /// The device shows these properties: what is as it is to be is not sent. Returns up to where
    /// commands are settled by that, if none is left.
    pub fn shown(&mut self, shown: &Properties) -> Option<Position> {
        let positions = self.desired.values().map(|desired| desired.position);
        let newest = positions.max()?;
        let as_wanted = |name: &String, desired: &Desired| {
            shown
                .get(name)
                .is_some_and(|value| value.means(&desired.value))
        };
        self.desired
            .retain(|name, desired| !as_wanted(name, desired));
        if !self.desired.is_empty() {
            return None;
        }
        self.owed = None;
        let news = newest > self.settled;
        self.settle_merged(newest);
        news.then_some(newest)
    }

    fn settle_merged(&mut self, position: Position) {
        self.settled = self.settled.max(position);
        self.desired
            .retain(|_, desired| desired.position > position);
    }

    fn merged(&mut self, now: Now) -> Option<Command> {
        self.desired
            .retain(|_, desired| now.surely_before(desired.expires_at));
        let all = || self.desired.values();
        let value = |(name, desired): (&String, &Desired)| (name.clone(), desired.value.clone());
        Some(Command {
            position: all().map(|desired| desired.position).max()?,
            expires_at: all().filter_map(|desired| desired.expires_at).min(),
            properties: self.desired.iter().map(value).collect(),
        })
    }
}

impl InFlight {
    fn is(&self, position: Position, sending: u64) -> bool {
        (self.position, self.sending) == (position, sending)
    }
}

/// What repeating a command to a property does; a step from where nobody knows cannot be repeated.
fn class_of(model: &DeviceModel, property: &str) -> ActuationClass {
    let known = model.properties.get(property);
    if known.is_some_and(|property| property.relative.is_some()) {
        return ActuationClass::Irreversible;
    }
    model.class_of(property)
}
