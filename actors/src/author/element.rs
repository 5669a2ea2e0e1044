//! The trait that an application's actors implement.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Change, Context, Event, Fields, Outcome};

/// A software element: an actor whose state, log and timers survive.
///
/// What serde sees of the type is its state. The first value is the element's `state` table in the
/// topology file; later ones come from checkpoint and log. Fields marked `#[serde(skip)]` are lost in
/// a recovery.
///
/// Handlers are synchronous and must follow from state, event and context alone: no clock, no random
/// source, no file or socket, no iteration over a `HashMap` (use `BTreeMap`). The context has a clock
/// and a random source that give the same at replay. What a handler emits leaves only after it
/// returned `Ok`.
///
/// ```
/// use lamplighter::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// enum Input { Press }
///
/// const COUNT: Output<u64> = Output::new("count");
///
/// #[derive(Serialize, Deserialize, Default)]
/// #[serde(default)]
/// struct Counter { presses: u64 }
///
/// impl Element for Counter {
///     type Event = Input;
///
///     fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
///         match event.body {
///             Input::Press => self.presses += 1,
///         }
///         ctx.emit(COUNT, self.presses);
///         Ok(())
///     }
/// }
///
/// let mut counter = TestElement::<Counter>::new();
/// counter.event("button", Input::Press);
/// assert_eq!(counter.emitted(COUNT), [1]);
/// ```
pub trait Element: Serialize + DeserializeOwned + 'static {
    /// All that it can receive, timers included.
    type Event: Serialize + DeserializeOwned + 'static;

    /// The version of the state's shape. Raise it when stored state no longer decodes as `Self`, and
    /// say in [`Element::migrate`] how the old one becomes the new one.
    const VERSION: u32 = 1;

    /// Takes one event.
    ///
    /// # Errors
    /// An error means the same as a panic: the instance is thrown away and its outputs with it, a new
    /// one is made from what is saved, and the event is tried again; after repeated failure it becomes
    /// a dead letter. What merely arrived wrong is not an error: return `Ok`.
    fn handle(&mut self, event: Event<Self::Event>, ctx: &mut Context<Self>) -> Outcome;

    /// Takes a change among the entities that this element depends on (the paper's ConfigAPI).
    ///
    /// # Errors
    /// As for [`Element::handle`].
    fn reconfigured(&mut self, change: &Change, ctx: &mut Context<Self>) -> Outcome {
        let _ = (change, ctx);
        Ok(())
    }

    /// Changes stored state of version `from` into this version, field by field. Called once, before
    /// the state is decoded, and only if the versions differ.
    ///
    /// # Errors
    /// The state cannot be migrated; the element does not start, and what is stored stays as it is.
    fn migrate(from: u32, state: &mut Fields) -> Outcome {
        let _ = state;
        Err(super::Failure::new(format!(
            "state of version {from} is stored and nothing says how it becomes version {}; \
             implement `Element::migrate`",
            Self::VERSION
        )))
    }
}
