//! The actors of Lamplighter: one per role, and the command line.

pub mod panics;
pub mod shell;
