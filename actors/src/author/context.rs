//! What a handler may ask for, and what it is told of time and chance.

use std::marker::PhantomData;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::state_saving::{Missed, Timer, TimerChange};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

use super::{Element, Emission, Output, Timestamp};
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

    /// Whether this is a replay. For traces only: a state that depends on it is not recoverable.
    #[must_use]
    pub fn recovering(&self) -> bool {
        self.given.replay
    }

    fn fault(&mut self, fault: String) {
        self.wishes.fault.get_or_insert(fault);
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
