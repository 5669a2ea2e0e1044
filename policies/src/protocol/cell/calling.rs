//! Function calls between elements (paper, 4.2.1: function call record; 2.1, Figure 4, cells 1 and 5).
//!
//! A call and its reply are events like others: logged where they arrive, before anything is done
//! about them, kept by their sender until then, and found again by replay under the same ids. So the
//! function runs once in effect, and its caller has one answer. Departure from the paper's figure:
//! the caller logs the reply too, because it is an input without which the caller has no replay.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::{
    CallLink, Cell, CellSettings, Effect, Handled, Handling, InboundLink, Phase, Source, TaskInput,
    Waiting,
};
use crate::ids::EntityId;
use crate::physical_world::{Causes, EventId, Position};
use crate::state_saving::{
    CALLS_FROM, CallId, CallOutcome, CallWish, Calls, Event, OpenCall, Properties, Record, Reply,
    Request,
};
use crate::time::{Now, WallClock};

/// What a cell knows of calls.
#[derive(Debug, Default)]
pub(super) struct Calling {
    /// The calls that this element made and whose answers it has not handled.
    pub(super) open: Calls,
    /// Calls that arrived here and were withdrawn before they were handled, by binding and place, and
    /// whether the log says so yet.
    pub(super) withdrawn: BTreeMap<(EntityId, Position), bool>,
    /// The links that do not go through the broker.
    pub(super) direct: BTreeSet<EntityId>,
}

/// A call that is being handled: where its answer goes.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) replies: EntityId,
    pub(super) call: Position,
}

impl Calling {
    pub(super) fn new(settings: &CellSettings) -> Self {
        let called = settings
            .calls
            .iter()
            .flat_map(|link| [&link.id, &link.replies]);
        let served = settings
            .served
            .iter()
            .flat_map(|link| [&link.id, &link.replies]);
        Self {
            direct: called.chain(served).cloned().collect(),
            ..Self::default()
        }
    }

    /// Whether a link goes from host to host, so that it needs no broker.
    pub(super) fn is_direct(&self, link: &EntityId) -> bool {
        self.direct.contains(link)
    }

    /// The log says that a call is not to be carried out.
    pub(super) fn withdrawn(&mut self, binding: &EntityId, call: Position) {
        self.withdrawn.insert((binding.clone(), call), true);
    }
}

/// The links on which events leave for elements because of calls.
pub(super) fn outgoing(settings: &CellSettings) -> impl Iterator<Item = EntityId> + '_ {
    let calls = settings.calls.iter().map(|link| link.id.clone());
    calls.chain(settings.served.iter().map(|link| link.replies.clone()))
}

impl Cell {
    /// Lets the element call what the topology did not name; for test benches.
    pub fn add_callee(&mut self, link: CallLink, callee: EntityId) {
        self.add_source(InboundLink {
            id: link.replies.clone(),
            source: callee,
            kind: Source::Element,
        });
        self.outboxes.entry(link.id.clone()).or_default();
        self.calling
            .direct
            .extend([link.id.clone(), link.replies.clone()]);
        self.settings.calls.push(link);
    }

    /// Sends what a handler asked of callees, under ids that follow from the log.
    pub(super) fn call_out(
        &mut self,
        handling: &Handling,
        wishes: Vec<CallWish>,
        effects: &mut Vec<Effect>,
    ) {
        for (number, wish) in (0..).zip(wishes) {
            let k = CALLS_FROM + number;
            let position = Position::new(self.lineage, handling.index, k);
            match wish {
                CallWish::Call {
                    port,
                    within,
                    properties,
                    ..
                } if self.device_call(&port).is_some() => {
                    self.call_device(handling, position, (port, within), properties, effects);
                }
                CallWish::Call {
                    port,
                    within,
                    payload,
                    ..
                } => {
                    let Some(link) = self.call_link(&port) else {
                        continue;
                    };
                    let due_at = handling.logged_at + within.unwrap_or(link.within);
                    let (id, payload) = (link.id.clone(), [&*link.prefix, &payload].concat());
                    let hopeless = if handling.expired {
                        Some(CallOutcome::TooLate)
                    } else {
                        (!self.calling.open.has_room()).then_some(CallOutcome::TooMany)
                    };
                    if hopeless.is_none()
                        && let Some(outbox) = self.outboxes.get_mut(&id)
                    {
                        let request = Request::Call(payload).to_bytes();
                        let causes = &handling.causes;
                        outbox.put(position, handling.logged_at, Some(due_at), causes, request);
                    }
                    self.calling.open.opened(OpenCall {
                        position,
                        port,
                        due_at: if hopeless.is_some() {
                            WallClock(0)
                        } else {
                            due_at
                        },
                        ending: hopeless.unwrap_or(CallOutcome::TimedOut),
                        device: None,
                    });
                }
                CallWish::Cancel(call) => self.cancel(handling, position, call),
            }
        }
    }

    /// Asks the callee not to carry out a call. What becomes of it is in the answer.
    fn cancel(&mut self, handling: &Handling, position: Position, call: CallId) {
        let Some(open) = self.calling.open.get(call) else {
            return;
        };
        let Some(link) = self.call_link(&open.port) else {
            return;
        };
        let request = Request::Cancel(open.position).to_bytes();
        if let Some(outbox) = self.outboxes.get_mut(&link.id.clone()) {
            let causes = &handling.causes;
            outbox.put(position, handling.logged_at, None, causes, request);
        }
    }

    fn call_link(&self, port: &str) -> Option<&CallLink> {
        self.settings.calls.iter().find(|link| link.port == port)
    }

    /// Why a handler fails that called a port which the topology binds to no callee. What was handled
    /// before this process was started stands, whatever the topology was then.
    pub(super) fn unbound_call(&self, handled: &Handled) -> Option<String> {
        let unbound = |wish: &CallWish| match wish {
            CallWish::Call { port, .. } => {
                let is_bound = self.call_link(port).is_some() || self.device_call(port).is_some();
                (!is_bound).then(|| port.clone())
            }
            CallWish::Cancel(_) => None,
        };
        let recovering = matches!(self.phase, Phase::Replaying { .. }) && !self.announced;
        let mut calls = handled.calls.iter().filter(|_| !recovering);
        let port = calls.find_map(unbound)?;
        let mut outputs = self.settings.outbound.iter();
        let cure = if outputs.any(|link| link.port == port) {
            "; it is an output, on which it can emit"
        } else {
            ""
        };
        Some(alloc::format!(
            "it called the port {port:?}, and the topology binds no call to it{cure}"
        ))
    }

    /// Logs the end of calls that end by themselves.
    pub(super) fn end_calls(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.is_live() || self.stop_requested || !now.is_sure() {
            return;
        }
        for (call, outcome) in self.calling.open.due(now) {
            self.log.waiting.push_back(Waiting {
                record: Record::CallEnded { call, outcome },
                receipts: Vec::new(),
            });
        }
        self.append(now, effects);
    }

    /// Whether a link carries calls to this element or replies to its own.
    pub(super) fn carries_calls(&self, link: &EntityId) -> bool {
        self.calling.is_direct(link)
    }

    /// Offers a call or a reply to the handler, unless it needs none.
    pub(super) fn offer_call_event(
        &mut self,
        now: Now,
        index: u64,
        logged_at: WallClock,
        event: Event,
        effects: &mut Vec<Effect>,
    ) {
        let served = self.settings.served.iter();
        let served = served.into_iter().find(|link| link.id == event.binding);
        match served.map(|link| link.replies.clone()) {
            Some(replies) => self.offer_request(now, index, logged_at, event, replies, effects),
            None => self.offer_reply(index, logged_at, event, effects),
        }
    }

    /// A record that no handler sees.
    pub(super) fn passed_over(&mut self, index: u64, event: &Event) {
        self.folded.insert(event.binding.clone(), event.id.position);
        self.log.handled = index;
    }

    fn offer_reply(
        &mut self,
        index: u64,
        logged_at: WallClock,
        event: Event,
        effects: &mut Vec<Effect>,
    ) {
        let reply = Reply::from_bytes(&event.payload);
        let closed = reply.and_then(|reply| {
            let id = CallId::at(reply.call);
            let open = self.calling.open.get(id)?;
            // A reply to a call of a history that was lost answers nothing.
            (open.position == reply.call).then_some((id, Ended::So(reply.outcome)))
        });
        let Some((call, outcome)) = closed else {
            self.counters.late_replies += 1;
            return self.passed_over(index, &event);
        };
        let binding = Some((event.binding, event.id.position));
        let answer = Answer {
            call,
            outcome,
            id: event.id,
            occurred_at: event.occurred_at,
            causes: event.causes,
            binding,
        };
        self.offer_answer(index, logged_at, answer, effects);
    }

    /// A call ended by itself: its caller is told, unless a reply came first.
    pub(super) fn offer_ended(
        &mut self,
        index: u64,
        logged_at: WallClock,
        (call, outcome): (CallId, Ended),
        effects: &mut Vec<Effect>,
    ) {
        if self.calling.open.get(call).is_none() {
            self.calling.open.closed(call);
            self.log.handled = index;
            return;
        }
        let id = EventId {
            source: self.settings.element.clone(),
            position: Position::new(0, index, 0),
        };
        let answer = Answer {
            call,
            outcome,
            id,
            occurred_at: logged_at,
            causes: Causes::default(),
            binding: None,
        };
        self.offer_answer(index, logged_at, answer, effects);
    }

    fn offer_answer(
        &mut self,
        index: u64,
        logged_at: WallClock,
        answer: Answer,
        effects: &mut Vec<Effect>,
    ) {
        let Answer {
            call,
            outcome,
            id,
            occurred_at,
            causes,
            binding,
        } = answer;
        let open = self.calling.open.closed(call);
        let prefix = open.and_then(|open| self.reply_prefix(&open.port));
        let (Some(prefix), false) = (prefix, self.skipped.contains(&index)) else {
            // The topology binds its port no longer, or the caller's handler fails on it.
            if let Some((link, position)) = binding {
                self.folded.insert(link, position);
            }
            self.log.handled = index;
            return;
        };
        let handling = Handling {
            index,
            logged_at,
            expired: false,
            left_out: false,
            immediate: false,
            expires_at: None,
            causes,
            occurred: None,
            what: alloc::format!("answer to call {call}"),
            binding,
            caller: None,
        };
        let input = match outcome {
            Ended::So(outcome) => TaskInput::Answer {
                call,
                outcome,
                prefix,
                id,
                occurred_at,
            },
            Ended::Shown(shown) => TaskInput::Shown {
                call,
                shown,
                prefix,
                id,
                occurred_at,
            },
        };
        self.hand_over(handling, input, effects);
    }

    /// What is put before the answer to a call on this port.
    fn reply_prefix(&self, port: &str) -> Option<Vec<u8>> {
        let element = self.call_link(port).map(|link| &link.reply_prefix);
        let device = || self.device_call(port).map(|link| &link.reply_prefix);
        element.or_else(device).cloned()
    }

    /// A connection from host to host is there: both ends of its links find out what the other misses.
    pub(super) fn reached(&mut self, now: Now, links: &[EntityId], effects: &mut Vec<Effect>) {
        if !self.is_live() {
            return;
        }
        for link in links {
            if self.is_blocked(link) {
                continue;
            }
            if let Some(inbound) = self.inbound.get(link) {
                let mark = inbound.mark();
                self.acknowledge(link, effects);
                let link = link.clone();
                effects.push(Effect::Resume { link, mark });
            }
            if let Some(outbox) = self.outboxes.get_mut(link) {
                let envelopes = outbox.resume(now.monotonic, outbox.last_acknowledged());
                if !envelopes.is_empty() {
                    let link = link.clone();
                    effects.push(Effect::Send { link, envelopes });
                }
            }
        }
    }

    /// All links that need no broker, when the element goes live.
    pub(super) fn reached_all(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let links: Vec<EntityId> = self.calling.direct.iter().cloned().collect();
        self.reached(now, &links, effects);
    }
}

/// An answer on its way to the handler.
struct Answer {
    call: CallId,
    outcome: Ended,
    id: EventId,
    occurred_at: WallClock,
    causes: Causes,
    binding: Option<(EntityId, Position)>,
}

/// How a call ended.
pub(super) enum Ended {
    /// As its callee or this element says.
    So(CallOutcome),
    /// An appliance shows this.
    Shown(Properties),
}
