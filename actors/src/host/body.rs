//! What an element's shell keeps beside its cell.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::configurator;
use lamplighter_policies::protocol::messages::FromHost;
use lamplighter_policies::recovery::Question;
use lamplighter_policies::time::Monotonic;
use lamplighter_runtime::clock::Clock;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::local::LocalFirst;
use lamplighter_runtime::store::{Fence, Nonce};
use lamplighter_runtime::transport::control::Outbox;
use lamplighter_runtime::transport::mqtt::Mqtt;

use super::adapters::{Adapters, Known};
use super::direct::{Callees, Direct};
use super::links::{DeviceTopics, Links, Routes};
use super::reception::{Door, Receipts};
use super::watchdog::Progress;
use crate::instance::{Hosted, SavedFields};
use crate::network::Network;
use crate::shell::Role;
use crate::spec::ElementSpec;

/// What outlives one incarnation of the cell in this process.
pub(super) struct Body {
    pub(super) hosted: Box<dyn Hosted>,
    /// What the store holds of the element's fields.
    pub(super) committed: SavedFields,
    pub(super) fence: Option<Fence>,
    /// How far the last checkpoint covers the log.
    pub(super) checkpoint: u64,
    pub(super) nonce: Nonce,
    pub(super) epoch_floor: u64,
    /// The epoch of the last owner whose end the agent has seen.
    pub(super) ended_epoch: Option<u64>,
    /// Until when the owner before may act.
    pub(super) free_at: Monotonic,
    /// When the store was asked for what it answered last to us as the owner.
    pub(super) proven_at: Option<Monotonic>,
    pub(super) mqtt: Option<Mqtt>,
    /// Its connections for calls, once its epoch is known.
    pub(super) direct: Option<Direct>,
    /// Its configurator, once that has started.
    pub(super) configurator: Option<Role<configurator::Input>>,
    /// What is wrong with the store at present, if anything.
    pub(super) trouble: Option<String>,
    /// How long the last checkpoint took.
    pub(super) checkpoint_took: Option<Duration>,
    pub(super) assigned_at: Monotonic,
    pub(super) restored_at: Monotonic,
    /// Per flow to an appliance that is being asked, what.
    pub(super) asking: BTreeMap<String, (u64, Question)>,
    /// Per flow to an appliance, where whoever serves there is told and asked.
    pub(super) devices: BTreeMap<String, DeviceTopics>,
    /// What is heard, for the thread that receives it.
    pub(super) routes: Arc<RwLock<Routes>>,
    /// The last index of any batch that was sent and not taken: when the store answers one that is
    /// sent again, it may be with the time of the first try.
    pub(super) tried_upto: u64,
    /// Those who speak to appliances that are not on the broker; `None` when the element is over.
    pub(super) adapters: Option<Adapters>,
    /// Where adapters hand in what is heard, once the element is connected.
    pub(super) door: Option<Arc<Door>>,
}

/// Where an element's host puts what concerns the whole process.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) spec: Rc<ElementSpec>,
    pub(super) links: Rc<Links>,
    pub(super) store: LocalFirst<AnyStore>,
    /// What time it is by the store's clock.
    pub(super) clock: Clock,
    pub(super) receipts: Receipts,
    pub(super) agent: Outbox<FromHost>,
    pub(super) progress: Progress,
    pub(super) ended: tokio::sync::mpsc::UnboundedSender<EntityId>,
    pub(super) callees: Callees,
    /// Where the socket for calls is made.
    pub(super) calls_directory: Option<PathBuf>,
    pub(super) network: Network,
    /// The adapters that the program has.
    pub(super) known_adapters: Rc<Known>,
}
