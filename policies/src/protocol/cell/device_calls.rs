//! Function calls of appliances (paper, 4.2.1, Figure 4, cells 3 and 7): a command whose caller waits for
//! what the device says of it.
//!
//! The call is logged where it is emitted, as every command is, by the record whose handler made it; its
//! reply is logged where it is received, and a replay answers from that record. In between the rules
//! for commands hold: what sets a state is sent again after a crash, what must not be repeated only
//! with evidence. So each call ends once: with a reply, or with what is truly known of it.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::world::Asked;
use super::{Cell, DeviceCallLink, Effect, Handling, Waiting};
use crate::model::{ActuationClass, DeviceModel, Evidence, Value};
use crate::physical_world::{Position, earliest};
use crate::state_saving::{
    Begun, CallId, CallOutcome, Command, DeviceCall, Lane, OpenCall, Properties, Record, Settled,
};
use crate::time::{Now, WallClock};

/// What is said of a device by whoever speaks to it.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceWord {
    /// Nothing of the command in flight reached its appliance; it is offered again after a while.
    Unreached {
        /// The flow.
        link: String,
        /// As it came with the command.
        sending: u64,
        /// Why, for people.
        cause: String,
    },
    /// The appliance does not take a command, and was not changed by it.
    Refused {
        /// The flow.
        link: String,
        /// The command.
        position: Position,
        /// As it came with the command.
        sending: u64,
        /// Its words.
        reason: String,
    },
    /// The appliance carried out the command in flight, and said so itself.
    Answered {
        /// The flow.
        link: String,
        /// The newest of the commands that were merged in it.
        position: Position,
        /// As it came with the command.
        sending: u64,
        /// What it says.
        shown: Properties,
    },
    /// The appliance reports what it shows; of flows that carry calls only.
    Reported {
        /// The flow.
        link: String,
        /// What it shows.
        shown: Properties,
    },
}

/// The calls whose commands left in this process, and under which merged command.
#[derive(Debug, Default)]
pub(super) struct DeviceCalls {
    under: BTreeMap<CallId, Position>,
}

impl Cell {
    /// Somebody who speaks to a device says something.
    pub(super) fn told_of_device(&mut self, now: Now, word: DeviceWord, effects: &mut Vec<Effect>) {
        match word {
            DeviceWord::Unreached {
                link,
                sending,
                cause,
            } => {
                if !self.unreached(now, &link, sending, cause) {
                    return;
                }
                self.not_under_way(&link);
                self.end_overridden(now, &link, effects);
            }
            DeviceWord::Refused {
                link,
                position,
                sending,
                reason,
            } => {
                let commands = self.commands.get(&link);
                if !commands.is_some_and(|commands| commands.is_in_flight(sending)) {
                    return;
                }
                for call in self.calls_under(&link, position) {
                    self.end_call(call, CallOutcome::Refused(reason.clone()));
                }
                self.refused_by_device(now, &link, (position, sending), &reason, effects);
            }
            DeviceWord::Answered {
                link,
                position,
                sending,
                shown,
            } => {
                let answered = self.calls_under(&link, position);
                if !self.take(&link, (position, sending)) {
                    return;
                }
                for call in answered {
                    self.answer_call(call, shown.clone());
                }
                self.append(now, effects);
                self.actuate(now, &link, effects);
                self.stop_if_drained(effects);
            }
            DeviceWord::Reported { link, shown } => {
                let under = &self.device_calls.under;
                let left = |call: &OpenCall| under.contains_key(&CallId::at(call.position));
                for call in self.calls_shown(&link, &shown, left) {
                    self.answer_call(call, shown.clone());
                }
                self.append(now, effects);
            }
        }
    }

    /// The port of calls to an appliance.
    pub(super) fn device_call(&self, port: &str) -> Option<&DeviceCallLink> {
        let mut links = self.settings.device_calls.iter();
        links.find(|link| link.port == port)
    }

    /// Asks an appliance what a handler asks of it.
    pub(super) fn call_device(
        &mut self,
        handling: &Handling,
        position: Position,
        (port, within): (String, Option<Duration>),
        properties: Properties,
        effects: &mut Vec<Effect>,
    ) {
        let Some(DeviceCallLink {
            link,
            within: usual,
            ..
        }) = self.device_call(&port).cloned()
        else {
            return;
        };
        let Some(appliance) = self.appliance_of(&link).cloned() else {
            return;
        };
        let holds_until = self.holds_until(handling, &link, &port);
        let waits_until = handling.logged_at + within.unwrap_or(usual);
        let due_at = earliest(Some(waits_until), holds_until).unwrap_or(waits_until);
        let asked = Asked {
            position,
            at: handling.logged_at,
            holds_until,
            expires_at: Some(due_at),
            properties,
            leaves: true,
        };
        let outcome = if handling.expired {
            Err(CallOutcome::TooLate)
        } else if !self.calling.open.has_room() {
            Err(CallOutcome::TooMany)
        } else if self.is_out_of_service(&appliance) {
            Err(CallOutcome::Refused("the application has failed".into()))
        } else {
            let commanded = self.commanded(&link, &appliance, asked);
            commanded.map_err(|refused| CallOutcome::Refused(refused.to_string()))
        };
        let (due_at, ending, device) = match outcome {
            Ok(wanted) => {
                let device = DeviceCall {
                    link: link.clone(),
                    wanted,
                    before: None,
                    taken: false,
                };
                (due_at, CallOutcome::TimedOut, Some(device))
            }
            Err(ending) => (WallClock(0), ending, None),
        };
        self.calling.open.opened(OpenCall {
            position,
            port,
            due_at,
            ending,
            device,
        });
        self.limit_waiting(&link, effects);
    }

    /// Until when what is asked on a port holds in the world.
    fn holds_until(&self, handling: &Handling, link: &str, port: &str) -> Option<WallClock> {
        let mut links = self.settings.outbound.iter();
        let flow = links.find(|flow| flow.id == link && flow.port == port);
        match flow.and_then(|flow| flow.valid_for) {
            Some(span) => Some(handling.logged_at + span),
            None if handling.immediate => Some(handling.logged_at),
            None => handling.causes.or_sooner(handling.expires_at),
        }
    }

    /// The log says that a command is about to be sent: what its device counted before settles later
    /// whether it was carried out.
    pub(super) fn call_begun(&mut self, begun: &Begun) {
        if let Some(device) = self.calling.open.device_at(begun.position) {
            device.before = begun.counter.clone();
        }
    }

    /// The log says that commands are settled.
    pub(super) fn calls_settled(&mut self, settled: &Settled) {
        let of_link = self.calling.open.of_device(&settled.link);
        let covered = |call: &OpenCall| match settled.lane {
            Lane::Merged => call.position <= settled.position,
            Lane::Queued => call.position == settled.position,
        };
        let by_itself = |device: &DeviceCall| self.goes_by_itself(device);
        let covered: Vec<Position> = of_link
            .filter(|(call, device)| {
                covered(call) && by_itself(device) == (settled.lane == Lane::Queued)
            })
            .map(|(call, _)| call.position)
            .collect();
        for position in covered {
            if let Some(device) = self.calling.open.device_at(position) {
                device.taken = true;
            }
        }
    }

    /// A command leaves: the calls that it carries are on their way.
    pub(super) fn calls_leave(&mut self, link: &str, command: &Command) {
        let Some(commands) = self.commands.get(link) else {
            return;
        };
        let carried = |(call, device): &(&OpenCall, &DeviceCall)| {
            let mut wanted = device.wanted.keys();
            let is_part = wanted.any(|name| command.properties.contains_key(name));
            call.position == command.position
                || (is_part && call.position < command.position && commands.holds(call.position))
        };
        let calls = self.calling.open.of_device(link).filter(carried);
        let calls: Vec<CallId> = calls.map(|(call, _)| CallId::at(call.position)).collect();
        let under = calls.into_iter().map(|call| (call, command.position));
        self.device_calls.under.extend(under);
    }

    /// What was on its way did not arrive, and is offered again.
    pub(super) fn not_under_way(&mut self, link: &str) {
        let open = &self.calling.open;
        let calls: Vec<CallId> = open
            .of_device(link)
            .filter(|(_, device)| !device.taken)
            .map(|(call, _)| CallId::at(call.position))
            .collect();
        self.device_calls
            .under
            .retain(|call, _| !calls.contains(call));
    }

    /// Another device serves from here on: what the one before counted says nothing of it.
    pub(super) fn calls_handed_over(&mut self, link: &str) {
        let calls = self.calling.open.of_device(link);
        let positions: Vec<Position> = calls.map(|(call, _)| call.position).collect();
        for position in positions {
            if let Some(device) = self.calling.open.device_at(position) {
                device.before = None;
            }
            self.device_calls.under.remove(&CallId::at(position));
        }
    }

    fn calls_under(&self, link: &str, position: Position) -> Vec<CallId> {
        let under = &self.device_calls.under;
        let calls = self.calling.open.of_device(link);
        let calls = calls.map(|(call, _)| CallId::at(call.position));
        calls
            .filter(|call| under.get(call) == Some(&position))
            .collect()
    }

    /// The calls that a device shows to be carried out.
    fn calls_shown(
        &self,
        link: &str,
        shown: &Properties,
        concerns: impl Fn(&OpenCall) -> bool,
    ) -> Vec<CallId> {
        let model = self.commands.get(link).map(|commands| commands.model());
        let Some(model) = model else {
            return Vec::new();
        };
        let is_done = |(call, device): &(&OpenCall, &DeviceCall)| {
            let id = self.id_of(call.position).to_string();
            concerns(call) && shows(model, device, shown, &id)
        };
        let done = self.calling.open.of_device(link).filter(is_done);
        done.map(|(call, _)| CallId::at(call.position)).collect()
    }

    /// A device says what it shows, after a recovery or a doubt: calls that it shows to be carried out
    /// are answered, and those that nobody will carry out any more end.
    pub(super) fn judge_calls(
        &mut self,
        now: Now,
        link: &str,
        shown: Option<&Properties>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(shown) = shown {
            for call in self.calls_shown(link, shown, |_| true) {
                self.answer_call(call, shown.clone());
            }
        }
        self.end_overridden(now, link, effects);
    }

    /// What a device is asked for besides, so that calls whose commands were taken can be answered.
    pub(super) fn asked_for_calls(&self, link: &str) -> Vec<String> {
        let evidence = match self.commands.get(link).map(|it| &it.model().evidence) {
            Some(Some(Evidence::Counter(name) | Evidence::LastCommand(name))) => Some(name.clone()),
            Some(None) | None => None,
        };
        let calls = self.calling.open.of_device(link);
        let taken: Vec<&DeviceCall> = calls
            .map(|(_, device)| device)
            .filter(|device| device.taken)
            .collect();
        let wanted = taken
            .iter()
            .flat_map(|device| device.wanted.keys().cloned());
        let evidence = evidence.filter(|_| !taken.is_empty());
        wanted.chain(evidence).collect()
    }

    /// Calls whose commands wait no more and never left end: something newer took their place, or a
    /// person has to say what became of them.
    pub(super) fn end_overridden(&mut self, now: Now, link: &str, effects: &mut Vec<Effect>) {
        if !self.is_live() {
            return;
        }
        let Some(commands) = self.commands.get(link) else {
            return;
        };
        let unknown: Vec<Position> = commands.unknown().map(|it| it.command.position).collect();
        let under = &self.device_calls.under;
        let outcome = |(call, device): (&OpenCall, &DeviceCall)| {
            let id = CallId::at(call.position);
            if unknown.contains(&call.position) {
                return Some((id, CallOutcome::Unknown));
            }
            let waits = commands.holds(call.position)
                || under.contains_key(&id)
                || device.taken
                // What ends with the call itself is told as that.
                || !now.surely_before(Some(call.due_at));
            (!waits).then_some((id, CallOutcome::Overridden))
        };
        let over: Vec<_> = self
            .calling
            .open
            .of_device(link)
            .filter_map(outcome)
            .collect();
        if over.is_empty() {
            return;
        }
        for (call, outcome) in over {
            self.end_call(call, outcome);
        }
        self.append(now, effects);
    }

    /// The same over all flows on which the element calls appliances.
    pub(super) fn end_all_overridden(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let links = self.settings.device_calls.iter();
        let links: Vec<String> = links.map(|link| link.link.clone()).collect();
        for link in links {
            self.end_overridden(now, &link, effects);
        }
    }

    /// The reply is there: first to the log, behind what was carried out before it.
    fn answer_call(&mut self, call: CallId, shown: Properties) {
        self.log_end(call, Record::Answered { call, shown });
    }

    fn end_call(&mut self, call: CallId, outcome: CallOutcome) {
        self.log_end(call, Record::CallEnded { call, outcome });
    }

    fn log_end(&mut self, call: CallId, record: Record) {
        self.note_settled();
        self.calling.open.on_its_way(call);
        self.device_calls.under.remove(&call);
        self.log.waiting.push_back(Waiting {
            record,
            receipts: Vec::new(),
        });
    }

    /// Whether the command of a call goes by itself, in order, and is never merged.
    fn goes_by_itself(&self, device: &DeviceCall) -> bool {
        let model = self.commands.get(&device.link).map(|it| it.model());
        model.is_some_and(|model| {
            let mut names = device.wanted.keys();
            names.any(|name| by_itself(model, name))
        })
    }
}

fn by_itself(model: &DeviceModel, name: &str) -> bool {
    let property = model.properties.get(name);
    property.is_some_and(|it| it.relative.is_some()) || model.class_of(name) != ActuationClass::Set
}

/// Whether a device shows that it did what it was asked: each property that was set, as far as it shows
/// that, and evidence of what it does by itself.
fn shows(model: &DeviceModel, device: &DeviceCall, shown: &Properties, id: &str) -> bool {
    let is_shown = |name: &String| {
        let property = model.properties.get(name);
        property.is_none_or(|property| property.access.is_shown())
    };
    let (alone, set): (Vec<_>, Vec<_>) = device
        .wanted
        .iter()
        .partition(|(name, _)| by_itself(model, name));
    let mut seen = false;
    for (name, value) in set.into_iter().filter(|(name, _)| is_shown(name)) {
        if !shown.get(name).is_some_and(|shown| shown.means(value)) {
            return false;
        }
        seen = true;
    }
    if alone.is_empty() {
        return seen;
    }
    match &model.evidence {
        Some(Evidence::Counter(counter)) => {
            let before = device.before.as_ref().and_then(Value::number);
            let after = shown.get(counter).and_then(Value::number);
            before
                .zip(after)
                .is_some_and(|(before, after)| after > before)
        }
        Some(Evidence::LastCommand(last)) => {
            let id = Value::Text(id.into());
            shown.get(last).is_some_and(|last| last.means(&id))
        }
        None => {
            let mut alone = alone.into_iter();
            alone.all(|(name, value)| {
                is_shown(name) && shown.get(name).is_some_and(|shown| shown.means(value))
            })
        }
    }
}
