//! Why an element cannot run on a server, in words for people.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;

/// What keeps an element from a server. The order is that in which servers are filtered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Obstacle {
    /// It has to be with an element and apart from it, by way of others perhaps.
    Contradiction,
    /// It failed there.
    Barred,
    /// Its author wants it on another server and nowhere else.
    Pinned(EntityId),
    /// The server has another processor.
    Architecture(String),
    /// The server lacks a label.
    Label(String),
    /// The server is in another zone, or says none.
    Zone(Option<String>),
    /// It has to be with this element, which is elsewhere.
    Together(EntityId),
    /// It must not be with this element, which is there.
    Apart(EntityId),
    /// The server is too small, whoever else runs there.
    Small(Shortage),
    /// The server has no room left.
    Room(Shortage),
    /// The channels give no way from there to what it is bound to.
    Path {
        /// By which binding.
        binding: EntityId,
    },
    /// What it is bound to is too far away.
    Latency {
        /// By which binding.
        binding: EntityId,
        /// How long the fastest way takes.
        takes: Duration,
        /// How long it may take.
        allows: Duration,
    },
    /// A channel on the way to what it is bound to would be overloaded.
    Bandwidth {
        /// By which binding.
        binding: EntityId,
        /// Which channel.
        channel: EntityId,
    },
    /// All that it needs is there, and those that may not be put aside left no combination.
    Competition,
}

/// Which resource is short.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shortage {
    /// Which, as the topology calls it.
    pub resource: Resource,
    /// How much is needed.
    pub needs: u64,
    /// How much there is.
    pub offers: u64,
}

/// What a server has a limited amount of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Resource {
    /// Thousandths of a core.
    Processor,
    /// MiB of memory.
    Memory,
    /// MiB of disk.
    Disk,
}

/// Why an element has no place: what keeps it from each server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoPlace {
    /// Each server that takes elements, with what keeps the element from it.
    pub servers: Vec<(EntityId, Obstacle)>,
}

/// The filters in their order: which of them left no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// No server takes elements.
    Servers,
    /// It failed on all that are left.
    Barred,
    /// It is pinned to one server.
    Pinned,
    /// Processors.
    Architecture,
    /// Labels.
    Labels,
    /// The designated zone.
    Zone,
    /// Who has to be, or must not be, with whom.
    Affinity,
    /// Processor time, memory and disk.
    Resources,
    /// Ways and how long they take.
    Latency,
    /// What channels carry.
    Bandwidth,
}

impl Obstacle {
    /// Which filter it belongs to.
    #[must_use]
    pub fn filter(&self) -> Filter {
        match self {
            Self::Barred => Filter::Barred,
            Self::Pinned(_) => Filter::Pinned,
            Self::Architecture(_) => Filter::Architecture,
            Self::Label(_) => Filter::Labels,
            Self::Zone(_) => Filter::Zone,
            Self::Contradiction | Self::Together(_) | Self::Apart(_) => Filter::Affinity,
            Self::Small(_) | Self::Room(_) | Self::Competition => Filter::Resources,
            Self::Path { .. } | Self::Latency { .. } => Filter::Latency,
            Self::Bandwidth { .. } => Filter::Bandwidth,
        }
    }
}

impl NoPlace {
    /// The filter that left no server: of those before, some server passed each.
    #[must_use]
    pub fn filter(&self) -> Filter {
        let filters = self.servers.iter().map(|(_, obstacle)| obstacle.filter());
        filters.max().unwrap_or(Filter::Servers)
    }

    /// The server that passed the most filters, and what keeps the element from it.
    #[must_use]
    pub fn nearest(&self) -> Option<&(EntityId, Obstacle)> {
        self.servers
            .iter()
            .rev()
            .max_by_key(|(_, obstacle)| obstacle.filter())
    }
}

/// How many servers are told one by one.
const SERVERS_TOLD_MAX: usize = 4;

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((server, obstacle)) = self.nearest() else {
            return f.write_str("no server takes elements");
        };
        // These two are the same whichever server is asked.
        if let Obstacle::Pinned(to) = obstacle {
            return write!(f, "it is pinned to {to}, which is not there");
        }
        if *obstacle == Obstacle::Contradiction {
            return write!(f, "{obstacle}");
        }
        write!(f, "{}: {server} {obstacle}", self.filter())?;
        let others = self.servers.iter().filter(|(id, _)| id != server);
        for (server, obstacle) in others.clone().take(SERVERS_TOLD_MAX - 1) {
            write!(f, "; {server} {obstacle}")?;
        }
        match others.count().saturating_sub(SERVERS_TOLD_MAX - 1) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Servers => "no server takes elements",
            Self::Barred => "it failed on each server that could host it",
            Self::Pinned => "it is pinned to a server that is not there",
            Self::Architecture => "no server has its architecture",
            Self::Labels => "no server has its labels",
            Self::Zone => "no server is in its zones",
            Self::Affinity => "no server satisfies whom it must and must not be with",
            Self::Resources => "no server has room for it",
            Self::Latency => "no server is near enough to what it is bound to",
            Self::Bandwidth => "no server has the bandwidth to what it is bound to",
        })
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contradiction => {
                f.write_str("by way of others it must be with an element and apart from it")
            }
            Self::Barred => f.write_str("is where it failed"),
            Self::Pinned(server) => write!(f, "is not {server}, to which it is pinned"),
            Self::Architecture(has) => write!(f, "has a processor of architecture {has}"),
            Self::Label(label) => write!(f, "has no label \"{label}\""),
            Self::Zone(Some(zone)) => write!(f, "is in zone \"{zone}\""),
            Self::Zone(None) => f.write_str("is in no zone"),
            Self::Together(with) => write!(f, "is not where {with} is"),
            Self::Apart(from) => write!(f, "hosts {from}, from which it must be apart"),
            Self::Small(shortage) => write!(f, "is too small: {shortage}"),
            Self::Room(shortage) => write!(f, "is full: {shortage}"),
            Self::Path { binding } => write!(f, "has no way for binding {binding}"),
            Self::Latency {
                binding,
                takes,
                allows,
            } => write!(
                f,
                "is too far for binding {binding}: {takes:?} where {allows:?} are allowed"
            ),
            Self::Bandwidth { binding, channel } => {
                write!(f, "would overload channel {channel} by binding {binding}")
            }
            Self::Competition => f.write_str("is needed for others"),
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resource,
            needs,
            offers,
        } = self;
        write!(f, "{needs} {resource} needed, {offers} there")
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Processor => "cpu_milli",
            Self::Memory => "ram_mb",
            Self::Disk => "disk_mb",
        })
    }
}
