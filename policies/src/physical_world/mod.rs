//! Events of the physical world and how long they hold (paper, 3.2 and 4.2.1).

mod causes;
mod device_fence;
mod event;
mod lease;
mod recovered;
mod simulated;
mod skew;
mod validity;
mod world;

pub use causes::{Causes, ROOTS_MAX, Root};
pub use device_fence::{DeviceFence, OWNERS_MAX};
pub use event::{EventId, NoEventId, Position};
pub use lease::{Lease, Predecessor, Standing};
pub use recovered::{Happened, recovered, spaces};
pub use simulated::{CarriedOut, SimulatedDevice};
pub use skew::{Agreement, Reading, StoreClock};
pub use validity::{Validity, earliest};
pub use world::{ACCUMULATED_MAX, ATTRIBUTES_MAX, Entry, GRACE, Key, Kind, World};
