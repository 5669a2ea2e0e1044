//! What the topology says about one element, as far as its cell must know it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::model::{CheckpointPolicy, DeviceModel, Lag, OnExpired};
use crate::notification::Neighbourhood;
use crate::restart::RestartPolicy;
use crate::state_saving::{HoldLimit, Properties};

/// All that a cell is told about its element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellSettings {
    /// The element.
    pub element: EntityId,
    /// The bindings on which it receives.
    pub inbound: Vec<InboundLink>,
    /// The flows on which it sends.
    pub outbound: Vec<OutboundLink>,
    /// The appliances at the other ends, in whose places others may serve.
    pub places: BTreeMap<EntityId, Place>,
    /// What the appliances at the other ends are; one that is not here takes nothing twice.
    pub devices: BTreeMap<EntityId, DeviceModel>,
    /// The flows on which it calls.
    pub calls: Vec<CallLink>,
    /// The ports on which it calls appliances.
    pub device_calls: Vec<DeviceCallLink>,
    /// The bindings on which it is called; each is among the inbound ones too.
    pub served: Vec<ServedLink>,
    /// How often it is checkpointed.
    pub checkpoint: CheckpointPolicy,
    /// How often a failed handler is mended before the failure is escalated.
    pub restart: RestartPolicy,
    /// How often an input may fail before it is given up; at least 1.
    pub attempts_max: u32,
    /// How long a proof of ownership allows commands to leave; `None` where nobody else can own the
    /// element.
    pub lease: Option<Duration>,
    /// What becomes of an input that had expired when it was logged.
    pub on_expired: OnExpired,
    /// How many inputs may wait; beyond that its senders are held back. At least 1.
    pub mailbox_max: usize,
    /// How many outputs may be unacknowledged before the element takes no more input.
    pub unacknowledged_max: usize,
    /// How many batches may be on their way to the store at a time; at least 1.
    pub batches_max: usize,
    /// How many records one batch may hold; at least 1.
    pub records_max: usize,
    /// How many bytes of payload one batch may hold, beyond its first record.
    pub bytes_max: usize,
    /// How far the stable store may be behind; `None` saves pessimistically.
    pub lag: Option<Lag>,
    /// Whether it waits, restored, until it is told to resume.
    pub resume_awaited: bool,
    /// Who is around the element.
    pub around: Neighbourhood,
    /// The elements around it, and what goes to and from each.
    pub neighbours: BTreeMap<EntityId, Neighbour>,
    /// How much waits for each binding to a neighbour with whom nothing is exchanged.
    pub hold: HoldLimit,
}

impl CellSettings {
    /// The defaults for an element without bindings.
    #[must_use]
    pub fn new(element: EntityId) -> Self {
        Self {
            element,
            inbound: Vec::new(),
            outbound: Vec::new(),
            places: BTreeMap::new(),
            devices: BTreeMap::new(),
            calls: Vec::new(),
            device_calls: Vec::new(),
            served: Vec::new(),
            checkpoint: CheckpointPolicy::default(),
            restart: RestartPolicy::default(),
            attempts_max: 2,
            lease: None,
            on_expired: OnExpired::default(),
            mailbox_max: 1_024,
            unacknowledged_max: 10_000,
            batches_max: 4,
            records_max: 256,
            bytes_max: 1 << 20,
            lag: None,
            resume_awaited: false,
            around: Neighbourhood::default(),
            neighbours: BTreeMap::new(),
            hold: HoldLimit::default(),
        }
    }
}

/// An element around another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The links between the two, whichever way they go.
    pub links: BTreeSet<EntityId>,
    /// How the author knows it: the output ports that lead there; the bindings that only receive.
    pub outputs: BTreeSet<String>,
}

/// A binding on which an element receives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundLink {
    /// The binding.
    pub id: EntityId,
    /// The element or appliance at its other end; that of the binding for a device without a name.
    pub source: EntityId,
    /// Whether the source numbers its events.
    pub kind: Source,
}

/// What is at the sending end of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// An element: it numbers its events and keeps them until they are acknowledged.
    Element,
    /// A device: what it says gets its number here, when it is logged.
    Device,
}

/// A flow on which an element sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundLink {
    /// The binding for a flow to an element. For one to an appliance, binding and port; flows that reach
    /// one appliance at one place share the id of the first, so that their commands are merged.
    pub id: String,
    /// The output port that feeds it.
    pub port: String,
    /// What is put before the encoded output, so that it decodes as the receiver's input.
    #[serde(with = "serde_bytes")]
    pub prefix: Vec<u8>,
    /// What is at the other end.
    pub target: Target,
    /// How long what it carries holds where the handler does not say.
    pub valid_for: Option<Duration>,
}

/// What is at the receiving end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// An element, which logs and acknowledges.
    Element,
    /// This appliance, for whose commands this element's log is the memory; for a device without a
    /// name, the binding.
    Appliance(EntityId),
}

/// A flow on which an element calls another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLink {
    /// The binding, over which calls go.
    pub id: EntityId,
    /// The link over which their replies come; it is among the inbound ones too.
    pub replies: EntityId,
    /// The port that is called.
    pub port: String,
    /// What is put before what is asked, so that it decodes as the callee's input.
    #[serde(with = "serde_bytes")]
    pub prefix: Vec<u8>,
    /// What is put before the answer, so that it decodes as the caller's input.
    #[serde(with = "serde_bytes")]
    pub reply_prefix: Vec<u8>,
    /// How long an answer may take where the handler does not say.
    pub within: Duration,
}

/// A port on which an element calls an appliance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCallLink {
    /// The port that is called.
    pub port: String,
    /// The flow over which its commands go; it is among the outbound ones too.
    pub link: String,
    /// What is put before the answer, so that it decodes as the caller's input.
    #[serde(with = "serde_bytes")]
    pub reply_prefix: Vec<u8>,
    /// How long an answer may take where the handler does not say.
    pub within: Duration,
}

/// A binding on which an element is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedLink {
    /// The binding, over which calls come.
    pub id: EntityId,
    /// The link over which their replies go.
    pub replies: EntityId,
}

/// The place of an appliance, in which another may serve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The flows that lead there.
    pub links: BTreeSet<String>,
    /// How the author knows it: the output ports that lead there; the bindings that only receive.
    pub outputs: BTreeSet<String>,
    /// The command that leaves it harmless.
    pub safe_state: Option<Properties>,
}
