//! The infrastructure and the application as two graphs, checked (paper, 3.1 to 3.3).
//!
//! [`infrastructure`] has servers, network channels and appliances, [`network`] the graph that they are,
//! [`application`] elements and
//! bindings, [`space`] the regions of the physical world, [`services`] what all of them rely on.
//! Every value here has passed the checks of the loader: ids are unique, references resolve.

pub mod application;
pub mod builtin;
pub mod device;
pub mod element;
pub mod flaws;
pub mod infrastructure;
pub mod network;
pub mod services;
pub mod space;
#[cfg(test)]
pub(crate) mod testing;
pub mod topology;
pub mod value;

pub use application::{Binding, Communication, Direction, Endpoint, Flow};
pub use builtin::{BUILT_IN, Described, built_in};
pub use device::{
    Access, Candidates, DeviceModel, Domain, Evidence, Liveness, OnReturn, Probe, Property,
    Relative, Reversion, Substitution,
};
pub use element::{CheckpointPolicy, Element, Lag, LogChoice, OnExpired, PlacementRules};
pub use flaws::{Flaw, Misfit};
pub use infrastructure::{
    ActuationClass, Appliance, ApplianceApi, Channel, CommandMethod, Isolation, LocalStorage,
    Medium, Resources, Role, Server,
};
pub use network::{Network, Ways};
pub use services::{
    Broker, Credentials, Detection, DetectionProfile, Durability, RedisServer, SecretSource, Store,
    StoreKind,
};
pub use space::Space;
pub use topology::{Application, Topology};
pub use value::Value;
