//! What is saved, when, and how it is found again (paper, 4.2.1).

mod log;

pub use log::{Batch, Event, Record, Timed};
