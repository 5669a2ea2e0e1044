//! The shape of every role: inputs in, effects out, time an argument.

use alloc::vec::Vec;

use crate::time::{Monotonic, Now};

/// A role as a plain value: what it is told goes in, what it asks for comes out.
///
/// A shell performs the effects in order and brings each completion back as an input. The same
/// machine runs in a shell, in the simulator and in the model checker.
pub trait Machine {
    /// What the machine can be told.
    type Input;
    /// What the machine can ask for.
    type Effect;

    /// Takes one input and appends what is to be done about it. Cannot fail.
    fn handle(&mut self, now: Now, input: Self::Input, effects: &mut Vec<Self::Effect>);

    /// The instant at which the machine next wants [`Machine::wake`], if any.
    fn next_deadline(&self) -> Option<Monotonic>;

    /// Tells the machine that its deadline has passed.
    fn wake(&mut self, now: Now, effects: &mut Vec<Self::Effect>);
}
