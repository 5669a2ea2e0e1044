//! Calls on a bench: those that the element makes, and those that it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::physical_world::{Causes, Position};
use lamplighter_policies::protocol::cell::{CallLink, Cell, Input, ServedLink};
use lamplighter_policies::protocol::messages::Envelope;
use lamplighter_policies::state_saving::{
    CALLS_FROM, CallId, CallOutcome, CallWish, REPLY, Reply, Request,
};
use lamplighter_policies::time::WallClock;

/// The links for calls of a bench's element, with how far each has come.
#[derive(Clone, Default)]
pub(super) struct Links {
    /// By port.
    called: BTreeMap<String, (CallLink, Position)>,
    /// By caller.
    callers: BTreeMap<EntityId, Position>,
}

/// What the element asked of callees and answered callers.
#[derive(Default)]
pub(super) struct Heard {
    asked: Vec<(String, CallId, Vec<u8>)>,
    cancelled: Vec<CallId>,
    replies: BTreeMap<Position, CallOutcome>,
}

impl Links {
    /// Binds a port; answers come as the input variant that `reply_prefix` names.
    pub(super) fn bind(&mut self, cell: &mut Cell, port: &str, reply_prefix: Vec<u8>) {
        let name = format!("call-{}", self.called.len());
        let id = EntityId::new(&name).expect("a valid id");
        let link = CallLink {
            replies: replies_of(&id),
            id,
            port: port.to_owned(),
            prefix: Vec::new(),
            reply_prefix,
            within: Duration::from_secs(5),
        };
        cell.add_callee(link.clone(), link.id.clone());
        self.called
            .insert(port.to_owned(), (link, Position::default()));
    }

    /// Tells a new cell of all links.
    pub(super) fn tell(&self, cell: &mut Cell) {
        for (link, _) in self.called.values() {
            cell.add_callee(link.clone(), link.id.clone());
        }
        for caller in self.callers.keys() {
            cell.add_caller(served(caller), caller.clone());
        }
    }

    /// A call by `caller`, and where in its history it is.
    pub(super) fn call(
        &mut self,
        cell: &mut Cell,
        caller: &EntityId,
        payload: Vec<u8>,
        now: WallClock,
    ) -> (Position, Input) {
        let last = self.callers.entry(caller.clone()).or_insert_with(|| {
            cell.add_caller(served(caller), caller.clone());
            Position::default()
        });
        let position = Position::new(1, last.index + 1, CALLS_FROM);
        let payload = Request::Call(payload).to_bytes();
        let input = event(&served(caller).id, last, position, now, payload);
        (position, input)
    }

    /// The answer to a call of the element.
    pub(super) fn answer(
        &mut self,
        port: &str,
        call: CallId,
        outcome: CallOutcome,
        now: WallClock,
    ) -> Option<Input> {
        let (link, last) = self.called.get_mut(port)?;
        let position = Position::new(1, last.index + 1, REPLY);
        let call = Position::new(1, call.index, CALLS_FROM + call.number);
        let reply = Reply { call, outcome }.to_bytes();
        Some(event(&link.replies, last, position, now, reply))
    }
}

impl Heard {
    /// Notes what a handler asked of callees.
    pub(super) fn note(&mut self, index: u64, wishes: &[CallWish]) {
        for (number, wish) in (0..).zip(wishes) {
            match wish {
                CallWish::Call { port, payload, .. } => {
                    let id = CallId { index, number };
                    self.asked.push((port.clone(), id, payload.clone()));
                }
                CallWish::Cancel(call) => self.cancelled.push(*call),
            }
        }
    }

    /// Notes the replies among what was sent to elements.
    pub(super) fn sent(&mut self, link: &EntityId, envelopes: &[Envelope]) {
        if is_replies(link) {
            let replies = envelopes.iter();
            let replies = replies.filter_map(|envelope| Reply::from_bytes(&envelope.payload));
            self.replies
                .extend(replies.map(|reply| (reply.call, reply.outcome)));
        }
    }

    pub(super) fn take_asked(&mut self, port: &str) -> Vec<(CallId, Vec<u8>)> {
        let all = std::mem::take(&mut self.asked).into_iter();
        let (mine, others) = all.partition(|(called, _, _)| called == port);
        self.asked = others;
        let mine: Vec<(String, CallId, Vec<u8>)> = mine;
        mine.into_iter()
            .map(|(_, id, payload)| (id, payload))
            .collect()
    }

    pub(super) fn take_cancelled(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.cancelled)
    }

    pub(super) fn take_reply(&mut self, call: Position) -> Option<CallOutcome> {
        self.replies.remove(&call)
    }
}

/// One event on a link, after the last one there.
fn event(
    link: &EntityId,
    last: &mut Position,
    position: Position,
    now: WallClock,
    payload: Vec<u8>,
) -> Input {
    let after = std::mem::replace(last, position);
    let envelope = Envelope {
        position,
        after,
        occurred_at: now,
        expires_at: None,
        causes: Causes::default(),
        payload,
    };
    Input::Received {
        link: link.clone(),
        envelopes: vec![envelope],
    }
}

fn served(caller: &EntityId) -> ServedLink {
    let id = EntityId::new(&format!("{caller}.calls")).expect("a short id of a test");
    ServedLink {
        replies: replies_of(&id),
        id,
    }
}

fn replies_of(link: &EntityId) -> EntityId {
    EntityId::new(&format!("{link}.reply")).expect("a short id of a test")
}

fn is_replies(link: &EntityId) -> bool {
    link.as_str().ends_with(".reply")
}
