//! Noticing failures (paper, 4.2.2).

pub mod appliance;
pub mod appliance_words;
pub mod confirm;
pub mod heartbeat;

pub use appliance::{
    ApplianceMonitor, ApplianceVerdict, ApplianceWatch, BridgeVerdict, Effect, Input, Signal,
};
pub use appliance_words::is_available;
pub use confirm::{Suspicion, Verdict};
pub use heartbeat::{Confirmation, Heartbeat, HeartbeatMonitor, HeartbeatProfile};
