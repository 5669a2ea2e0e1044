//! The roles as machines, and what they tell each other.

pub mod cell;
pub mod messages;
