//! What the integration tests share.

pub mod application;
pub mod clinic;
pub mod fog;
pub mod http_device;
pub mod proxy;
pub mod recovery;
pub mod redis_server;
pub mod simulated_disk;
pub mod site;
pub mod store_suite;
