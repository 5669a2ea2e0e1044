//! One instance of an author's element, behind a guard: no panic of its code gets out, and after one
//! it is never looked at again.

mod properties;

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::physical_world::{EventId, Position};
use lamplighter_policies::protocol::appliances::{PlaceChange, PlaceFate};
use lamplighter_policies::protocol::cell::{Emitted, Handled, Task, TaskInput};
use lamplighter_policies::state_saving::{CallOutcome, CallWish, Properties};
use lamplighter_runtime::message_pack::{self, MessagePackError};
use serde::de::DeserializeOwned;

use crate::author::{
    CALL_BYTES_MAX, Callable, Change, Context, Element, Emission, Event, Failure, Fields, Given,
    NoReply, Wishes, answer_of,
};
use crate::encoding::{self, Encoded};
use crate::panics::guarded;
use properties::{properties, sensed};

/// The name of the field that says which version of the state's shape is stored.
const VERSION: &str = "@version";

/// The state of an element as it is saved: its fields, encoded, and the version of their shape.
pub(crate) type SavedFields = BTreeMap<String, Vec<u8>>;

/// Why an element's state cannot be used; trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateFault {
    /// The `state` table of the topology is not a first value of the element's type.
    #[error(
        "the `state` table of {element} in the topology does not fit its type: {reason}; \
         give every field a value there, or put #[serde(default)] on the type"
    )]
    Initial {
        /// Which element.
        element: EntityId,
        /// What does not fit.
        reason: String,
    },
    /// What is stored does not decode as the element's type.
    #[error(
        "the stored state of {element} does not fit its type: {reason}; \
         raise `Element::VERSION` and say in `Element::migrate` what became of the old fields"
    )]
    Stored {
        /// Which element.
        element: EntityId,
        /// What does not fit.
        reason: String,
    },
    /// The element's state cannot be encoded.
    #[error("the state of {element} cannot be saved: {reason}")]
    Unsavable {
        /// Which element.
        element: EntityId,
        /// What the encoder said.
        reason: String,
    },
}

/// An element whose type is forgotten: what its host needs of it.
pub(crate) trait Hosted {
    /// Throws the instance away and makes a new one, from what is saved or, where nothing is, from the
    /// topology's first value.
    fn make(&mut self, saved: &SavedFields) -> Result<(), StateFault>;
    /// Runs the handler on a record.
    fn handle(&mut self, task: Task) -> Result<Handled, String>;
    /// The state as it is to be saved.
    fn save(&mut self) -> Result<SavedFields, StateFault>;
    /// The state for people: the author's fields as JSON.
    fn show(&self) -> Result<serde_json::Value, StateFault>;
    /// Makes the next call of the handler panic, for a drill.
    fn panic_next(&mut self);
}

/// An element and its present instance.
pub(crate) struct Instance<E: Element> {
    id: EntityId,
    initial: Vec<u8>,
    appliance_ports: BTreeSet<String>,
    element: Option<E>,
    panic_next: bool,
    serve: Option<Serve<E>>,
}

/// Carries out a call whose body is encoded.
pub(crate) type Serve<E> =
    fn(&mut E, Event<Vec<u8>>, &mut Context<E>) -> Result<CallOutcome, Failure>;

impl<E: Element> Instance<E> {
    /// An element without an instance. `initial` is the encoded `state` table of the topology.
    pub(crate) fn new(id: EntityId, initial: Vec<u8>, appliance_ports: BTreeSet<String>) -> Self {
        Self {
            id,
            initial,
            appliance_ports,
            element: None,
            panic_next: false,
            serve: None,
        }
    }

    /// The same, of an element that takes calls.
    pub(crate) fn served_by(mut self, serve: Option<Serve<E>>) -> Self {
        self.serve = serve;
        self
    }

    /// Lets it take calls from here on.
    pub(crate) fn serve(&mut self, serve: Serve<E>) {
        self.serve = Some(serve);
    }

    pub(crate) fn element(&self) -> Option<&E> {
        self.element.as_ref()
    }

    /// Throws the instance away, as after a panic.
    pub(crate) fn lose(&mut self) {
        if let Some(lost) = self.element.take()
            && let Err(panicked) = guarded(move || drop(lost))
        {
            tracing::warn!(element = %self.id, %panicked, "an instance failed when it was dropped");
        }
    }

    /// Runs author code. After a panic the instance is gone.
    fn run<T>(
        &mut self,
        given: Given,
        step: impl FnOnce(&mut E, &mut Context<E>) -> Result<T, Failure>,
    ) -> Result<(Wishes, T), String> {
        let Some(mut element) = self.element.take() else {
            return Err("there is no instance".to_owned());
        };
        let drill = !given.replay && std::mem::take(&mut self.panic_next);
        let outcome = guarded(move || {
            assert!(!drill, "asked for by a drill");
            let mut context = Context::new(given);
            let outcome = step(&mut element, &mut context).map_err(|failure| failure.to_string());
            (element, context.into_wishes(), outcome)
        });
        match outcome {
            Ok((element, wishes @ Wishes { fault: None, .. }, Ok(given))) => {
                self.element = Some(element);
                Ok((wishes, given))
            }
            Ok((element, wishes, outcome)) => {
                let cause = outcome.err().or(wishes.fault).unwrap_or_default();
                match guarded(move || drop(element)) {
                    Ok(()) => Err(cause),
                    Err(dropped) => Err(format!("{cause}; and when it was dropped: {dropped}")),
                }
            }
            Err(panicked) => Err(panicked.to_string()),
        }
    }

    /// What the handler is given, its body still encoded.
    fn event(&self, task: Task) -> Result<Event<Vec<u8>>, String> {
        let (id, at, expires_at, body, answers) = match task.input {
            TaskInput::Reconfigured { .. } => return Err("a reconfiguration is no event".into()),
            TaskInput::Event {
                id,
                occurred_at,
                expires_at,
                payload,
                ..
            }
            | TaskInput::Call {
                id,
                occurred_at,
                expires_at,
                payload,
            } => (id, occurred_at, expires_at, payload, None),
            TaskInput::Timer {
                due_at,
                expires_at,
                payload,
                ..
            } => {
                let id = EventId {
                    source: self.id.clone(),
                    position: Position::new(0, task.index, 0),
                };
                (id, due_at, expires_at, payload, None)
            }
            TaskInput::Shown {
                call,
                shown,
                prefix,
                id,
                occurred_at,
            } => {
                let shown = Encoded::of(&shown).map_err(|error| error.to_string())?;
                let ok = encoding::variant_prefix("Ok");
                let body = [prefix, ok, shown.into_bytes()].concat();
                (id, occurred_at, None, body, Some(call))
            }
            TaskInput::Answer {
                call,
                outcome,
                prefix,
                id,
                occurred_at,
            } => {
                let body = [prefix, answer(outcome)?].concat();
                (id, occurred_at, None, body, Some(call))
            }
        };
        Ok(Event {
            id,
            at,
            expires_at,
            expired: task.expired,
            answers,
            body,
        })
    }

    /// What was asked of appliances, as properties too.
    fn called(&self, mut calls: Vec<CallWish>) -> Result<Vec<CallWish>, String> {
        for wish in &mut calls {
            if let CallWish::Call {
                port,
                payload,
                properties: asked,
                ..
            } = wish
                && self.appliance_ports.contains(port)
            {
                *asked = properties(payload)?;
            }
        }
        Ok(calls)
    }

    fn emitted(&self, emission: Emission) -> Result<Emitted, String> {
        let Emission {
            port,
            valid_for,
            body,
        } = emission;
        let properties = if self.appliance_ports.contains(port) {
            properties(body.bytes())?
        } else {
            Properties::new()
        };
        Ok(Emitted {
            port: port.to_owned(),
            valid_for,
            payload: body.into_bytes(),
            properties,
        })
    }
}

/// Why an element that is called cannot answer.
const NOT_CALLABLE: &str =
    "it takes no calls; implement `Callable` and register it with `App::callable`";

/// The same event with its body decoded.
fn decoded<T: DeserializeOwned>(event: Event<Vec<u8>>) -> Result<Event<T>, MessagePackError> {
    let body = message_pack::decode(&event.body)?;
    let Event {
        id,
        at,
        expires_at,
        expired,
        answers,
        ..
    } = event;
    Ok(Event {
        id,
        at,
        expires_at,
        expired,
        answers,
        body,
    })
}

/// An answer as an author's input holds it, encoded.
fn answer(outcome: CallOutcome) -> Result<Vec<u8>, String> {
    match answer_of(outcome) {
        Ok(reply) => Ok([encoding::variant_prefix("Ok"), reply].concat()),
        Err(error) => Encoded::of(&Err::<(), _>(error))
            .map(Encoded::into_bytes)
            .map_err(|error| error.to_string()),
    }
}

/// Carries out a call on `E`.
pub(crate) fn serve<E: Callable>(
    element: &mut E,
    call: Event<Vec<u8>>,
    context: &mut Context<E>,
) -> Result<CallOutcome, Failure> {
    let call = decoded::<E::Call>(call)
        .map_err(|error| Failure::new(format!("what is asked does not decode: {error}")))?;
    match element.call(call, context) {
        Ok(reply) => {
            let reply = Encoded::of(&reply)?.into_bytes();
            if reply.len() > CALL_BYTES_MAX {
                let size = reply.len();
                return Err(Failure::new(format!(
                    "its reply has {size} bytes, and may have {CALL_BYTES_MAX}"
                )));
            }
            Ok(CallOutcome::Answered(reply))
        }
        Err(NoReply::Refused(refusal)) => Ok(CallOutcome::Refused(refusal.into_reason())),
        Err(NoReply::Failed(failure)) => Err(failure),
    }
}

/// What an author is told of the places of appliances.
fn author_changes(changes: &[PlaceChange]) -> Vec<Change> {
    let change = |PlaceChange { output, fate }: &PlaceChange| {
        let output = output.clone();
        match fate {
            PlaceFate::Failed => Change::Failed { output },
            PlaceFate::Recovered => Change::Recovered { output },
            PlaceFate::Replaced(by) => Change::Replaced {
                output,
                by: by.clone(),
            },
        }
    };
    changes.iter().map(change).collect()
}

impl<E: Element> Hosted for Instance<E> {
    fn make(&mut self, saved: &SavedFields) -> Result<(), StateFault> {
        self.lose();
        let element = self.id.clone();
        if saved.is_empty() {
            let decoded = guarded(|| message_pack::decode::<E>(&self.initial));
            let reason = |reason: String| StateFault::Initial { element, reason };
            let made = decoded
                .map_err(|e| e.to_string())
                .and_then(|made| made.map_err(|e| e.to_string()));
            self.element = Some(made.map_err(reason)?);
            return Ok(());
        }
        let made = guarded(|| decode_state::<E>(saved.clone()));
        let made = made.map_err(|e| e.to_string()).and_then(|made| made);
        self.element = Some(made.map_err(|reason| StateFault::Stored { element, reason })?);
        Ok(())
    }

    fn handle(&mut self, task: Task) -> Result<Handled, String> {
        let sensed = sensed(&task.input);
        if task.left_out {
            return Ok(Handled {
                sensed,
                ..Handled::default()
            });
        }
        let given = Given {
            element: self.id.clone(),
            index: task.index,
            now: task.logged_at,
            replay: task.replay,
        };
        let is_call = matches!(task.input, TaskInput::Call { .. });
        let (wishes, reply) = if is_call {
            let event = self.event(task)?;
            let serve = self.serve.ok_or(NOT_CALLABLE)?;
            let (wishes, reply) = self.run(given, move |element, context| {
                serve(element, event, context)
            })?;
            (wishes, Some(reply))
        } else if let TaskInput::Reconfigured { changes } = &task.input {
            let changes = author_changes(changes);
            let (wishes, ()) = self.run(given, move |element, context| {
                changes
                    .iter()
                    .try_for_each(|change| element.reconfigured(change, context))
            })?;
            (wishes, None)
        } else {
            let event = self.event(task)?;
            let event = decoded(event).map_err(|e| format!("its input does not decode: {e}"))?;
            let (wishes, ()) = self.run(given, move |element, context| {
                element.handle(event, context)
            })?;
            (wishes, None)
        };
        let emitted = wishes
            .emissions
            .into_iter()
            .map(|e| self.emitted(e))
            .collect::<Result<_, _>>()?;
        Ok(Handled {
            emitted,
            timers: wishes.timers,
            sensed,
            calls: self.called(wishes.calls)?,
            reply,
        })
    }

    fn save(&mut self) -> Result<SavedFields, StateFault> {
        let unsavable = |reason| StateFault::Unsavable {
            element: self.id.clone(),
            reason,
        };
        let element = self
            .element
            .as_ref()
            .ok_or_else(|| unsavable("there is no instance".into()))?;
        let encoded = guarded(|| Encoded::of(element));
        let encoded = encoded
            .map_err(|e| e.to_string())
            .and_then(|e| e.map_err(|e| e.to_string()));
        let mut fields = encoding::fields(encoded.map_err(unsavable)?.bytes());
        let version = Encoded::of(&E::VERSION).expect("a number encodes");
        fields.insert(VERSION.to_owned(), version.into_bytes());
        Ok(fields)
    }

    fn show(&self) -> Result<serde_json::Value, StateFault> {
        let unsavable = |reason| StateFault::Unsavable {
            element: self.id.clone(),
            reason,
        };
        let element = self
            .element
            .as_ref()
            .ok_or_else(|| unsavable("there is no instance".into()))?;
        let shown = guarded(|| serde_json::to_value(element));
        shown
            .map_err(|e| e.to_string())
            .and_then(|shown| shown.map_err(|e| e.to_string()))
            .map_err(unsavable)
    }

    fn panic_next(&mut self) {
        self.panic_next = true;
    }
}

/// Says whether bytes are an input of an element.
pub(crate) type Accepts = fn(&[u8]) -> Result<(), String>;

/// Whether bytes are an input of `E`.
pub(crate) fn accepts<E: Element>(payload: &[u8]) -> Result<(), String> {
    let decoded = guarded(|| message_pack::decode::<E::Event>(payload).map(drop));
    decoded
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())
}

fn decode_state<E: Element>(saved: SavedFields) -> Result<E, String> {
    let mut fields = Fields(saved);
    let version = fields
        .take::<u32>(VERSION)
        .map_err(|e| e.to_string())?
        .unwrap_or(1);
    if version != E::VERSION {
        E::migrate(version, &mut fields).map_err(|failure| failure.to_string())?;
    }
    let pieces = fields
        .0
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    message_pack::decode(&encoding::join(pieces)).map_err(|e| e.to_string())
}
