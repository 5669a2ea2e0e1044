//! Catching a panic together with its place.
//!
//! `catch_unwind` alone gives only the text, and the standard hook prints to standard error. Inside
//! [`guarded`] the hook notes text and place instead; outside of it the hook does what it did before.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// A panic that was caught.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Panicked {
    /// What the panic said.
    pub text: String,
    /// `file:line:column` of the panic; `None` if nothing but the text is known.
    pub place: Option<String>,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "panic at {place}: {}", self.text),
            None => write!(f, "panic: {}", self.text),
        }
    }
}

/// Runs `step` and turns a panic in it into a value.
///
/// The caller must never look again at what `step` changed: it may be half changed.
///
/// # Errors
/// The panic, if `step` panicked.
pub fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, Panicked> {
    install_hook();
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let outcome = panic::catch_unwind(AssertUnwindSafe(step));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    outcome.map_err(|payload| {
        let place = PLACE.with(RefCell::take);
        let text = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a value that is not text".to_owned());
        // The payload is the author's value: dropping it may panic as well.
        if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        Panicked { text, place }
    })
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            if DEPTH.with(Cell::get) == 0 {
                return before(what);
            }
            let place = what.location().map(ToString::to_string);
            PLACE.with(|noted| *noted.borrow_mut() = place);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_panic_gives_its_value() {
        assert_eq!(guarded(|| 7), Ok(7));
    }

    #[test]
    fn a_panic_comes_back_with_its_text_and_place() {
        let caught = guarded(|| -> () { panic!("no such room: {}", "attic") });
        let Panicked { text, place } = caught.unwrap_err();
        assert_eq!(text, "no such room: attic");
        assert!(place.unwrap().starts_with("actors/src/panics.rs:"));
    }

    #[test]
    fn a_payload_that_panics_when_dropped_does_no_harm() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("and again");
            }
        }
        let caught = guarded(|| -> () { panic::panic_any(Bomb) });
        assert_eq!(caught.unwrap_err().text, "a value that is not text");
    }
}
