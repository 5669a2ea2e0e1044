//! Devices that are not on the broker.

pub mod http;
