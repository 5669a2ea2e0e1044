//! How processes reach one another.

pub mod frame;
