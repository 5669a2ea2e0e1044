//! The callee's side of a function call: carried out once, withdrawn, or answered without being
//! carried out (paper, 4.2.1: intercept, record, then call the original function).

use alloc::vec::Vec;

use super::calling::Caller;
use super::handling::is_expired;
use super::{Cell, Effect, Handling, InboundLink, Phase, ServedLink, Source, TaskInput, Waiting};
use crate::ids::EntityId;
use crate::physical_world::{Causes, Position};
use crate::protocol::messages::Envelope;
use crate::state_saving::{CallOutcome, Event, REPLY, Record, Reply, Request};
use crate::time::{Now, WallClock};

/// What callers are told of a call whose handler kept failing.
const GIVEN_UP: &str =
    "the callee's handler failed on it repeatedly; it is among the callee's dead letters";
/// What callers are told of bytes that are no call.
const NO_CALL: &str = "what arrived at the callee is no call; run the same build at both ends";

impl Cell {
    /// Lets an element call that the topology did not name; for test benches.
    pub fn add_caller(&mut self, link: ServedLink, caller: EntityId) {
        self.add_source(InboundLink {
            id: link.id.clone(),
            source: caller,
            kind: Source::Element,
        });
        self.outboxes.entry(link.replies.clone()).or_default();
        self.calling
            .direct
            .extend([link.id.clone(), link.replies.clone()]);
        self.settings.served.push(link);
    }

    /// Offers a call to the handler, unless it is not to be carried out.
    pub(super) fn offer_request(
        &mut self,
        now: Now,
        index: u64,
        logged_at: WallClock,
        event: Event,
        replies: EntityId,
        effects: &mut Vec<Effect>,
    ) {
        let call = event.id.position;
        let caller = Caller { replies, call };
        let place = (event.binding.clone(), call);
        let expired = is_expired(event.occurred_at, event.expires_at, logged_at);
        let payload = match Request::from_bytes(&event.payload) {
            // What it withdrew, if anything, stands in a record of its own.
            Some(Request::Cancel(call)) => {
                self.calling
                    .withdrawn
                    .remove(&(event.binding.clone(), call));
                return self.passed_over(index, &event);
            }
            None => Err(CallOutcome::Failed(NO_CALL.into())),
            Some(Request::Call(_)) if self.skipped.contains(&index) => {
                Err(CallOutcome::Failed(GIVEN_UP.into()))
            }
            Some(Request::Call(_)) if self.calling.withdrawn.contains_key(&place) => {
                Err(CallOutcome::Cancelled)
            }
            Some(Request::Call(_)) if expired => Err(CallOutcome::TooLate),
            Some(Request::Call(payload)) => Ok(payload),
        };
        match payload {
            Err(outcome) => {
                self.passed_over(index, &event);
                self.reply_from((index, logged_at), caller, &event.causes, outcome);
                if self.is_live() {
                    self.send(now, effects);
                }
            }
            Ok(payload) => {
                let Event {
                    binding,
                    id,
                    occurred_at,
                    expires_at,
                    causes,
                    ..
                } = event;
                let handling = Handling {
                    index,
                    logged_at,
                    expired: false,
                    left_out: false,
                    immediate: false,
                    // How long its caller waits says nothing of how long its effects hold.
                    expires_at: None,
                    causes,
                    occurred: None,
                    what: alloc::format!("call {id} on {binding}"),
                    binding: Some((binding, call)),
                    caller: Some(caller),
                };
                let input = TaskInput::Call {
                    id,
                    occurred_at,
                    expires_at,
                    payload,
                };
                self.hand_over(handling, input, effects);
            }
        }
    }

    /// Puts a handler's answer where it will be sent from.
    pub(super) fn reply(&mut self, handling: &Handling, caller: Caller, outcome: CallOutcome) {
        let place = (handling.index, handling.logged_at);
        self.reply_from(place, caller, &handling.causes, outcome);
    }

    fn reply_from(
        &mut self,
        (index, logged_at): (u64, WallClock),
        to: Caller,
        causes: &Causes,
        outcome: CallOutcome,
    ) {
        let Caller { replies, call } = to;
        let position = Position::new(self.lineage, index, REPLY);
        if let Some(outbox) = self.outboxes.get_mut(&replies) {
            let reply = Reply { call, outcome }.to_bytes();
            outbox.put(position, logged_at, None, causes, reply);
        }
    }

    /// A caller does not want a call any more. It is withdrawn if no handler has seen it, here or in
    /// a life before: then nothing can have followed from it. The log says so before anything that
    /// comes after the call is handled.
    pub(super) fn withdraw(&mut self, link: &EntityId, envelope: &Envelope) {
        if !self.settings.served.iter().any(|served| served.id == *link) {
            return;
        }
        let Some(Request::Cancel(call)) = Request::from_bytes(&envelope.payload) else {
            return;
        };
        if !self.is_unseen(link, call) {
            return;
        }
        let place = (link.clone(), call);
        self.calling.withdrawn.insert(place, false);
        self.log.waiting.push_back(Waiting {
            record: Record::Withdrawn {
                binding: link.clone(),
                call,
            },
            receipts: Vec::new(),
        });
    }

    /// Whether a call waits here and was never offered to a handler.
    fn is_unseen(&self, link: &EntityId, call: Position) -> bool {
        let is_it = |record: &Record| {
            let Record::Event(event) = record else {
                return false;
            };
            event.binding == *link && event.id.position == call
        };
        // What was logged before this start may have been handled before it.
        let new = match self.phase {
            Phase::Live => Some(0),
            Phase::Replaying { upto, .. } => Some(upto),
            Phase::Starting | Phase::Mending { .. } | Phase::Halted => None,
        };
        let ready = self.log.ready.iter();
        let mut ready = ready.filter(|(index, _, _)| new.is_some_and(|new| *index > new));
        let in_flight = self.log.in_flight.iter().flat_map(|batch| &batch.records);
        let mut unlogged = in_flight.chain(&self.log.waiting);
        ready.any(|(_, _, record)| is_it(record)) || unlogged.any(|waiting| is_it(&waiting.record))
    }

    /// Whether the next record is a call whose withdrawal is on its way to the log.
    pub(super) fn awaits_withdrawal(&self) -> bool {
        let Some((_, _, Record::Event(event))) = self.log.ready.front() else {
            return false;
        };
        let place = (event.binding.clone(), event.id.position);
        self.calling.withdrawn.get(&place) == Some(&false)
    }
}
