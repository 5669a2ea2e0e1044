//! How processes reach one another.

pub mod frame;
pub mod mqtt;
