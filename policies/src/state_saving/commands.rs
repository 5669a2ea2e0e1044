//! Commands to one appliance, which cannot save its own state: the element's log is its memory
//! (paper, 4.2.1, logging at emission).
//!
//! A command is a map of properties. Of a `set` device only the newest value of each property counts,
//! so what is outstanding is one merged command, however many were emitted: a recovery shows the
//! final state and no intermediate one. Every other class is a queue, one command at a time.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::model::{ActuationClass, Value};
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Desired {
    position: Position,
    expires_at: Option<WallClock>,
    value: Value,
}

/// What a checkpoint saves of the commands to one appliance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedCommands {
    settled: Position,
    desired: BTreeMap<String, Desired>,
    queue: VecDeque<Command>,
    begun: Position,
}

/// The sending end towards one appliance.
#[derive(Clone, Debug)]
pub struct Commands {
    class: ActuationClass,
    saved: SavedCommands,
    in_flight: Option<Position>,
}

/// What is to be done next towards an appliance.
#[derive(Clone, Debug, PartialEq)]
pub enum NextCommand {
    /// Send it.
    Send(Command),
    /// Make it known to the log that it is about to be sent, then ask again.
    Begin(Position),
}

impl Commands {
    /// Nothing emitted yet.
    #[must_use]
    pub fn new(class: ActuationClass) -> Self {
        Self {
            class,
            saved: SavedCommands::default(),
            in_flight: None,
        }
    }

    /// What a checkpoint is to save.
    #[must_use]
    pub fn saved(&self) -> &SavedCommands {
        &self.saved
    }

    /// How many commands or properties wait to be carried out.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.saved.desired.len() + self.saved.queue.len()
    }

    /// Goes back to what a checkpoint saved, keeping what has been learnt since.
    pub fn restore(&mut self, saved: SavedCommands) {
        let settled = self.saved.settled.max(saved.settled);
        let begun = self.saved.begun.max(saved.begun);
        self.saved = saved;
        self.saved.begun = begun;
        self.settle(settled);
    }

    /// Takes a command that a handler emitted; one that was settled before is passed over.
    pub fn emitted(&mut self, command: Command) {
        if command.position <= self.saved.settled {
            return;
        }
        let Command {
            position,
            expires_at,
            properties,
        } = command;
        match self.class {
            ActuationClass::Set => {
                for (name, value) in properties {
                    self.saved.desired.insert(
                        name,
                        Desired {
                            position,
                            expires_at,
                            value,
                        },
                    );
                }
            }
            ActuationClass::Delta
            | ActuationClass::Irreversible
            | ActuationClass::Keyed
            | ActuationClass::Alarm => {
                self.saved.queue.push_back(Command {
                    position,
                    expires_at,
                    properties,
                });
            }
        }
    }

    /// Says what to do next, if anything; nothing while a command is in flight. What is no longer
    /// surely valid is dropped here, so it never leaves.
    pub fn next(&mut self, now: Now) -> Option<NextCommand> {
        if self.in_flight.is_some() {
            return None;
        }
        let command = match self.class {
            ActuationClass::Set => self.merged(now)?,
            ActuationClass::Delta
            | ActuationClass::Irreversible
            | ActuationClass::Keyed
            | ActuationClass::Alarm => {
                self.saved
                    .queue
                    .retain(|command| now.surely_before(command.expires_at));
                self.saved.queue.front()?.clone()
            }
        };
        if !self.class.may_repeat() && self.saved.begun < command.position {
            return Some(NextCommand::Begin(command.position));
        }
        self.in_flight = Some(command.position);
        Some(NextCommand::Send(command))
    }

    /// The log knows that the command at `position` is about to be sent.
    pub fn begun(&mut self, position: Position) {
        self.saved.begun = self.saved.begun.max(position);
    }

    /// The commands up to `position` were carried out or given up.
    pub fn settle(&mut self, position: Position) {
        self.saved.settled = self.saved.settled.max(position);
        self.saved
            .desired
            .retain(|_, desired| desired.position > position);
        self.saved
            .queue
            .retain(|command| command.position > position);
        if self
            .in_flight
            .is_some_and(|in_flight| in_flight <= position)
        {
            self.in_flight = None;
        }
    }

    /// The command in flight was not taken; it will be offered again.
    pub fn returned(&mut self) {
        self.in_flight = None;
    }

    /// After a recovery: the commands that may or may not have been carried out and must not be
    /// repeated. They are given up; a person has to look.
    pub fn ambiguous(&mut self) -> Vec<Command> {
        if self.class.may_repeat() || self.in_flight.is_some() {
            return Vec::new();
        }
        // Exactly the one that was begun: what stands before it had expired and was passed over.
        let begun = self.saved.begun;
        let unknown: Vec<_> = self
            .saved
            .queue
            .iter()
            .filter(|command| command.position == begun)
            .cloned()
            .collect();
        if let Some(last) = unknown.last() {
            self.settle(last.position);
        }
        unknown
    }

    /// After a recovery: what the device is to show at last, if it can be asked whether it does.
    #[must_use]
    pub fn to_compare(&self, now: Now) -> Option<Command> {
        match self.class {
            ActuationClass::Set if self.in_flight.is_none() => self.clone().merged(now),
            ActuationClass::Set
            | ActuationClass::Delta
            | ActuationClass::Irreversible
            | ActuationClass::Keyed
            | ActuationClass::Alarm => None,
        }
    }

    /// The device shows these properties already as the commands up to `position` wanted them.
    /// Returns whether nothing of those commands is left to do.
    pub fn shown(&mut self, position: Position, names: &[String]) -> bool {
        let still =
            |name: &String, desired: &Desired| desired.position > position || !names.contains(name);
        self.saved
            .desired
            .retain(|name, desired| still(name, desired));
        let done = self
            .saved
            .desired
            .values()
            .all(|desired| desired.position > position);
        if done {
            self.settle(position);
        }
        done
    }

    fn merged(&mut self, now: Now) -> Option<Command> {
        self.saved
            .desired
            .retain(|_, desired| now.surely_before(desired.expires_at));
        let position = self
            .saved
            .desired
            .values()
            .map(|desired| desired.position)
            .max()?;
        let expires_at = self
            .saved
            .desired
            .values()
            .filter_map(|desired| desired.expires_at)
            .min();
        let value = |(name, desired): (&String, &Desired)| (name.clone(), desired.value.clone());
        let properties = self.saved.desired.iter().map(value).collect();
        Some(Command {
            position,
            expires_at,
            properties,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(index: u64, expires_at: Option<i64>, properties: &[(&str, u8)]) -> Command {
        let value =
            |(name, value): &(&str, u8)| ((*name).into(), Value::Integer(i64::from(*value)));
        Command {
            position: Position::new(1, index, 0),
            expires_at: expires_at.map(WallClock),
            properties: properties.iter().map(value).collect(),
        }
    }

    fn at(wall: i64) -> Now {
        Now {
            wall: WallClock(wall),
            ..Now::default()
        }
    }

    #[test]
    fn a_recovery_sends_one_command_with_the_final_value_of_each_property() {
        let mut lamp = Commands::new(ActuationClass::Set);
        lamp.emitted(command(1, None, &[("state", 1), ("brightness", 9)]));
        lamp.emitted(command(2, None, &[("state", 0)]));
        lamp.emitted(command(3, None, &[("state", 1)]));
        assert_eq!(
            lamp.next(at(0)),
            Some(NextCommand::Send(command(
                3,
                None,
                &[("brightness", 9), ("state", 1)]
            )))
        );
        assert_eq!(lamp.next(at(0)), None);
    }

    #[test]
    fn an_expired_lock_still_cancels_the_unlock_before_it() {
        let mut door = Commands::new(ActuationClass::Set);
        door.emitted(command(1, Some(1_000), &[("lock", 0)]));
        door.emitted(command(2, Some(10), &[("lock", 1)]));
        assert_eq!(door.next(at(50)), None);
    }

    #[test]
    fn what_was_settled_is_passed_over_at_replay() {
        let mut lamp = Commands::new(ActuationClass::Set);
        lamp.settle(Position::new(1, 2, 0));
        lamp.emitted(command(2, None, &[("state", 1)]));
        assert_eq!(lamp.next(at(0)), None);
    }

    #[test]
    fn an_irreversible_command_is_begun_in_the_log_before_it_is_sent_and_never_repeated() {
        let mut pump = Commands::new(ActuationClass::Irreversible);
        pump.emitted(command(1, None, &[("dose", 2)]));
        assert_eq!(
            pump.next(at(0)),
            Some(NextCommand::Begin(Position::new(1, 1, 0)))
        );
        pump.begun(Position::new(1, 1, 0));
        let saved = pump.saved().clone();
        assert_eq!(
            pump.next(at(0)),
            Some(NextCommand::Send(command(1, None, &[("dose", 2)])))
        );

        let mut recovered = Commands::new(ActuationClass::Irreversible);
        recovered.restore(saved);
        assert_eq!(recovered.ambiguous(), [command(1, None, &[("dose", 2)])]);
        assert_eq!(recovered.next(at(0)), None);
    }

    #[test]
    fn a_command_that_expired_before_the_one_begun_after_it_is_not_in_doubt() {
        let mut pump = Commands::new(ActuationClass::Irreversible);
        pump.emitted(command(1, Some(10), &[("dose", 1)]));
        pump.emitted(command(2, None, &[("dose", 2)]));
        let second = Position::new(1, 2, 0);
        assert_eq!(pump.next(at(50)), Some(NextCommand::Begin(second)));
        let mut recovered = Commands::new(ActuationClass::Irreversible);
        recovered.emitted(command(1, Some(10), &[("dose", 1)]));
        recovered.emitted(command(2, None, &[("dose", 2)]));
        recovered.begun(second);
        assert_eq!(recovered.ambiguous(), [command(2, None, &[("dose", 2)])]);
        assert_eq!(recovered.next(at(50)), None);
    }

    #[test]
    fn a_property_the_device_shows_already_is_not_sent() {
        let mut lamp = Commands::new(ActuationClass::Set);
        lamp.emitted(command(1, None, &[("state", 1), ("brightness", 9)]));
        assert!(!lamp.shown(Position::new(1, 1, 0), &["state".into()]));
        assert_eq!(
            lamp.next(at(0)),
            Some(NextCommand::Send(command(1, None, &[("brightness", 9)])))
        );
    }
}
