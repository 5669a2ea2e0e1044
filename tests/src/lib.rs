//! What the integration tests share.

pub mod store_suite;
