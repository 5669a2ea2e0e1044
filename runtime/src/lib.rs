//! What Lamplighter does: clock, stores, transports, processes. It decides nothing about the protocol.

pub mod broker;
pub mod clock;
pub mod device;
pub mod managed;
pub mod message_pack;
pub mod process;
pub mod store;
pub mod transport;
