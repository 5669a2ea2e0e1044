//! What an application author writes and uses. Nothing of actix shows here.
//!
//! The paper's four interfaces (5.2) are: *CkptAPI*, the serde state of an [`Element`] plus
//! `checkpoint = { every = 100, interval = "5s" }` in the topology; *MsgLogAPI*, `log = …` there, and
//! the logging around every handler; *FctRecordAPI*, [`Callable`], whose calls are recorded at callee and
//! caller; *ConfigAPI*, [`Element::reconfigured`].

mod appliance;
mod call;
mod change;
mod context;
mod element;
mod emission;
mod event;
mod failure;
mod migration;
mod output;
mod valid;

pub use appliance::{
    Appliance, ApplianceCommand, ApplianceError, AppliancePlace, NotReported, Reports,
};
pub(crate) use appliance::{Device, StartDevice, start_device};
pub(crate) use call::answer_of;
pub use call::{Answer, CALL_BYTES_MAX, Call, CallError, Callable, NoReply, Refusal};
pub use change::Change;
pub use context::{CallSetting, Context, TimerSetting};
pub(crate) use context::{Given, Wishes};
pub use element::Element;
pub use emission::Emission;
pub use event::Event;
pub use failure::{Failure, Outcome};
pub use migration::Fields;
pub use output::Output;
pub use valid::Valid;

pub use lamplighter_policies::state_saving::CallId;
pub use lamplighter_policies::time::WallClock as Timestamp;
