//! Who is told of a failure, what they are told, and what follows from it for them (paper, 4.2.3).

mod notice;

pub use notice::{EntityState, Notice, NoticeDecision};
