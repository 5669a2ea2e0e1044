//! Who is told of a failure, what they are told, and what follows from it for them (paper, 4.2.3).

mod effective;
mod notice;
mod outbox;
mod reconfiguration;
mod table;

pub use effective::{Need, Neighbourhood};
pub use notice::{EntityState, Notice, NoticeDecision};
pub use outbox::{LatestOnly, SAY_AGAIN_MAX, SAY_AGAIN_MIN};
pub use reconfiguration::{BetweenElements, Newest, Said};
pub use table::{PeerView, Situation, Table, Told};
