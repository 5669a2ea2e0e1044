//! Processes: spawned with a clean environment, watched by event, ended through a handle.

mod condition;
mod link;
mod pidfd;
mod spawn;

pub use condition::{condition, thread_waited};
pub use link::HostLink;
pub use pidfd::{Death, Ended, Pidfd};
pub use spawn::{Process, Program, SpawnError};
