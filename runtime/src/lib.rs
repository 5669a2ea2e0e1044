//! What Lamplighter does: clock, stores, transports, processes. It decides nothing about the protocol.

pub mod store;
