//! The host processes of one fog agent, the started spare among them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use core::time::Duration;

use crate::ids::EntityId;
use crate::time::Monotonic;

/// One host process of an agent; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u64);

/// How long a process may take from its spawn to its hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a host that gave its element up may take to exit by itself.
pub const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A host process.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// Known from its hello on.
    pub(super) pid: Option<u32>,
    /// What it was told to run.
    pub(super) elements: BTreeSet<EntityId>,
    /// It was used, or told to end: nothing more is given to it.
    pub(super) spent: bool,
    /// Why it is killed, if it hung.
    pub(super) hung: Option<String>,
    /// When it is killed unless it has done what it must.
    pub(super) kill_at: Option<Monotonic>,
}

impl Host {
    fn is_free(&self) -> bool {
        self.elements.is_empty() && !self.spent
    }
}

/// All host processes of an agent.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: BTreeMap<HostId, Host>,
    last: u64,
}

impl Hosts {
    /// Enters a host that is about to be spawned.
    pub(super) fn spawned(&mut self, now: Monotonic) -> HostId {
        self.last += 1;
        let host = Host {
            kill_at: Some(now + HELLO_TIMEOUT),
            ..Host::default()
        };
        self.hosts.insert(HostId(self.last), host);
        HostId(self.last)
    }

    pub(super) fn get_mut(&mut self, host: HostId) -> Option<&mut Host> {
        self.hosts.get_mut(&host)
    }

    pub(super) fn remove(&mut self, host: HostId) -> Option<Host> {
        self.hosts.remove(&host)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    pub(super) fn pid(&self, host: HostId) -> Option<u32> {
        self.hosts.get(&host).and_then(|host| host.pid)
    }

    /// The spare: a host that is ready and has nothing to run.
    pub(super) fn spare(&self) -> Option<HostId> {
        let ready = |host: &Host| host.is_free() && host.pid.is_some();
        self.hosts
            .iter()
            .find(|(_, host)| ready(host))
            .map(|(id, _)| *id)
    }

    /// The host that runs elements already, for elements that share one.
    pub(super) fn shared(&self) -> Option<HostId> {
        let used = |host: &Host| !host.elements.is_empty() && !host.spent;
        self.hosts
            .iter()
            .find(|(_, host)| used(host))
            .map(|(id, _)| *id)
    }

    /// How many hosts are free, or will be as soon as they are ready.
    pub(super) fn free_count(&self) -> usize {
        self.hosts.values().filter(|host| host.is_free()).count()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = HostId> + '_ {
        self.hosts.keys().copied()
    }

    /// Those that run elements.
    pub(super) fn busy(&self) -> impl Iterator<Item = HostId> + '_ {
        let busy = |(_, host): &(&HostId, &Host)| !host.elements.is_empty();
        self.hosts.iter().filter(busy).map(|(id, _)| *id)
    }

    /// The next instant at which one must be killed.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.hosts.values().filter_map(|host| host.kill_at).min()
    }

    /// Takes a host whose time is over.
    pub(super) fn overdue(&mut self, now: Monotonic) -> Option<HostId> {
        let is_due = |host: &Host| host.kill_at.is_some_and(|at| at <= now);
        let (id, host) = self.hosts.iter_mut().find(|(_, host)| is_due(host))?;
        host.kill_at = None;
        Some(*id)
    }
}
