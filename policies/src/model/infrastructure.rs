//! The infrastructure graph: servers and appliances, joined by network channels (paper, 3.1).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::device::{DeviceModel, Liveness, Substitution};
use super::value::Value;
use crate::ids::EntityId;

/// A machine that hosts software elements; it carries one fog node of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Whether what it stores survives its failure. It decides when elements here are saved.
    pub storage: LocalStorage,
    /// Where it stands, as far as failures and placement care.
    pub zone: Option<String>,
    /// Its processor architecture, such as `aarch64`; `None` is any.
    pub architecture: Option<String>,
    /// What else placement may ask for.
    pub labels: BTreeSet<String>,
    /// What it offers; `None` is not known and never the reason to refuse a placement.
    pub resources: Option<Resources>,
    /// How its elements share processes.
    pub isolation: Isolation,
}

/// Whether a server's local storage survives the server's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocalStorage {
    /// It does: what is written there is found again.
    Persistent,
    /// It does not: what is only local is lost with the server.
    Volatile,
}

/// How the elements of one server share processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// One host process for each element.
    #[default]
    Process,
    /// One host process for all of them.
    Shared,
}

/// An amount of what servers offer and elements ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time, in thousandths of one core.
    pub cpu_milli: u32,
    /// Memory, in MiB.
    pub ram_mb: u32,
    /// Disk, in MiB.
    pub disk_mb: u32,
}

/// A network channel. It joins several pairs, which all fail with it (a hyperedge).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// What carries it.
    pub medium: Medium,
    /// The pairs it joins: server and server, or server and appliance.
    pub ends: Vec<(EntityId, EntityId)>,
    /// The mean time a message takes over it; `None` is not known.
    pub latency: Option<Duration>,
    /// What it carries, in kilobits a second; `None` is not known.
    pub bandwidth_kbps: Option<u32>,
    /// The share of messages that it loses, 0 to 1; `None` is not known.
    pub loss: Option<f64>,
}

/// What carries a network channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// A cable.
    Wired,
    /// IEEE 802.11.
    Wifi,
    /// Zigbee.
    Zigbee,
    /// Z-Wave.
    Zwave,
    /// Bluetooth.
    Bluetooth,
    /// Something else.
    Other,
}

/// A closed device, reachable only by its interface: part of both graphs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Appliance {
    /// How it is spoken to.
    pub api: ApplianceApi,
    /// Whether it senses, acts or both.
    pub role: Role,
    /// What it can do; a substitute must be able to do the same.
    pub functions: BTreeSet<String>,
    /// The geographical spaces it belongs to.
    pub spaces: BTreeSet<EntityId>,
    /// Where it stands, in metres of the site's frame.
    pub position: Option<[f64; 3]>,
    /// Its zone, as that of a server.
    pub zone: Option<String>,
    /// The base topic: its reports arrive here, its commands go to `<topic>/set` unless a flow
    /// says otherwise.
    pub topic: Option<String>,
    /// What repeating one of its commands does.
    pub class: ActuationClass,
    /// How often it reports without being asked; `None` means that silence says nothing.
    pub report_period: Option<Duration>,
    /// The property that no two of its reports share, such as a time stamp or a counter: with it a
    /// report that the broker repeats is told from a new one. Without it a report may be handled twice
    /// after a crash, and none is lost.
    pub identified_by: Option<String>,
    /// The property of its reports that says when what they tell of occurred: a text after ISO 8601,
    /// or seconds or milliseconds since 1970. Without it that is when they arrive.
    pub stamped_by: Option<String>,
    /// The command that leaves it harmless.
    pub safe_state: Option<BTreeMap<String, Value>>,
    /// What it shows and takes.
    pub model: DeviceModel,
    /// How it is known to be there.
    pub liveness: Liveness,
    /// Who may take its place.
    pub substitution: Substitution,
    /// Whether the application fails where it is lost and nobody takes its place.
    pub essential: bool,
    /// Where it is reached: for `api = "http"` a URL, for a program's own adapter whatever that wants.
    pub address: Option<String>,
    /// For `api = "http"`, how commands are sent there.
    pub method: CommandMethod,
    /// For `api = "program"`, the name under which the program registers the adapter.
    pub adapter: Option<String>,
}

/// How an appliance is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApplianceApi {
    /// Over the broker, on its own topics.
    Mqtt,
    /// Over HTTP.
    Http,
    /// By the device simulator.
    Simulated,
    /// By an adapter of the program's own.
    Program,
}

impl ApplianceApi {
    /// Whether it is spoken to over the broker, so that its topics are subscribed to.
    #[must_use]
    pub fn is_on_broker(self) -> bool {
        match self {
            // The simulator's devices live on the broker, as real ones do.
            Self::Mqtt | Self::Simulated => true,
            Self::Http | Self::Program => false,
        }
    }
}

/// By which HTTP method a command is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandMethod {
    /// PUT.
    #[default]
    Put,
    /// POST.
    Post,
}

/// Whether an appliance senses, acts or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It reports only.
    Sensor,
    /// It takes commands only.
    Actuator,
    /// It reports and takes commands.
    Both,
}

impl Role {
    /// Whether it reports.
    #[must_use]
    pub fn senses(self) -> bool {
        match self {
            Self::Sensor | Self::Both => true,
            Self::Actuator => false,
        }
    }

    /// Whether it takes commands.
    #[must_use]
    pub fn acts(self) -> bool {
        match self {
            Self::Actuator | Self::Both => true,
            Self::Sensor => false,
        }
    }
}

/// What repeating a command does to the physical world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActuationClass {
    /// Nothing: it sets a state.
    Set,
    /// It moves the state again: a step, a toggle.
    Delta,
    /// It does what cannot be undone again: unlock, dispense, print.
    #[default]
    Irreversible,
    /// Nothing, as long as the device is given the same key.
    Keyed,
    /// It warns people again: better twice than never.
    Alarm,
}

impl ActuationClass {
    /// Whether a command whose fate is unknown may be sent again.
    #[must_use]
    pub fn may_repeat(self) -> bool {
        match self {
            Self::Set | Self::Keyed | Self::Alarm => true,
            Self::Delta | Self::Irreversible => false,
        }
    }
}
