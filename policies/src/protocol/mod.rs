//! The roles as machines, and what they tell each other.

pub mod appliances;
pub mod cell;
pub mod configurator;
pub mod control;
pub mod fog_agent;
pub mod forecast;
pub mod global_manager;
pub mod lifecycle_manager;
pub mod messages;
mod questions;
