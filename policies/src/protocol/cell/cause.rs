//! Why a store did not do what a cell asked of it.

use alloc::string::String;

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It cannot at present; the same write is sent again.
    Unavailable(String),
    /// The log ends elsewhere.
    Gap {
        /// Where it ends.
        head: u64,
    },
    /// Somebody else owns the element.
    Fenced(String),
    /// It refuses until a person cures the cause.
    Refused(String),
}
