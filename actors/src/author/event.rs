//! What a handler is given.

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::physical_world::EventId;

use super::{CallId, Timestamp, Valid};

/// Something that happened: sensed by a device, sent by another element, or a timer come due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<T> {
    /// Who it is, in every copy and every replay.
    pub id: EventId,
    /// When it occurred in the physical world, as well as that is known.
    pub at: Timestamp,
    /// Until when it holds; `None` is until something overrides it.
    pub expires_at: Option<Timestamp>,
    /// Whether it no longer held when it was logged. It is still to be folded into the state, so that
    /// counts and sums stay right; what the handler emits does not leave.
    pub expired: bool,
    /// Which call of this element it answers, if it is an answer.
    pub answers: Option<CallId>,
    /// What happened.
    pub body: T,
}

impl<T> Event<T> {
    /// The element or appliance that it came from; for a timer and for a call that was not answered in
    /// time, the element itself.
    #[must_use]
    pub fn source(&self) -> &EntityId {
        &self.id.source
    }

    /// A value that holds as long as this event.
    ///
    /// ```
    /// use std::time::Duration;
    /// use lamplighter::prelude::*;
    ///
    /// #[derive(Serialize, Deserialize, Default)]
    /// #[serde(default)]
    /// struct Watch { seen: Valid<String> }
    ///
    /// impl Element for Watch {
    ///     type Event = String;
    ///     fn handle(&mut self, event: Event<String>, _: &mut Context<Self>) -> Outcome {
    ///         self.seen = event.valid(event.body.clone());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut watch = TestElement::<Watch>::new();
    /// watch.event_valid_for("door", "open".to_string(), Duration::from_secs(10));
    /// assert!(watch.state().seen.get(watch.now()).is_some());
    /// watch.advance(Duration::from_secs(10));
    /// assert!(watch.state().seen.get(watch.now()).is_none());
    /// ```
    #[must_use]
    pub fn valid<V>(&self, value: V) -> Valid<V> {
        Valid::with_expiry(self.expires_at, value)
    }
}
