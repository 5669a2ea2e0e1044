//! What Lamplighter decides: models, rules and machines, pure.
//!
//! The modules follow the paper, so the paper is the map: [`model`] (3.1), [`physical_world`] (3.2),
//! [`state_saving`] (4.2.1), [`detection`] (4.2.2), [`notification`] (4.2.3), [`recovery`] and
//! [`placement`] (4.2.4) and [`protocol`], the machines and what they tell each other.
//! Nothing here reads a clock, touches a socket, a file or a thread, awaits or logs.
#![no_std]
extern crate alloc;

pub mod detection;
pub mod ids;
pub mod machine;
pub mod model;
pub mod notification;
pub mod physical_world;
pub mod placement;
pub mod protocol;
pub mod recovery;
pub mod restart;
pub mod state_saving;
pub mod time;
