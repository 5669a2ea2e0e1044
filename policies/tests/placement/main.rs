//! Placement: what is asked for holds, what cannot be done is said with its reason.

mod rules;
mod site;
