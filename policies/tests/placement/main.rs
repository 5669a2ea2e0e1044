//! Placement: what is asked for holds, what cannot be done is said with its reason.

mod dice;
mod failover;
mod law;
mod oracle;
mod rules;
mod site;
