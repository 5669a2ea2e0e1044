//! How a handler says that it failed.

use std::fmt;

/// What a handler returns.
pub type Outcome = std::result::Result<(), Failure>;

/// Why a handler failed, for people. Any error converts into it, so `?` works in a handler.
///
/// ```
/// use lamplighter::prelude::*;
///
/// fn parse(text: &str) -> std::result::Result<i32, Failure> { Ok(text.parse::<i32>()?) }
/// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
pub struct Failure(Box<dyn std::error::Error>);

impl Failure {
    /// A failure with a reason.
    ///
    /// ```
    /// # use lamplighter::prelude::*;
    /// assert_eq!(Failure::new("the valve is stuck").to_string(), "the valve is stuck");
    /// ```
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into().into())
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

// Not an `Error` itself: that would clash with the conversion from every error.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
