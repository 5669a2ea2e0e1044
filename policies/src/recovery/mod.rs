//! What is done about failures (paper, 3.4 and 4.2.4).
//!
//! [`causality`] says what fails with what, [`essential`] how much an element matters, [`mod@decide`]
//! what is done about all of it. Of appliances, [`capability`] says what an appliance can do and whether another can do as much, [`substitution`]
//! who takes the place of whom, [`translation`] how what was said to the one is said to the other,
//! [`question`] which of its reports says what an appliance shows.

pub mod capability;
pub mod causality;
pub mod decide;
pub mod essential;
pub mod plan;
pub mod question;
mod ranking;
pub mod substitution;
pub mod translation;

pub use capability::{Capabilities, Capability, Lack, capabilities, missing, needed, provides};
pub use question::{COMPARE_WITHIN, Outcome, Question};
pub(crate) use substitution::servers_of;
pub use substitution::{
    Decision, Kind, Rejection, Situation, Standing, candidates, decide, find_substitute, kind_of,
};
pub use translation::{Loss, Translated, counterparts, translate};
