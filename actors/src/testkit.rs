//! An element under test: the production cell on virtual time, with a store in memory.

mod bench;
mod calls;
mod reconfiguring;

use std::time::Duration;

use bench::{Bench, Memory, Taken};
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::state_saving::CallOutcome;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::message_pack;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::author::{
    Answer, Call, CallError, CallId, Callable, Change, Element, Output, Timestamp, answer_of,
};
use crate::encoding::{self, Encoded};
use crate::instance::{self, Hosted, Instance, SavedFields};

/// When virtual time begins: an ordinary day, so that nothing is near zero by luck.
const BEGINNING: WallClock = WallClock(1_767_225_600_000_000);

/// An element on a bench: it is given events and time, and shows what it emitted and what it became.
/// It runs in the same cell as in production, with the log and the checkpoints in memory.
///
/// ```
/// use std::time::Duration;
/// use lamplighter::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// enum Input { Motion, HoldOver }
///
/// const LAMP: Output<bool> = Output::new("lamp");
///
/// #[derive(Serialize, Deserialize)]
/// struct Hall { hold_secs: u64 }
///
/// impl Element for Hall {
///     type Event = Input;
///     fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
///         match event.body {
///             Input::Motion => {
///                 ctx.emit(LAMP, true).valid_for(Duration::from_secs(10));
///                 ctx.set_timer("hold", Duration::from_secs(self.hold_secs), Input::HoldOver);
///             }
///             Input::HoldOver => { ctx.emit(LAMP, false); }
///         }
///         Ok(())
///     }
/// }
///
/// let mut hall = TestElement::<Hall>::with_state(json!({ "hold_secs": 30 }));
/// hall.event("pir", Input::Motion);
/// assert_eq!(hall.emitted(LAMP), [true]);
/// hall.crash();
/// hall.advance(Duration::from_secs(30));
/// assert_eq!(hall.emitted(LAMP), [false]);
/// hall.check_replay();
/// hall.check_round_trip();
/// ```
pub struct TestElement<E: Element> {
    id: EntityId,
    initial: Vec<u8>,
    bench: Bench<E>,
}

impl<E: Element> Default for TestElement<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Element> TestElement<E> {
    /// An element whose topology has an empty `state` table.
    ///
    /// # Panics
    /// If the element cannot be made from it, with the reason. So do all methods of the test kit when
    /// something is not as it must be.
    #[must_use]
    pub fn new() -> Self {
        Self::with_state(std::collections::BTreeMap::<String, u8>::new())
    }

    /// An element whose `state` table is this: `json!({ … })`, or anything that encodes as a map.
    ///
    /// # Panics
    /// As for [`TestElement::new`].
    #[must_use]
    pub fn with_state(state: impl Serialize) -> Self {
        let id = EntityId::new("under-test").expect("a valid id");
        let initial = Encoded::of(&state).expect("the state encodes").into_bytes();
        let bench = Bench::new(&id, initial.clone(), Memory::default(), BEGINNING, None);
        Self { id, initial, bench }
    }

    /// The same with checkpoints as often as this.
    #[cfg(test)]
    fn checkpointed(policy: lamplighter_policies::model::CheckpointPolicy) -> Self {
        let mut element = Self::new();
        let mut memory = Memory::default();
        memory.policy = policy;
        element.bench = Bench::new(
            &element.id,
            element.initial.clone(),
            memory,
            BEGINNING,
            None,
        );
        element
    }

    /// Says which variant of its input takes the answers to calls on `port`, as the binding's `reply`
    /// does in a topology.
    ///
    /// # Panics
    /// If `variant` does not make a variant of an enum that serde tags with its name.
    #[must_use]
    pub fn calling<T, R>(
        mut self,
        port: Call<T, R>,
        variant: impl FnOnce(Answer<R>) -> E::Event,
    ) -> Self {
        let input = Encoded::of(&variant(Err(CallError::TimedOut))).expect("the input encodes");
        let names = encoding::fields(input.bytes());
        let name = names.keys().next().expect("an answer is in a variant");
        assert!(
            names.len() == 1 && name != encoding::WHOLE,
            "an answer is in a variant with one field"
        );
        self.bench
            .bind_call(port.name(), encoding::variant_prefix(name));
        self
    }

    /// What it called on a port since this was last asked, replays left out.
    ///
    /// # Panics
    /// If what was asked does not decode as the type of the port.
    pub fn called<T: DeserializeOwned, R>(&mut self, port: Call<T, R>) -> Vec<(CallId, T)> {
        let asked = self.bench.heard().take_asked(port.name());
        let decode = |(id, bytes): (CallId, Vec<u8>)| {
            let asked = message_pack::decode(&bytes).expect("what was asked decodes as its type");
            (id, asked)
        };
        asked.into_iter().map(decode).collect()
    }

    /// The calls that it withdrew since this was last asked, replays left out.
    pub fn cancelled(&mut self) -> Vec<CallId> {
        self.bench.heard().take_cancelled()
    }

    /// Answers one of its calls, as the callee or the framework would.
    ///
    /// # Panics
    /// If `port` was not bound with [`TestElement::calling`].
    pub fn answer<T, R: Serialize>(&mut self, port: Call<T, R>, call: CallId, answer: Answer<R>) {
        let outcome = match answer {
            Ok(reply) => {
                let reply = Encoded::of(&reply).expect("the reply encodes");
                CallOutcome::Answered(reply.into_bytes())
            }
            Err(error) => error.into_outcome(),
        };
        self.bench.answer(port.name(), call, outcome);
    }

    /// Gives it an event from `source` that holds until overridden.
    pub fn event(&mut self, source: &str, event: E::Event) {
        self.give(source, &event, None);
    }

    /// Gives it an event from `source` that holds for `span`.
    pub fn event_valid_for(&mut self, source: &str, event: E::Event, span: Duration) {
        let expires_at = self.bench.now().wall + span;
        self.give(source, &event, Some(expires_at));
    }

    /// Gives it an event from `source` that no longer held when it arrived.
    pub fn event_too_late(&mut self, source: &str, event: E::Event) {
        let expired_at = self.bench.now().wall - Duration::from_secs(1);
        self.give(source, &event, Some(expired_at));
    }

    fn give(&mut self, source: &str, event: &E::Event, expires_at: Option<WallClock>) {
        let source = EntityId::new(source).expect("the source of a test event is an id");
        let payload = Encoded::of(event).expect("the event encodes").into_bytes();
        self.bench.give(source, expires_at, payload);
    }

    /// Tells it of a change among those that it depends on, as in production when one of them fails or is
    /// back. What it knows already is not told again.
    pub fn reconfigured(&mut self, change: &Change) {
        self.bench.reconfigured(change);
    }

    /// Lets time pass; timers fire at their instants, in order.
    pub fn advance(&mut self, span: Duration) {
        self.bench.advance(span);
    }

    /// What it emitted on a port since this was last asked, replays left out.
    pub fn emitted<T: DeserializeOwned>(&mut self, port: Output<T>) -> Vec<T> {
        self.emissions(port)
            .into_iter()
            .map(|(body, _)| body)
            .collect()
    }

    /// The same, each with how long it holds where the handler said so.
    ///
    /// # Panics
    /// If an output does not decode as the type of its port.
    pub fn emissions<T: DeserializeOwned>(
        &mut self,
        port: Output<T>,
    ) -> Vec<(T, Option<Duration>)> {
        let decode = |taken: Taken| {
            let body = message_pack::decode(&taken.payload).expect("an output decodes as its type");
            (body, taken.valid_for)
        };
        self.bench
            .take_emitted(port.name())
            .into_iter()
            .map(decode)
            .collect()
    }

    /// Its present state.
    ///
    /// # Panics
    /// If it was given up.
    #[must_use]
    pub fn state(&self) -> &E {
        self.bench.element().expect("the element is live")
    }

    /// The present instant of virtual time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.bench.now().wall
    }

    /// Why inputs were given up after repeated failure.
    #[must_use]
    pub fn dead_letters(&self) -> &[String] {
        self.bench.dead_letters()
    }

    /// Why the element was given up, if its handlers failed too often.
    #[must_use]
    pub fn gave_up(&self) -> Option<&str> {
        self.bench.gave_up()
    }

    /// Makes the handler of the next event panic before it starts. The event is handled by the
    /// instance that comes after.
    pub fn panic_at_next_event(&mut self) {
        self.bench.panic_at_next_event();
    }

    /// Kills the process that runs it and recovers it from what is saved.
    pub fn crash(&mut self) {
        self.bench.restart(self.initial.clone());
    }

    /// Folds the whole history twice, from the first state, and panics where the two differ from each
    /// other or from the present state: the sign of a clock, a random source or a `HashMap` in a
    /// handler.
    ///
    /// # Panics
    /// If a replay makes another state or other outputs.
    pub fn check_replay(&mut self) {
        let live = shown(&self.saved());
        let (once, outputs_once) = self.replay();
        let (again, outputs_again) = self.replay();
        assert_eq!(
            once, again,
            "two replays of the same history made different states"
        );
        assert_eq!(
            outputs_once, outputs_again,
            "two replays made different outputs"
        );
        assert_eq!(
            once, live,
            "a replay of the history made another state than the live element"
        );
    }

    /// Encodes the state and decodes it again, and panics where it becomes another one: the sign of a
    /// field that serde skips or changes.
    ///
    /// # Panics
    /// If the state changes.
    pub fn check_round_trip(&mut self) {
        let before = self.saved();
        let mut copy = Instance::<E>::new(self.id.clone(), self.initial.clone(), [].into());
        copy.make(&before).unwrap_or_else(|fault| panic!("{fault}"));
        let after = copy.save().unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(
            shown(&before),
            shown(&after),
            "the state changed on its way through serde"
        );
    }

    fn saved(&mut self) -> SavedFields {
        self.bench.save()
    }

    fn replay(&self) -> (String, Vec<Taken>) {
        let memory = self.bench.whole_history();
        let mut bench = Bench::<E>::new(
            &self.id,
            self.initial.clone(),
            memory,
            self.bench.now().wall,
            self.bench.serves(),
        );
        (shown(&bench.save()), bench.take_replayed())
    }
}

impl<E: Callable> TestElement<E> {
    /// Calls it, as the element `caller` would.
    ///
    /// # Panics
    /// If it gave no answer because it was given up, or its reply does not decode.
    pub fn call(&mut self, caller: &str, call: E::Call) -> Answer<E::Reply> {
        self.bench.serve(instance::serve::<E>);
        let caller = EntityId::new(caller).expect("the caller of a test is an id");
        let payload = Encoded::of(&call).expect("the call encodes").into_bytes();
        let outcome = self.bench.call(&caller, payload);
        let reply = answer_of(outcome.expect("the call is answered"))?;
        Ok(message_pack::decode(&reply).expect("a reply decodes as its type"))
    }
}

/// A state as a person reads it.
fn shown(state: &SavedFields) -> String {
    let field = |(name, bytes): (&String, &Vec<u8>)| {
        let value = message_pack::decode::<serde_json::Value>(bytes);
        let value = value.map_or_else(|_| format!("{bytes:02x?}"), |value| value.to_string());
        format!("{name}: {value}")
    };
    state.iter().map(field).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod call_tests;
#[cfg(test)]
mod forgetting;
#[cfg(test)]
mod tests;
