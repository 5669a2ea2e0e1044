//! One output of a handler, not yet sent.

use std::time::Duration;

use crate::encoding::Encoded;

/// An output that a handler emitted; it leaves when the handler has returned `Ok`.
#[derive(Clone, Debug, PartialEq)]
pub struct Emission {
    pub(crate) port: &'static str,
    pub(crate) valid_for: Option<Duration>,
    pub(crate) body: Encoded,
}

impl Emission {
    /// Says how long the output may act on the world, from the handler's `now` on. Without this it
    /// holds as long as the event that caused it.
    pub fn valid_for(&mut self, span: Duration) -> &mut Self {
        self.valid_for = Some(span);
        self
    }
}
