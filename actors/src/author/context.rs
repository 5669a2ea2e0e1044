//! What a handler may ask for, and what it is told of time and chance.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::state_saving::{CallWish, Missed, Timer, TimerChange};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

use super::{CALL_BYTES_MAX, Call, CallId, Element, Emission, Output, Timestamp};
use crate::encoding::{self, Encoded};

/// A handler's surroundings. It only collects what the handler asks for.
pub struct Context<E: Element> {
    given: Given,
    random: Option<ChaCha8Rng>,
    wishes: Wishes,
    element: PhantomData<fn(E)>,
}

/// What a handler is told.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) element: EntityId,
    pub(crate) index: u64,
    pub(crate) now: Timestamp,
    pub(crate) replay: bool,
}

/// What a handler asked for.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) emissions: Vec<Emission>,
    pub(crate) timers: Vec<TimerChange>,
    pub(crate) calls: Vec<CallWish>,
    /// The first value that could not be encoded: the handler counts as failed.
    pub(crate) fault: Option<String>,
}

impl<E: Element> Context<E> {
    pub(crate) fn new(given: Given) -> Self {
        Self {
            given,
            random: None,
            wishes: Wishes::default(),
            element: PhantomData,
        }
    }

    pub(crate) fn into_wishes(self) -> Wishes {
        self.wishes
    }

    /// When the event was logged: the same in every replay.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.given.now
    }

    /// A source of random numbers that gives the same ones in every replay.
    ///
    /// ```
    /// use lamplighter::prelude::*;
    /// use lamplighter::rand::Rng;
    ///
    /// #[derive(Serialize, Deserialize, Default)]
    /// #[serde(default)]
    /// struct Dice { last: u8 }
    ///
    /// impl Element for Dice {
    ///     type Event = ();
    ///     fn handle(&mut self, _: Event<()>, ctx: &mut Context<Self>) -> Outcome {
    ///         self.last = ctx.random().random_range(1..=6);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut dice = TestElement::<Dice>::new();
    /// dice.event("hand", ());
    /// dice.check_replay();
    /// ```
    pub fn random(&mut self) -> &mut ChaCha8Rng {
        let Given { element, index, .. } = &self.given;
        self.random
            .get_or_insert_with(|| ChaCha8Rng::from_seed(encoding::seed(element, *index)))
    }

    /// Sends `body` to whatever the topology binds to the port `to`, once the handler has returned
    /// `Ok`. An output of an event that had expired does not leave.
    pub fn emit<T: Serialize>(&mut self, to: Output<T>, body: T) -> &mut Emission {
        let body = Encoded::of(&body).unwrap_or_else(|fault| {
            let port = to.name();
            self.fault(format!(
                "what was emitted on port {port:?} cannot be encoded: {fault}"
            ));
            Encoded::default()
        });
        self.wishes.emissions.push(Emission {
            port: to.name(),
            valid_for: None,
            body,
        });
        self.wishes
            .emissions
            .last_mut()
            .expect("one was just pushed")
    }

    /// Sees to it that `event` is handled `after` this long, whatever fails meanwhile. It takes the
    /// place of a timer of the same name. Its firing is logged and replayed as any event.
    pub fn set_timer(&mut self, name: &str, after: Duration, event: E::Event) -> TimerSetting<'_> {
        let payload = Encoded::of(&event)
            .map(Encoded::into_bytes)
            .unwrap_or_else(|fault| {
                self.fault(format!(
                    "the event of timer {name:?} cannot be encoded: {fault}"
                ));
                Vec::new()
            });
        let due_at = self.given.now + after;
        let timer = Timer {
            due_at,
            expires_at: None,
            missed: Missed::Fire,
            payload,
        };
        self.wishes
            .timers
            .push(TimerChange::Set(name.into(), timer));
        match self.wishes.timers.last_mut() {
            Some(TimerChange::Set(_, timer)) => TimerSetting(timer),
            Some(TimerChange::Cancel(_)) | None => unreachable!("a timer was just pushed"),
        }
    }

    /// Forgets the timer of this name, if there is one.
    pub fn cancel_timer(&mut self, name: &str) {
        self.wishes.timers.push(TimerChange::Cancel(name.into()));
    }

    /// Calls what the topology binds to the port `to`, once the handler has returned `Ok`.
    ///
    /// The answer arrives as an event of its own: the variant of this element's input that the binding
    /// names with `reply` holds it, as an [`Answer`](super::Answer), and
    /// [`Event::answers`](super::Event::answers) says which call it answers. Each call has one answer,
    /// an error if there is no reply in time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use lamplighter::prelude::*;
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Dose { milligrams: u32 }
    ///
    /// #[derive(Serialize, Deserialize)]
    /// enum Input { Pain, Dosed(Answer<u32>) }
    ///
    /// const DOSES: Call<Dose, u32> = Call::new("doses");
    ///
    /// #[derive(Serialize, Deserialize, Default)]
    /// #[serde(default)]
    /// struct Nurse { left: Option<u32>, doubt: bool }
    ///
    /// impl Element for Nurse {
    ///     type Event = Input;
    ///     fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
    ///         match event.body {
    ///             Input::Pain => {
    ///                 ctx.call(DOSES, Dose { milligrams: 2 }).within(Duration::from_secs(3));
    ///             }
    ///             Input::Dosed(Ok(left)) => self.left = Some(left),
    ///             Input::Dosed(Err(error)) => self.doubt = !error.is_harmless(),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut nurse = TestElement::<Nurse>::new().calling(DOSES, Input::Dosed);
    /// nurse.event("patient", Input::Pain);
    /// let (call, asked) = nurse.called(DOSES).remove(0);
    /// assert_eq!(asked.milligrams, 2);
    /// nurse.crash();
    /// nurse.answer(DOSES, call, Ok(8));
    /// assert_eq!(nurse.state().left, Some(8));
    ///
    /// nurse.event("patient", Input::Pain);
    /// nurse.advance(Duration::from_secs(3));
    /// assert!(nurse.state().doubt);
    /// nurse.check_replay();
    /// ```
    ///
    /// What is called may be an appliance: then what is asked is a command, a struct or map of
    /// properties, and the reply is what the appliance shows of it, its properties too. It waits, is
    /// merged and is repeated as commands are; see [`CallError`](super::CallError) for what that may
    /// end in.
    ///
    /// In the topology: `[bindings.doses]` with `model = "call"`, `from` the caller, `to` the callee,
    /// `send = [{ output = "doses", input = "Dose", reply = "Dosed" }]`, and how long an answer may
    /// take where the handler does not say, `reply_within = "5s"`.
    pub fn call<T: Serialize, R>(&mut self, to: Call<T, R>, asked: T) -> CallSetting<'_> {
        let port = to.name();
        let payload = Encoded::of(&asked).unwrap_or_else(|fault| {
            self.fault(format!(
                "what was asked on port {port:?} cannot be encoded: {fault}"
            ));
            Encoded::default()
        });
        let size = payload.bytes().len();
        if size > CALL_BYTES_MAX {
            self.fault(format!(
                "a call on port {port:?} has {size} bytes, and may have {CALL_BYTES_MAX}"
            ));
        }
        let id = CallId {
            index: self.given.index,
            number: u32::try_from(self.wishes.calls.len()).unwrap_or(u32::MAX),
        };
        self.wishes.calls.push(CallWish::Call {
            port: port.to_owned(),
            within: None,
            payload: payload.into_bytes(),
            properties: BTreeMap::new(),
        });
        match self.wishes.calls.last_mut() {
            Some(CallWish::Call { within, .. }) => CallSetting { id, within },
            Some(CallWish::Cancel(_)) | None => unreachable!("a call was just pushed"),
        }
    }

    /// Withdraws a call if the callee has not carried it out. What became of it is in its answer:
    /// [`CallError::Cancelled`](super::CallError::Cancelled) if the withdrawal came in time, else the
    /// reply. Nothing happens if the call was answered, or if an appliance was called: what it was
    /// commanded is overridden by commanding something else.
    pub fn cancel_call(&mut self, call: CallId) {
        self.wishes.calls.push(CallWish::Cancel(call));
    }

    /// Whether this is a replay. For traces only: a state that depends on it is not recoverable.
    #[must_use]
    pub fn recovering(&self) -> bool {
        self.given.replay
    }

    fn fault(&mut self, fault: String) {
        self.wishes.fault.get_or_insert(fault);
    }
}

/// A call that was just made.
pub struct CallSetting<'a> {
    id: CallId,
    within: &'a mut Option<Duration>,
}

impl CallSetting<'_> {
    /// How long the answer may take, from the handler's `now` on; afterwards the call ends with
    /// [`CallError::TimedOut`](super::CallError::TimedOut), and is not carried out any more if it has
    /// not reached the callee. Without this it is the binding's `reply_within`.
    pub fn within(&mut self, span: Duration) -> &mut Self {
        *self.within = Some(span);
        self
    }

    /// Which call it is, for [`Context::cancel_call`] and [`Event::answers`](super::Event::answers).
    #[must_use]
    pub fn id(&self) -> CallId {
        self.id
    }
}

/// How a timer that was just set behaves when it comes late.
pub struct TimerSetting<'a>(&'a mut Timer);

impl TimerSetting<'_> {
    /// If it comes due while nobody runs the element, it is dropped instead of firing late.
    pub fn dropped_if_missed(&mut self) -> &mut Self {
        self.0.missed = Missed::Drop;
        self
    }

    /// How long after its due time firing still matters; later it is dropped.
    pub fn valid_for(&mut self, span: Duration) -> &mut Self {
        self.0.expires_at = Some(self.0.due_at + span);
        self
    }
}
