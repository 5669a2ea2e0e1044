//! Events of the physical world and how long they hold (paper, 3.2 and 4.2.1).

mod event;
mod validity;

pub use event::{EventId, Position};
pub use validity::{Validity, earliest};
