//! The drill behind `make demo`: the same evening in two houses, one left alone and one broken, and
//! what must hold afterwards (paper, 5.3: scenario injector, failure injector, verifier).

pub mod checks;
pub mod drill;
pub mod faults;
pub mod hand;
pub mod house;
pub mod injection;
pub mod processes;
pub mod report;
pub mod scenes;
pub mod screen;
pub mod status;
pub mod topology;
