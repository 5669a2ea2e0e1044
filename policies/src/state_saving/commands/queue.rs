//! Commands that go by themselves, in order: what must not be repeated is begun in the log before it
//! is sent, and never sent again without evidence or a person's word.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Command, NextCommand, Properties, class_of};
use crate::model::{DeviceModel, Evidence, Value};
use crate::physical_world::Position;
use crate::time::{Now, WallClock};

/// How long a command holds that a person asked for again.
const REDO_WITHIN: Duration = Duration::from_secs(60);
/// The most commands of unknown fate that are kept for a person's word; the oldest gives way and is
/// only among the dead letters.
const UNKNOWN_MAX: usize = 64;

/// What is held of a command of which nobody knew whether it was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nobody knows; a person has to say.
    Unknown,
    /// A person says that it was carried out, or is not wanted any more.
    CarriedOut,
    /// A person wants it sent again.
    Redo,
}

/// A command of which nobody knows whether it was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unknown {
    /// The command.
    pub command: Command,
    /// How often people asked for it again.
    pub attempt: u32,
}

/// A command that may or may not have been carried out, and what of the device shows which.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt<'a> {
    /// The command.
    pub command: &'a Command,
    /// The property to ask for; `None` if the device cannot show it.
    pub evidence: Option<&'a str>,
    counter: Option<&'a Value>,
    model: &'a DeviceModel,
}

/// What a device's answer says of a command in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It was carried out.
    CarriedOut,
    /// It was not carried out.
    NotCarriedOut,
    /// Nothing.
    Nothing,
}

/// What a checkpoint saves of the queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedQueue {
    queue: VecDeque<Queued>,
    unknown: Vec<Unknown>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Queued {
    command: Command,
    attempt: u32,
    begun: Option<Begun>,
    /// By which decision the device serves that is to carry it out although the one before may have:
    /// that the one before took it ends nothing.
    #[serde(default)]
    handed_over: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Begun {
    counter: Option<Value>,
}

/// What happened to a command, and the log does not say so yet as far as it is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learnt {
    Settled,
    Unknown,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    saved: SavedQueue,
    /// With the decision by which the device serves of which it was learnt.
    learnt: BTreeMap<Position, (Learnt, u64)>,
    /// The command whose beginning is on its way to the log.
    beginning: Option<(Position, u32)>,
    /// What the device counted before the command at this place.
    reading: Option<(Position, Reading)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Reading {
    Asked,
    Answered(Option<Value>),
}

impl SavedQueue {
    pub(super) fn unknown(&self) -> impl Iterator<Item = &Unknown> {
        self.unknown.iter()
    }

    fn remove(&mut self, position: Position, handed_over: u64) {
        let of_another = |queued: &Queued| queued.handed_over > handed_over;
        self.queue
            .retain(|queued| queued.command.position != position || of_another(queued));
    }

    fn give_over(&mut self, position: Position) {
        let at = |queued: &Queued| queued.command.position == position;
        let Some(place) = self.queue.iter().position(at) else {
            return;
        };
        if let Some(Queued {
            command, attempt, ..
        }) = self.queue.remove(place)
        {
            if self.unknown.len() >= UNKNOWN_MAX {
                self.unknown.remove(0);
            }
            self.unknown.push(Unknown { command, attempt });
        }
    }

    fn apply(&mut self, position: Position, (learnt, handed_over): (Learnt, u64)) {
        match learnt {
            Learnt::Settled => self.remove(position, handed_over),
            Learnt::Unknown => self.give_over(position),
        }
    }
}

impl Queue {
    pub(super) fn keep_newest(&mut self, max: usize) -> Vec<Command> {
        let mut dropped = Vec::new();
        while self.saved.queue.len() > max {
            let waits = |queued: &Queued| queued.begun.is_none();
            let Some(place) = self.saved.queue.iter().position(waits) else {
                break;
            };
            dropped.extend(self.saved.queue.remove(place).map(|queued| queued.command));
        }
        dropped
    }

    pub(super) fn saved(&self) -> &SavedQueue {
        &self.saved
    }

    pub(super) fn holds(&self, position: Position) -> bool {
        let mut queue = self.saved.queue.iter();
        queue.any(|queued| queued.command.position == position)
    }

    pub(super) fn waiting(&self) -> usize {
        self.saved.queue.len()
    }

    pub(super) fn restore(&mut self, saved: SavedQueue) {
        self.saved = saved;
        for (position, learnt) in &self.learnt {
            self.saved.apply(*position, *learnt);
        }
    }

    /// The commands that wait, in order.
    pub(super) fn commands(&self) -> impl Iterator<Item = &Command> {
        self.saved.queue.iter().map(|queued| &queued.command)
    }

    /// All that waits is for another device, and `again` is before it, except what that device took
    /// already.
    pub(super) fn hand_over(&mut self, epoch: u64, again: Vec<Command>) {
        let asked_again = |position: Position| again.iter().any(|it| it.position == position);
        for queued in &mut self.saved.queue {
            if asked_again(queued.command.position) {
                queued.handed_over = epoch;
            }
        }
        for command in again.into_iter().rev() {
            let position = command.position;
            let is_it = |known: &Command| known.position == position;
            let unknown = self.saved.unknown().any(|unknown| is_it(&unknown.command));
            let learnt = self.learnt.get(&position);
            let settled = learnt.is_some_and(|(learnt, at)| match learnt {
                Learnt::Settled => *at >= epoch,
                Learnt::Unknown => true,
            });
            if !settled && !unknown && !self.commands().any(is_it) {
                self.saved.queue.push_front(Queued {
                    command,
                    attempt: 0,
                    begun: None,
                    handed_over: epoch,
                });
            }
        }
    }

    pub(super) fn emitted(&mut self, command: Command) {
        let position = command.position;
        self.saved.queue.push_back(Queued {
            command,
            attempt: 0,
            begun: None,
            handed_over: 0,
        });
        if let Some(learnt) = self.learnt.get(&position) {
            self.saved.apply(position, *learnt);
        }
    }

    pub(super) fn next(&mut self, model: &DeviceModel, now: Now) -> Option<NextCommand> {
        self.saved
            .queue
            .retain(|queued| now.surely_before(queued.command.expires_at));
        let Queued {
            command,
            attempt,
            begun,
            ..
        } = self.saved.queue.front()?;
        if begun.is_some() || may_repeat(model, &command.properties) {
            return Some(NextCommand::Send(command.clone()));
        }
        let (position, attempt) = (command.position, *attempt);
        if self.beginning == Some((position, attempt)) {
            return None;
        }
        let counter = match (&model.evidence, &self.reading) {
            (Some(Evidence::Counter(_)), Some((at, reading))) if *at == position => match reading {
                Reading::Asked => return None,
                Reading::Answered(counter) => counter.clone(),
            },
            (Some(Evidence::Counter(counter)), _) if model.answers => {
                self.reading = Some((position, Reading::Asked));
                return Some(NextCommand::Read(counter.clone()));
            }
            (Some(Evidence::Counter(_) | Evidence::LastCommand(_)) | None, _) => None,
        };
        self.reading = None;
        self.beginning = Some((position, attempt));
        Some(NextCommand::Begin {
            position,
            attempt,
            counter,
        })
    }

    pub(super) fn read(&mut self, counter: Option<Value>) {
        if let Some((_, reading @ Reading::Asked)) = &mut self.reading {
            *reading = Reading::Answered(counter);
        }
    }

    pub(super) fn forget_reading(&mut self) {
        self.reading = None;
    }

    /// The log says that a command is about to be sent; what is counted is `None` if that was to
    /// another device, so that it never was.
    pub(super) fn begun(
        &mut self,
        position: Position,
        attempt: u32,
        counted: Option<Option<Value>>,
    ) {
        self.beginning
            .take_if(|beginning| *beginning == (position, attempt));
        let Some(counter) = counted else {
            return;
        };
        let is_it =
            |queued: &Queued| queued.command.position == position && queued.attempt == attempt;
        if let Some(place) = self.saved.queue.iter().position(is_it) {
            // They go in order: what stands before it had expired and was passed over.
            self.saved.queue.drain(..place);
            if let Some(queued) = self.saved.queue.front_mut() {
                queued.begun = Some(Begun { counter });
            }
        }
    }

    /// Known here before the log knows it.
    pub(super) fn settled(&mut self, position: Position, handed_over: u64) {
        self.saved.remove(position, handed_over);
        let learnt = (Learnt::Settled, handed_over);
        self.learnt.insert(position, learnt);
    }

    pub(super) fn settle_for_good(&mut self, position: Position, handed_over: u64) {
        self.saved.remove(position, handed_over);
        // Whoever serves since, it needs no person's word that the one before took it.
        self.saved
            .unknown
            .retain(|unknown| unknown.command.position != position);
        let is_newer = |(learnt, at): &(Learnt, u64)| match learnt {
            Learnt::Settled => *at > handed_over,
            Learnt::Unknown => false,
        };
        self.learnt
            .retain(|at, learnt| *at != position || is_newer(learnt));
    }

    pub(super) fn give_over(&mut self, position: Position) {
        self.saved.give_over(position);
        self.learnt.insert(position, (Learnt::Unknown, 0));
    }

    pub(super) fn doubt<'a>(&'a self, model: &'a DeviceModel) -> Option<Doubt<'a>> {
        let Queued { command, begun, .. } = self.saved.queue.front()?;
        let begun = begun.as_ref()?;
        if may_repeat(model, &command.properties) {
            return None;
        }
        let evidence = match &model.evidence {
            Some(Evidence::Counter(name)) if begun.counter.is_some() => Some(name.as_str()),
            Some(Evidence::LastCommand(name)) => Some(name.as_str()),
            Some(Evidence::Counter(_)) | None => None,
        };
        Some(Doubt {
            command,
            evidence: evidence.filter(|_| model.answers),
            counter: begun.counter.as_ref(),
            model,
        })
    }

    pub(super) fn judged(&mut self, position: Position, verdict: Verdict, at: WallClock) -> bool {
        self.learnt.remove(&position);
        if verdict == Verdict::Unknown {
            self.saved.give_over(position);
            return true;
        }
        let held = |unknown: &Unknown| unknown.command.position == position;
        let Some(place) = self.saved.unknown.iter().position(held) else {
            return false;
        };
        let Unknown {
            mut command,
            attempt,
        } = self.saved.unknown.remove(place);
        if verdict == Verdict::Redo {
            command.expires_at = Some(at + REDO_WITHIN);
            self.saved.queue.push_back(Queued {
                command,
                attempt: attempt + 1,
                begun: None,
                handed_over: 0,
            });
        }
        true
    }
}

impl Doubt<'_> {
    /// What the device's answer says; `id` is the identity under which the command was sent.
    #[must_use]
    pub fn finding(&self, answer: Option<&Properties>, id: &str) -> Finding {
        let shown = self
            .evidence
            .and_then(|evidence| answer.and_then(|answer| answer.get(evidence)));
        match (&self.model.evidence, shown) {
            (Some(Evidence::Counter(_)), Some(shown)) => {
                let before = self.counter.and_then(Value::number);
                match (before, shown.number()) {
                    (Some(before), Some(after)) if after > before => Finding::CarriedOut,
                    (Some(before), Some(after)) if after == before => Finding::NotCarriedOut,
                    // Something else is counted now than was then.
                    (Some(_) | None, Some(_) | None) => Finding::Nothing,
                }
            }
            (Some(Evidence::LastCommand(_)), Some(shown)) => {
                match shown.means(&Value::Text(id.into())) {
                    true => Finding::CarriedOut,
                    false => Finding::NotCarriedOut,
                }
            }
            (Some(_) | None, None) | (None, Some(_)) => Finding::Nothing,
        }
    }
}

/// Whether all of a command may be sent again when nobody knows whether it was carried out.
fn may_repeat(model: &DeviceModel, properties: &Properties) -> bool {
    let mut names = properties.keys();
    names.all(|name: &String| class_of(model, name).may_repeat())
}
