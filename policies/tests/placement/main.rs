//! Placement and what leads to it: what fails with what, what is done about it, and where it goes. What
//! is asked for holds; what cannot be done is said with its reason.

mod causality;
mod deciding;
mod dice;
mod failover;
mod law;
mod oracle;
mod rules;
mod site;
