//! The drill.

pub mod checks;
pub mod faults;
pub mod processes;
pub mod report;
pub mod screen;
pub mod topology;
