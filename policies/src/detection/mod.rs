//! Noticing failures (paper, 4.2.2).

pub mod appliance;
pub mod appliance_words;

pub use appliance::{
    ApplianceMonitor, ApplianceVerdict, ApplianceWatch, BridgeVerdict, Effect, Input, Signal,
};
pub use appliance_words::is_available;
