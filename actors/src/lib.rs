//! Resilient fog and IoT applications as actors whose state, log and timers survive.
//!
//! An application is a set of [`Element`]s and a TOML topology. See [`Element`] for the first one.

#[cfg(panic = "abort")]
compile_error!(
    "Lamplighter mends an element after a panic, which needs unwinding: \
     remove `panic = \"abort\"` from the profile"
);

mod access;
mod app;
mod appliance_monitor;
mod author;
pub mod cli;
pub mod cluster;
pub mod dead_letter;
mod detector;
pub mod device_simulator;
mod encoding;
pub mod fog_agent;
pub mod global_manager;
mod heartbeats;
mod host;
mod instance;
mod lifecycle_manager;
pub mod network;
pub mod operator;
pub mod panics;
pub mod scaffold;
pub mod scenario;
pub mod shell;
pub mod spec;
mod testkit;

pub use app::{App, Error, Result, app};
pub use author::{
    Answer, Appliance, ApplianceCommand, ApplianceError, AppliancePlace, CALL_BYTES_MAX, Call,
    CallError, CallId, CallSetting, Callable, Change, Context, Element, Emission, Event, Failure,
    Fields, NoReply, NotReported, Outcome, Output, Refusal, Reports, TimerSetting, Timestamp,
    Valid,
};
pub use instance::StateFault;
pub use lamplighter_policies::ids::EntityId;
pub use lamplighter_policies::physical_world::DeviceFence;
pub use rand;
pub use serde_json::json;
pub use testkit::TestElement;

/// What an application's file begins with: `use lamplighter::prelude::*;`.
pub mod prelude {
    pub use std::time::Duration;

    pub use serde::{Deserialize, Serialize};

    pub use crate::{
        Answer, Appliance, ApplianceCommand, ApplianceError, AppliancePlace, Call, CallError,
        CallId, Callable, Change, Context, Element, Event, Failure, Fields, NoReply, Outcome,
        Output, Refusal, Reports, TestElement, Valid, json,
    };
}
