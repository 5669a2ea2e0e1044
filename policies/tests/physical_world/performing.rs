//! What the world does with the effects of a cell.

use std::time::Duration;

use lamplighter_policies::model::Value;
use lamplighter_policies::physical_world::Position;
use lamplighter_policies::protocol::cell::{
    Cause, Effect, Emitted, Handled, Input, Task, TaskInput,
};
use lamplighter_policies::state_saving::{Batch, Command, Record};
use lamplighter_policies::time::WallClock;

use super::misfortunes::counts_by_itself;
use super::{APART, Happening, House, Newest, SKEW};
use crate::device::Deed;
use crate::dice::Dice;

impl House {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Restore => self.restore(),
            Effect::Append { first, records } => self.append(first, records),
            Effect::Handle(task) => self.handle(task),
            Effect::Checkpoint { upto, meta } => {
                self.store.checkpoint = upto;
                self.store.meta = meta;
                self.store.state = self.state.clone();
                self.store.log.retain(|batch| batch.last() > upto);
                let delay = self.delay(5);
                self.answer(delay, Input::Checkpointed { upto });
            }
            Effect::Acknowledge { upto, .. } => {
                if !self.dice.one_in(10) {
                    self.source.acknowledged(self.now.monotonic, upto);
                }
            }
            Effect::Resume { mark, .. } => {
                let again = self.source.resume(self.now.monotonic, mark);
                self.transmit(again);
            }
            Effect::Actuate {
                link,
                command,
                sending,
            } => self.actuate(&link, command, sending),
            Effect::Compare {
                link,
                question,
                properties,
            } => self.compare(link, question, &properties),
            Effect::ReportUnknown { command, .. } => self.unknown.push(command.position),
            Effect::GiveUp { cause, .. } => panic!("gave up: {cause}"),
            Effect::Ready { .. } | Effect::Mended { .. } => {}
            Effect::Release { receipt } => {
                let number = usize::try_from(receipt).expect("few");
                self.reports[number].logged = true;
            }
            Effect::Reroute(table) => self.reroute(&table),
            Effect::ShowReconfiguration { .. } | Effect::ShowRestored => {}
            Effect::Prove => self.prove(),
            unexpected @ (Effect::Send { .. }
            | Effect::Bury { .. }
            | Effect::Report { .. }
            | Effect::Flush
            | Effect::ReportLost(_)
            | Effect::ReportOrphaned(_)
            | Effect::Stop) => panic!("{unexpected:?}"),
        }
    }

    fn append(&mut self, first: u64, records: Vec<Record>) {
        let batch = Batch {
            first,
            logged_at: self.now.wall,
            records,
        };
        let (last, logged_at) = (batch.last(), batch.logged_at);
        let known = last <= self.store.head;
        let taken = if known || first == self.store.head + 1 {
            Ok(())
        } else {
            Err(Cause::Gap {
                head: self.store.head,
            })
        };
        if taken.is_ok() && !known {
            self.store.head = last;
            self.store.log.push(batch);
        }
        let answer = match taken {
            Ok(()) if self.dice.one_in(30) => Input::AppendFailed {
                last,
                cause: Cause::Unavailable("no answer".into()),
            },
            Ok(()) => Input::Appended { last, logged_at },
            Err(cause) => Input::AppendFailed { last, cause },
        };
        let slow = self.dice.one_in(8);
        let delay = self.delay(if slow { 80 } else { 4 });
        self.answer(delay, answer);
    }

    /// The author's code: it counts, and asks one device for one thing.
    fn handle(&mut self, task: Task) {
        let index = task.index;
        let payload = match &task.input {
            TaskInput::Event { payload, .. } => payload,
            TaskInput::Timer { payload, .. } => {
                self.state.push(payload[0]);
                return self.returned(index, Handled::default());
            }
            TaskInput::Reconfigured { .. } => return self.returned(index, Handled::default()),
            TaskInput::Call { .. } | TaskInput::Answer { .. } | TaskInput::Shown { .. } => {
                panic!("no calls here")
            }
        };
        self.state.push(payload[0]);
        let n = payload[0];
        if let Some(device) = payload.get(1) {
            return self.handle_touch(&task, usize::from(*device), n);
        }
        let mut chance = Dice::new(u64::from(n));
        let device = usize::try_from(chance.below(8)).expect("small") % self.bound().len();
        let valid_for = [None, Some(30), Some(300), Some(2_000), Some(3_600_000)];
        let valid_for = valid_for[usize::try_from(chance.below(5)).expect("small")];
        let valid_for = valid_for.map(Duration::from_millis);
        let value = Value::Integer(i64::from(n));
        let target = &self.devices[device];
        let commanded = Newest::Commanded {
            value: value.clone(),
            at: task.logged_at,
            expires_at: valid_for.map(|span| task.logged_at + span),
        };
        self.newest.insert(device, commanded);
        let position = Position::new(1, task.index, 0);
        if counts_by_itself(target) && valid_for.is_none() {
            self.counted.insert(position);
        }
        let emitted = vec![Emitted {
            port: target.name.into(),
            valid_for,
            payload: vec![n],
            properties: [(target.property.to_owned(), value)].into(),
        }];
        let handled = Handled {
            emitted,
            timers: self.timers(n, task.logged_at),
            ..Handled::default()
        };
        self.returned(index, handled);
    }

    fn returned(&mut self, index: u64, handled: Handled) {
        self.answers.push_back(Input::Handled { index, handled });
    }

    fn handle_touch(&mut self, task: &Task, device: usize, n: u8) {
        let apart = match self.newest.get(&device) {
            // When a device last went back by itself is not noted here.
            Some(Newest::Commanded { .. }) if self.devices[device].reverts => false,
            Some(Newest::Commanded { at, .. }) => task.logged_at.since(*at) > APART,
            Some(Newest::Touched { apart }) => *apart,
            None => false,
        };
        self.newest.insert(device, Newest::Touched { apart });
        let sensed = [(
            self.devices[device].property.to_owned(),
            Value::Integer(n.into()),
        )];
        let handled = Handled {
            sensed: sensed.into(),
            ..Handled::default()
        };
        self.returned(task.index, handled);
    }

    fn device(&self, link: &str) -> usize {
        let mut devices = self.devices.iter();
        devices
            .position(|known| known.name == link)
            .expect("one of its devices")
    }

    fn actuate(&mut self, link: &str, command: Command, sending: u64) {
        let device = self.device(link);
        let Some(serving) = self.routed(device) else {
            panic!("{link} has nobody who takes {command:?}")
        };
        self.misfortunes.sent_unsure += usize::from(self.is_unsure());
        // The machine's clock may be behind the store's by as much as the bound says.
        let late = |end: WallClock| end <= self.now.wall + SKEW;
        self.sent_late += usize::from(command.expires_at.is_some_and(late));
        let by_hand = self.newest.get(&device) == Some(&Newest::Touched { apart: true });
        // What came after what this process found in the log is no part of its recovery.
        let recovering = command.position.index <= self.found && !self.was_handed_over(device);
        self.overrode_hands += usize::from(by_hand && recovering);
        if self.dice.one_in(10) {
            return self.hand_back(link, sending);
        }
        let deed = Deed {
            at: self.now.wall,
            command,
            process: self.process,
            recovering,
        };
        let delay = self.delay(15);
        let at = self.in_order(serving, delay);
        self.later(at, Happening::Reached(serving, sending, deed));
    }

    /// The broker lets go of what has expired on its way.
    pub(super) fn reach(&mut self, device: usize, sending: u64, deed: Deed) {
        let (position, process) = (deed.command.position, deed.process);
        let expired = deed
            .command
            .expires_at
            .is_some_and(|end| end <= self.now.wall);
        if !expired {
            let deed = Deed {
                at: self.now.wall,
                ..deed
            };
            self.devices[device].take(deed);
        }
        let link = self.devices[device].name.to_owned();
        let delay = self.delay(15);
        let settled = Input::Settled {
            link,
            position,
            sending,
        };
        self.later(delay, Happening::Told(process, Box::new(settled)));
    }

    fn compare(&mut self, link: String, question: u64, properties: &[String]) {
        let serving = self.routed(self.device(&link));
        let device = &self.devices[serving.expect("only who serves is asked")];
        let asked = |(name, _): &(&String, &Value)| properties.contains(name);
        let shown = device.shows.iter().filter(asked);
        let shown = shown.map(|(name, value)| (name.clone(), value.clone()));
        let (shown, delay) = if device.answers {
            (Some(shown.collect()), self.delay(40))
        } else {
            (None, 200)
        };
        let answer = Input::Compared {
            link,
            question,
            shown,
        };
        self.answer(delay, answer);
    }
}
