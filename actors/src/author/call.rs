//! Function calls between elements: who can be called, and what a caller is answered.

use std::fmt;
use std::marker::PhantomData;

use lamplighter_policies::state_saving::CallOutcome;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Context, Element, Event, Failure};

/// The most bytes that a call or its reply may have when it is encoded.
pub const CALL_BYTES_MAX: usize = 128 << 10;

/// The most characters of a refusal's reason that reach the caller.
const REASON_LENGTH_MAX: usize = 1_024;

/// An element that others call and that answers them (the paper's FctRecordAPI).
///
/// The call is logged before [`Callable::call`] runs, and the answer where it arrives, so that the
/// function runs once in effect and its caller has one answer, whatever fails in between: a replay
/// takes the answer from the log, and a call in flight at a crash is sent again under its id.
///
/// Like [`Element::handle`] it must follow from state, call and context alone. It may emit, set timers
/// and call others; all of that leaves together with the answer. How long the caller waits says nothing
/// about how long an output of the function may act on the world: say that with
/// [`Emission::valid_for`](super::Emission::valid_for).
///
/// A call that arrives after its caller has stopped waiting is not carried out.
///
/// ```
/// use lamplighter::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// enum Asked { Dose { milligrams: u32 } }
///
/// #[derive(Serialize, Deserialize)]
/// struct Pump { left: u32 }
///
/// impl Element for Pump {
///     type Event = ();
///     fn handle(&mut self, _: Event<()>, _: &mut Context<Self>) -> Outcome { Ok(()) }
/// }
///
/// impl Callable for Pump {
///     type Call = Asked;
///     type Reply = u32;
///
///     fn call(&mut self, call: Event<Asked>, _: &mut Context<Self>) -> Result<u32, NoReply> {
///         let Asked::Dose { milligrams } = call.body;
///         let left = self.left.checked_sub(milligrams);
///         self.left = left.ok_or_else(|| Refusal::new("the cartridge is empty"))?;
///         Ok(self.left)
///     }
/// }
///
/// let mut pump = TestElement::<Pump>::with_state(json!({ "left": 3 }));
/// assert_eq!(pump.call("nurse", Asked::Dose { milligrams: 2 }), Ok(1));
/// let refused = CallError::Refused { reason: "the cartridge is empty".into() };
/// assert_eq!(pump.call("nurse", Asked::Dose { milligrams: 2 }), Err(refused));
/// pump.check_replay();
/// ```
pub trait Callable: Element {
    /// All that it can be asked; the topology names a variant.
    type Call: Serialize + DeserializeOwned + 'static;
    /// What it answers.
    type Reply: Serialize + DeserializeOwned + 'static;

    /// Carries out one call.
    ///
    /// # Errors
    /// A [`Refusal`] is an answer: the caller is told, and what the function changed and emitted
    /// stands. Any other error means the same as a panic: the instance is thrown away, the call is
    /// tried again on a new one, and after repeated failure it becomes a dead letter, of which the
    /// caller is told with [`CallError::Failed`].
    fn call(
        &mut self,
        call: Event<Self::Call>,
        ctx: &mut Context<Self>,
    ) -> Result<Self::Reply, NoReply>;
}

/// A port for calls that ask `T` and are answered with `R`. What is bound to it stands in the topology
/// file; see [`Context::call`].
///
/// ```
/// use lamplighter::prelude::*;
///
/// const DOSES: Call<u32, bool> = Call::new("doses");
/// assert_eq!(DOSES.name(), "doses");
/// ```
pub struct Call<T, R> {
    name: &'static str,
    carries: PhantomData<fn(T) -> R>,
}

impl<T, R> Call<T, R> {
    /// The port of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            carries: PhantomData,
        }
    }

    /// Its name, as the topology file writes it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T, R> Clone for Call<T, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, R> Copy for Call<T, R> {}

impl<T, R> fmt::Debug for Call<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({:?})", self.name)
    }
}

/// How a call ended: what the variant of the caller's input holds that the topology names with
/// `reply`.
pub type Answer<R> = Result<R, CallError>;

/// A call that was not answered with a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CallError {
    /// No answer came in time. Nobody knows whether the call was, or will yet be, carried out: the
    /// callee may be away, or its answer on its way. An answer that comes later is dropped.
    #[error("no answer came in time, so it is not known whether the call was carried out")]
    TimedOut,
    /// The callee refused. What it changed before it refused stands.
    #[error("the callee refused: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// The callee failed on it repeatedly and gave it up. Nothing of it was carried out.
    #[error("the callee gave the call up: {reason}")]
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// It was withdrawn with [`Context::cancel_call`] before it was carried out.
    #[error("the call was withdrawn before it was carried out")]
    Cancelled,
    /// It reached the callee too late, or was made by a handler of an event that had expired. It was
    /// not carried out.
    #[error("the call came too late and was not carried out")]
    TooLate,
    /// More than a thousand calls of this element were open. It was not sent.
    #[error("too many calls were open, so it was not sent")]
    TooMany,
    /// Something newer was asked of the same appliance before this was known to be carried out. It may
    /// have been shown for a moment.
    #[error("something newer was asked of the appliance before this was known to be carried out")]
    Overridden,
    /// The appliance was told, must not be told again, and cannot show whether it did it. The command
    /// is among those that `lamplighter status` lists for a person's `ack` or `redo`.
    #[error("nobody knows whether the appliance did it; a person has to say, with `ack` or `redo`")]
    Unknown,
}

impl CallError {
    /// Whether it is certain that the call changed nothing.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        match self {
            Self::TimedOut | Self::Refused { .. } | Self::Overridden | Self::Unknown => false,
            Self::Failed { .. } | Self::Cancelled | Self::TooLate | Self::TooMany => true,
        }
    }
}

impl CallError {
    /// As it travels from callee to caller.
    pub(crate) fn into_outcome(self) -> CallOutcome {
        match self {
            Self::TimedOut => CallOutcome::TimedOut,
            Self::Refused { reason } => CallOutcome::Refused(reason),
            Self::Failed { reason } => CallOutcome::Failed(reason),
            Self::Cancelled => CallOutcome::Cancelled,
            Self::TooLate => CallOutcome::TooLate,
            Self::TooMany => CallOutcome::TooMany,
            Self::Overridden => CallOutcome::Overridden,
            Self::Unknown => CallOutcome::Unknown,
        }
    }
}

/// The encoded reply, or why there is none.
pub(crate) fn answer_of(outcome: CallOutcome) -> Answer<Vec<u8>> {
    Err(match outcome {
        CallOutcome::Answered(reply) => return Ok(reply),
        CallOutcome::Refused(reason) => CallError::Refused { reason },
        CallOutcome::Failed(reason) => CallError::Failed { reason },
        CallOutcome::Cancelled => CallError::Cancelled,
        CallOutcome::TooLate => CallError::TooLate,
        CallOutcome::TimedOut => CallError::TimedOut,
        CallOutcome::TooMany => CallError::TooMany,
        CallOutcome::Overridden => CallError::Overridden,
        CallOutcome::Unknown => CallError::Unknown,
    })
}

/// A callee's decision not to do what it was asked; an answer like others, logged and replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// A refusal with a reason, of which the caller gets the first thousand characters.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    pub(crate) fn into_reason(self) -> String {
        self.0.chars().take(REASON_LENGTH_MAX).collect()
    }
}

/// Why a call has no reply. A [`Refusal`] and any error convert into it, so `?` works.
#[derive(Debug)]
pub enum NoReply {
    /// The callee refuses: an answer.
    Refused(Refusal),
    /// The callee failed: the call is tried again.
    Failed(Failure),
}

impl From<Refusal> for NoReply {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for NoReply {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<E: std::error::Error + 'static> From<E> for NoReply {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
