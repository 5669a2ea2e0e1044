//! How processes reach one another.

pub mod control;
pub mod direct;
pub mod frame;
pub mod heartbeat;
pub mod mqtt;
pub mod tls;
