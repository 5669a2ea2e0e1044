//! The smart home of the paper (section 5.1, Figure 6): its elements, its devices, and the drill
//! that breaks it and checks that it comes back.

pub mod demo;
pub mod elements;
pub mod evening;
pub mod messages;
pub mod simulator;
