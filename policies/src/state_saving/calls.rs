//! Function calls: what is asked and answered over a binding, and which calls are open (paper,
//! 4.2.1, function call record).
//!
//! A call is an event in its caller's outbox and its reply one in the callee's, so both have a place
//! in a log, are kept until the other end has logged them, and are accepted once. What this adds is
//! the caller's list of open calls. It follows from the caller's log alone: a call is opened by the
//! record whose handler made it, and closed by the record that holds its answer.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::commands::Properties;
use crate::model::Value;
use crate::physical_world::Position;
use crate::time::{Now, WallClock};

/// Calls are counted from here on, so that no other output of the same input has their place.
pub const CALLS_FROM: u32 = 1 << 31;

/// Which output of a call's input the reply is: none before it is, and there is one reply.
pub const REPLY: u32 = u32::MAX;

/// How many calls of one element may be open at a time; the next is answered with
/// [`CallOutcome::TooMany`].
pub const OPEN_CALLS_MAX: usize = 1_024;

/// Which call of an element: the same in every replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The place in the caller's log of the input whose handler made the call.
    pub index: u64,
    /// Which of the calls and cancellations of that handler it was; the first is 0.
    pub number: u32,
}

impl CallId {
    /// The call that is asked for at this place of its caller's history.
    #[must_use]
    pub fn at(position: Position) -> Self {
        Self {
            index: position.index,
            number: position.k.wrapping_sub(CALLS_FROM),
        }
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.number)
    }
}

/// Text that is not a call's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a call's id is two numbers with a dot between them")]
pub struct NoCallId;

impl core::str::FromStr for CallId {
    type Err = NoCallId;

    fn from_str(text: &str) -> Result<Self, NoCallId> {
        let (index, number) = text.split_once('.').ok_or(NoCallId)?;
        Ok(Self {
            index: index.parse().map_err(|_| NoCallId)?,
            number: number.parse().map_err(|_| NoCallId)?,
        })
    }
}

// As text, so that it may be a key of a map in any encoding.
impl Serialize for CallId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a handler asks of a callee.
#[derive(Clone, Debug, PartialEq)]
pub enum CallWish {
    /// Call what is bound to a port.
    Call {
        /// The port.
        port: String,
        /// How long the answer may take; `None` leaves it to the topology.
        within: Option<core::time::Duration>,
        /// What is asked, encoded.
        payload: Vec<u8>,
        /// The same as properties, for an appliance to show; empty where none is bound to the port.
        properties: Properties,
    },
    /// Withdraw a call if it has not been carried out.
    Cancel(CallId),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallOutcome {
    /// The callee carried it out and gave this, encoded.
    #[serde(rename = "a")]
    Answered(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The callee ran and refused.
    #[serde(rename = "r")]
    Refused(String),
    /// The callee failed on it repeatedly and gave it up: nothing of it was carried out.
    #[serde(rename = "f")]
    Failed(String),
    /// It was withdrawn before it was carried out.
    #[serde(rename = "c")]
    Cancelled,
    /// It reached the callee when its caller no longer waited: it was not carried out.
    #[serde(rename = "l")]
    TooLate,
    /// No answer came in time: nobody knows whether it was carried out.
    #[serde(rename = "t")]
    TimedOut,
    /// Too many calls were open: it was not sent.
    #[serde(rename = "m")]
    TooMany,
    /// Something newer was asked of the same appliance before this was known to be carried out.
    #[serde(rename = "o")]
    Overridden,
    /// The appliance was told, it must not be told again, and nobody knows whether it did it: a person
    /// has to say.
    #[serde(rename = "u")]
    Unknown,
}

impl fmt::Display for CallOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(_) => f.write_str("answered"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::TooLate => f.write_str("too late"),
            Self::TimedOut => f.write_str("timed out"),
            Self::TooMany => f.write_str("too many open calls"),
            Self::Overridden => f.write_str("overridden"),
            Self::Unknown => f.write_str("of unknown fate"),
        }
    }
}

/// What travels from caller to callee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Carry this out: the callee's input, encoded.
    Call(Vec<u8>),
    /// Do not carry out the call at this place, if you have not.
    Cancel(Position),
}

const CALL: u8 = 0;
const CANCEL: u8 = 1;

impl Request {
    /// As it stands in an event.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Call(payload) => [&[CALL], payload.as_slice()].concat(),
            Self::Cancel(call) => [&[CANCEL], place_bytes(*call).as_slice()].concat(),
        }
    }

    /// What an event asks; `None` if it is no request.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&CALL, payload) => Some(Self::Call(payload.to_vec())),
            (&CANCEL, place) => match place_of(place)? {
                (call, []) => Some(Self::Cancel(call)),
                (_, [..]) => None,
            },
            (_, _) => None,
        }
    }
}

/// What travels from callee to caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The call that it answers.
    pub call: Position,
    /// How the call ended.
    pub outcome: CallOutcome,
}

impl Reply {
    /// As it stands in an event.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (tag, rest): (u8, &[u8]) = match &self.outcome {
            CallOutcome::Answered(payload) => (0, payload),
            CallOutcome::Refused(reason) => (1, reason.as_bytes()),
            CallOutcome::Failed(reason) => (2, reason.as_bytes()),
            CallOutcome::Cancelled => (3, &[]),
            CallOutcome::TooLate => (4, &[]),
            CallOutcome::TimedOut => (5, &[]),
            CallOutcome::TooMany => (6, &[]),
            CallOutcome::Overridden => (7, &[]),
            CallOutcome::Unknown => (8, &[]),
        };
        [place_bytes(self.call).as_slice(), &[tag], rest].concat()
    }

    /// What an event answers; `None` if it is no reply.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (call, rest) = place_of(bytes)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_string();
        let outcome = match rest.split_first()? {
            (0, payload) => CallOutcome::Answered(payload.to_vec()),
            (1, reason) => CallOutcome::Refused(text(reason)),
            (2, reason) => CallOutcome::Failed(text(reason)),
            (3, []) => CallOutcome::Cancelled,
            (4, []) => CallOutcome::TooLate,
            (5, []) => CallOutcome::TimedOut,
            (6, []) => CallOutcome::TooMany,
            (7, []) => CallOutcome::Overridden,
            (8, []) => CallOutcome::Unknown,
            (_, _) => return None,
        };
        Some(Self { call, outcome })
    }
}

fn place_bytes(Position { lineage, index, k }: Position) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    bytes.extend(lineage.to_be_bytes());
    bytes.extend(index.to_be_bytes());
    bytes.extend(k.to_be_bytes());
    bytes
}

fn place_of(bytes: &[u8]) -> Option<(Position, &[u8])> {
    let (lineage, rest) = bytes.split_first_chunk()?;
    let (index, rest) = rest.split_first_chunk()?;
    let (k, rest) = rest.split_first_chunk()?;
    let position = Position::new(
        u32::from_be_bytes(*lineage),
        u64::from_be_bytes(*index),
        u32::from_be_bytes(*k),
    );
    Some((position, rest))
}

/// A call whose answer its caller has not handled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenCall {
    /// Where in the caller's history it was made.
    pub position: Position,
    /// The port that was called.
    pub port: String,
    /// When it ends by itself.
    pub due_at: WallClock,
    /// How it then ends.
    pub ending: CallOutcome,
    /// What is known of it if an appliance was called.
    #[serde(default)]
    pub device: Option<DeviceCall>,
}

/// A call of an appliance: a command whose caller waits for what the device says of it. All of it
/// follows from the caller's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceCall {
    /// The flow over which the command goes.
    pub link: String,
    /// What the device is to show or do.
    pub wanted: Properties,
    /// What it counted before a command that must not be repeated.
    pub before: Option<Value>,
    /// Whether the log says that the command was carried out, or handed over to a broker.
    pub taken: bool,
}

/// The open calls of one element.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    open: BTreeMap<CallId, OpenCall>,
    /// Calls whose end is on its way through the log and must not be logged again.
    #[serde(skip)]
    ending: BTreeSet<CallId>,
}

impl Calls {
    /// Whether another call may be opened.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open.len() < OPEN_CALLS_MAX
    }

    /// Opens a call.
    pub fn opened(&mut self, call: OpenCall) {
        self.open.insert(CallId::at(call.position), call);
    }

    /// A call, while it is open.
    #[must_use]
    pub fn get(&self, call: CallId) -> Option<&OpenCall> {
        self.open.get(&call)
    }

    /// The open calls whose commands go over this flow and whose end is not on its way to the log.
    pub fn of_device(&self, link: &str) -> impl Iterator<Item = (&OpenCall, &DeviceCall)> {
        let waiting = self.open.iter();
        let waiting = waiting.filter(|(id, _)| !self.ending.contains(*id));
        let with_device = waiting.filter_map(|(_, call)| Some((call, call.device.as_ref()?)));
        with_device.filter(move |(_, device)| device.link == link)
    }

    /// What is known of a call of an appliance, to be corrected by the log.
    pub fn device_at(&mut self, position: Position) -> Option<&mut DeviceCall> {
        let open = self.open.get_mut(&CallId::at(position))?;
        let is_it = open.position == position;
        open.device.as_mut().filter(|_| is_it)
    }

    /// Closes a call: its answer is about to be handled. `None` if it was closed before, so that the
    /// answer comes too late.
    pub fn closed(&mut self, call: CallId) -> Option<OpenCall> {
        self.ending.remove(&call);
        self.open.remove(&call)
    }

    /// The calls that end by themselves at `now`; each comes out once.
    pub fn due(&mut self, now: Now) -> Vec<(CallId, CallOutcome)> {
        let is_due = |(id, call): &(&CallId, &OpenCall)| {
            call.due_at <= now.wall && !self.ending.contains(*id)
        };
        let due: Vec<_> = self.open.iter().filter(is_due).collect();
        let due: Vec<_> = due
            .into_iter()
            .map(|(id, call)| (*id, call.ending.clone()))
            .collect();
        self.ending.extend(due.iter().map(|(id, _)| *id));
        due
    }

    /// Notes that a call's end is on its way through the log already.
    pub fn on_its_way(&mut self, call: CallId) {
        self.ending.insert(call);
    }

    /// Goes back to saved calls, keeping in mind which ends are on their way to the log.
    pub fn restore(&mut self, saved: Self) {
        self.open = saved.open;
    }

    /// When the next call ends by itself.
    #[must_use]
    pub fn next_due_at(&self) -> Option<WallClock> {
        let waiting = self
            .open
            .iter()
            .filter(|(id, _)| !self.ending.contains(*id));
        waiting.map(|(_, call)| call.due_at).min()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn place(index: u64, number: u32) -> Position {
        Position::new(3, index, CALLS_FROM + number)
    }

    fn open(index: u64, due_at: i64) -> OpenCall {
        OpenCall {
            position: place(index, 0),
            port: "doses".into(),
            due_at: WallClock(due_at),
            ending: CallOutcome::TimedOut,
            device: None,
        }
    }

    fn now(wall: i64) -> Now {
        Now {
            wall: WallClock(wall),
            ..Now::default()
        }
    }

    #[test]
    fn a_call_that_is_not_answered_in_time_ends_once() {
        let mut calls = Calls::default();
        calls.opened(open(5, 10));
        assert_eq!(calls.due(now(9)), []);
        let id = CallId {
            index: 5,
            number: 0,
        };
        assert_eq!(calls.due(now(10)), [(id, CallOutcome::TimedOut)]);
        assert_eq!((calls.due(now(11)), calls.next_due_at()), (vec![], None));
        assert_eq!(calls.closed(id), Some(open(5, 10)));
        assert_eq!(calls.closed(id), None);
    }

    #[test]
    fn an_end_that_is_in_the_log_is_not_logged_again_after_a_recovery() {
        let mut calls = Calls::default();
        calls.on_its_way(CallId::at(place(5, 0)));
        let mut saved = Calls::default();
        saved.opened(open(5, 10));
        saved.opened(open(6, 12));
        calls.restore(saved);
        assert_eq!(calls.next_due_at(), Some(WallClock(12)));
        let ended = calls.due(now(20));
        assert_eq!(ended, [(CallId::at(place(6, 0)), CallOutcome::TimedOut)]);
    }

    #[test]
    fn requests_and_replies_survive_their_bytes_and_nothing_else_is_one() {
        for request in [
            Request::Call(vec![1, 2]),
            Request::Call(vec![]),
            Request::Cancel(place(5, 1)),
        ] {
            let bytes = request.to_bytes();
            assert_eq!(Request::from_bytes(&bytes), Some(request));
        }
        for outcome in [
            CallOutcome::Answered(vec![7]),
            CallOutcome::Refused("empty".into()),
            CallOutcome::Failed("it panicked".into()),
            CallOutcome::Cancelled,
            CallOutcome::TooLate,
            CallOutcome::TimedOut,
            CallOutcome::TooMany,
            CallOutcome::Overridden,
            CallOutcome::Unknown,
        ] {
            let call = place(9, 0);
            let reply = Reply { call, outcome };
            assert_eq!(Reply::from_bytes(&reply.to_bytes()), Some(reply));
        }
        for garbage in [&[][..], &[2, 0], &[1, 0, 0], &[1; 18]] {
            assert_eq!(Request::from_bytes(garbage), None);
        }
        for garbage in [&[][..], &[0; 16], &[9; 17], &[3; 18]] {
            assert_eq!(Reply::from_bytes(garbage), None);
        }
    }

    #[test]
    fn the_id_of_a_call_survives_its_text() {
        let id = CallId::at(place(17, 4));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("17".parse::<CallId>(), Err(NoCallId));
    }
}
