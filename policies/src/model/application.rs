//! The application graph: who needs whom, and what passes between them (paper, 3.1 and 3.3).

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{EntityId, InvalidId};
use crate::physical_world::Validity;

/// A functional dependency, `from` requires `to`, and the flows that it carries.
///
/// Between two elements all flows of one binding go the same way, so a binding has one sender, one
/// receiver and one mark. What the file writes as one binding with both ways is two of these: `x`
/// with what it receives and `x.send` with what it sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// The dependent: always an element.
    pub from: EntityId,
    /// The prerequisite, element or appliance; `None` is a device that the topology does not
    /// declare and knows by a topic only.
    pub to: Option<EntityId>,
    /// How the two speak.
    pub model: Communication,
    /// Whether the dependent cannot work without it.
    pub mandatory: bool,
    /// The longest that a message may take.
    pub latency_max: Option<Duration>,
    /// How many messages a second it carries, by the author's estimate.
    pub rate_hz: Option<f64>,
    /// How large a message is, by the author's estimate.
    pub payload_bytes: Option<u32>,
    /// The least bandwidth it needs, in kilobits a second.
    pub bandwidth_kbps_min: Option<u32>,
    /// What passes.
    pub flows: Vec<Flow>,
    /// For `model = "call"`, how long a reply may take.
    pub reply_within: Duration,
}

/// How the two ends of a binding speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Communication {
    /// Messages: the sender does not wait.
    #[default]
    Message,
    /// Function calls: the caller waits for the reply.
    Call,
}

/// One thing that passes over a binding, one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The binding that carries it.
    pub binding: EntityId,
    /// Where it comes from.
    pub source: Endpoint,
    /// Where it goes.
    pub target: Endpoint,
    /// How long what it carries holds; `None` leaves it to the sender, and is unbounded where the
    /// sender is a device.
    pub valid_for: Option<Validity>,
    /// For a call, the variant of the caller's input that takes the reply.
    pub reply: Option<String>,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Endpoint {
    /// A software element.
    Element {
        /// Which.
        element: EntityId,
        /// Its output port where the flow starts, the variant of its input where the flow ends.
        port: String,
    },
    /// A device.
    Device {
        /// Which; `None` is a device that the topology does not declare.
        appliance: Option<EntityId>,
        /// The topic on which it speaks or listens.
        topic: String,
    },
}

impl Binding {
    /// How long a reply may take where the topology does not say.
    pub const REPLY_WITHIN: Duration = Duration::from_secs(5);

    /// The name of the link over which the replies to the calls of a binding go.
    ///
    /// # Errors
    /// The binding's own name is too long for that.
    pub fn reply_link(binding: &EntityId) -> Result<EntityId, InvalidId> {
        EntityId::new(&alloc::format!("{binding}.reply"))
    }
}

impl Endpoint {
    /// The element at this end, if it is one.
    #[must_use]
    pub fn element(&self) -> Option<&EntityId> {
        match self {
            Self::Element { element, .. } => Some(element),
            Self::Device { .. } => None,
        }
    }

    /// The declared appliance at this end, if it is one.
    #[must_use]
    pub fn appliance(&self) -> Option<&EntityId> {
        match self {
            Self::Element { .. } => None,
            Self::Device { appliance, .. } => appliance.as_ref(),
        }
    }
}

/// Which way a flow goes, as the element in question sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Towards it.
    Incoming,
    /// Away from it.
    Outgoing,
}

impl Flow {
    /// The id under which events of this flow are identified: that of the element or appliance it
    /// comes from, or that of the binding where the device is not declared.
    #[must_use]
    pub fn source_id(&self) -> &EntityId {
        self.source
            .element()
            .or_else(|| self.source.appliance())
            .unwrap_or(&self.binding)
    }

    /// Which way it goes for `element`; `None` if it does not touch it.
    #[must_use]
    pub fn direction(&self, element: &EntityId) -> Option<Direction> {
        if self.target.element() == Some(element) {
            Some(Direction::Incoming)
        } else if self.source.element() == Some(element) {
            Some(Direction::Outgoing)
        } else {
            None
        }
    }
}
