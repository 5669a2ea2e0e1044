//! What is saved, when, and how it is found again (paper, 4.2.1).

mod choose;
mod log;

pub use choose::{
    Destination, FlowSaving, SavingPolicy, SavingReason, Site, Strategy, Timing, choose,
};
pub use log::{Batch, Event, Record, Timed};
