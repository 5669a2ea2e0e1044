//! Noticing failures (paper, 4.2.2).

pub mod appliance;
pub mod appliance_words;
pub mod confirm;
pub mod heartbeat;
pub mod observation;
pub mod observers;
pub mod server_monitor;

pub use appliance::{
    ApplianceMonitor, ApplianceVerdict, ApplianceWatch, BridgeVerdict, Effect, Input, Signal,
};
pub use appliance_words::is_available;
pub use confirm::{Suspicion, Verdict};
pub use heartbeat::{Confirmation, Heartbeat, HeartbeatMonitor, HeartbeatProfile};
pub use observation::{HeartbeatSecret, Judgement, MonitorOrder, Noticed, Observation, Peer};
pub use observers::{Observers, assign_observers};
pub use server_monitor::ServerMonitor;
