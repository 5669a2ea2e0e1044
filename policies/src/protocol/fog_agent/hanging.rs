//! Hosts that are there and do nothing (paper, 4.2.2: local observation of the system).
//!
//! A death is an event; that nothing happens is none, so a host is looked at from outside now and then.
//! It hangs if the system has stopped its process, or if it does not answer for longer than its slowest
//! handler may take. What it waited for a processor is not counted against it, and neither is the time in
//! which the agent itself did not run. Inside a host a watchdog ends handlers that do not return; this is
//! for all that a watchdog inside cannot see.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::hosted::Phase;
use super::hosts::HostId;
use super::{Effect, FogAgent, Stopping};
use crate::protocol::messages::ToHost;
use crate::time::{Monotonic, Now};

/// How often hosts are looked at.
pub const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// A host that was found stopped so many times in a row hangs.
const STOPPED_LOOKS: u32 = 4;
/// What an answer may take beyond the slowest handler: the watchdog inside knows more, and comes first.
const GRACE: Duration = Duration::from_millis(500);

/// What the system says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// A signal or a debugger has stopped it.
    pub is_stopped: bool,
    /// How long its main thread has waited for a processor since it was started.
    pub waited: Duration,
}

/// What is known of the hosts' progress.
#[derive(Debug, Default)]
pub(super) struct Hanging {
    look_at: Option<Monotonic>,
    looked: BTreeMap<HostId, Looked>,
    last_ping: u64,
}

/// What is known of one host.
#[derive(Debug, Default)]
struct Looked {
    stopped: u32,
    seen: Option<(Monotonic, Duration)>,
    /// How long it may take to answer; known from its first answer on, and nothing is held against it
    /// before.
    within: Option<Duration>,
    /// The question that is open, and for how long it could have answered.
    open: Option<(u64, Duration)>,
}

impl Looked {
    /// Takes what was seen at `now`, and says for people why the host hangs, if it does.
    fn seen(&mut self, now: Monotonic, condition: Condition) -> Option<String> {
        let (before, waited) = self.seen.unwrap_or((now, condition.waited));
        self.seen = Some((now, condition.waited));
        self.stopped = if condition.is_stopped {
            self.stopped + 1
        } else {
            0
        };
        if self.stopped >= STOPPED_LOOKS {
            let about = LOOK_PERIOD * self.stopped;
            return Some(format!(
                "hung: its process was stopped for about {} ms",
                about.as_millis()
            ));
        }
        // Whoever looks late cannot know what happened meanwhile: an answer may be waiting unread.
        let passed = (now - before).min(LOOK_PERIOD * 2);
        let starved = condition.waited.saturating_sub(waited);
        let (_, open) = self.open.as_mut()?;
        *open += passed.saturating_sub(starved);
        let hung = *open > self.within? + GRACE;
        hung.then(|| format!("hung: it did not answer for {} ms", open.as_millis()))
    }
}

impl FogAgent {
    pub(super) fn looks_at(&self) -> Option<Monotonic> {
        self.hanging.look_at
    }

    /// Looks at all hosts, if it is time.
    pub(super) fn look_at_hosts(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.stopping != Stopping::No {
            self.hanging.look_at = None;
        }
        if self.hanging.look_at.is_none_or(|at| now.monotonic < at) {
            return;
        }
        let hosts: Vec<HostId> = self.hosts.ids().collect();
        self.hanging.looked.retain(|host, _| hosts.contains(host));
        self.hanging.look_at = (!hosts.is_empty()).then(|| now.monotonic + LOOK_PERIOD);
        let is_ready = |host: &HostId| self.hosts.pid(*host).is_some();
        effects.extend(hosts.into_iter().filter(is_ready).map(Effect::Look));
    }

    /// A host was spawned: from now on there is something to look at.
    pub(super) fn look_from(&mut self, now: Now) {
        self.hanging
            .look_at
            .get_or_insert(now.monotonic + LOOK_PERIOD);
    }

    pub(super) fn host_looked_at(
        &mut self,
        now: Now,
        host: HostId,
        condition: Condition,
        effects: &mut Vec<Effect>,
    ) {
        let runs = |phase: &Phase| *phase == Phase::Running(host);
        let is_running = self.elements.values().any(|hosted| runs(&hosted.phase));
        let Some(entry) = self.hosts.get_mut(host) else {
            return;
        };
        if entry.hung.is_some() {
            return;
        }
        let looked = self.hanging.looked.entry(host).or_default();
        if let Some(hung) = looked.seen(now.monotonic, condition) {
            entry.hung = Some(hung);
            return effects.push(Effect::Kill(host));
        }
        if !is_running {
            // What restores an element answers when it has done so.
            looked.open = None;
        } else if looked.open.is_none() {
            self.hanging.last_ping += 1;
            let number = self.hanging.last_ping;
            looked.open = Some((number, Duration::ZERO));
            let message = ToHost::Ping { number };
            effects.push(Effect::Tell { host, message });
        }
    }

    pub(super) fn answered(&mut self, host: HostId, number: u64, within: Duration) {
        if let Some(looked) = self.hanging.looked.get_mut(&host) {
            looked.within = Some(within);
            looked.open.take_if(|(open, _)| *open == number);
        }
    }
}
