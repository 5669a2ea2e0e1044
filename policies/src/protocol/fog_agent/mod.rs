//! The fog agent: keeps the elements of one server running (paper, 4.2.2 and 4.2.4).
//!
//! It has a started spare host ready, watches every host's exit, reports a death to the manager and
//! carries out the decision. Departure from the paper: if no decision comes within
//! `autonomy_after`, or no manager is connected, the agent restarts the element alone and tells
//! when it can; a manager that is gone must not stop repairs that need nobody else.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::detection::{ApplianceVerdict, ApplianceWatch, BridgeVerdict, MonitorOrder, Noticed};
use crate::ids::EntityId;
use crate::machine::Machine;
use crate::model::Isolation;
use crate::protocol::control::{Decider, ElementStatus, FromAgent, ToAgent};
use crate::protocol::messages::{FromHost, ToHost};
use crate::restart::{RestartHistory, RestartPolicy};
use crate::time::{Monotonic, Now};

use appliances::Appliances;
use callees::Callees;
use hanging::Hanging;
pub use hanging::{Condition, LOOK_PERIOD};
use hosted::{Hosted, Phase};
use hosts::Hosts;
pub use hosts::{EXIT_TIMEOUT, HELLO_TIMEOUT, HostId};
use servers::Servers;

mod appliances;
mod callees;
mod end;
mod hanging;
mod hosted;
mod hosts;
mod lifecycle;
mod notifying;
mod orders;
mod repair;
mod servers;
#[cfg(test)]
mod tests;

/// How long hosts may take to answer a report request.
pub const REPORT_TIMEOUT: Duration = Duration::from_millis(250);

/// How an agent works.
#[derive(Clone, Debug)]
pub struct FogAgentSettings {
    /// How long the manager's decision is awaited.
    pub autonomy_after: Duration,
    /// Whether elements share a host process.
    pub isolation: Isolation,
    /// How long elements may take for their last checkpoint when all is stopped.
    pub stop_timeout: Duration,
    /// How often host processes may fail before they run anything.
    pub spawn: RestartPolicy,
}

impl Default for FogAgentSettings {
    fn default() -> Self {
        Self {
            autonomy_after: Duration::from_millis(100),
            isolation: Isolation::Process,
            stop_timeout: Duration::from_secs(5),
            spawn: RestartPolicy::default(),
        }
    }
}

/// What a fog agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The manager accepted the connection.
    ManagerConnected,
    /// The connection to the manager is gone.
    ManagerLost,
    /// The manager said something.
    ManagerTold(ToAgent),
    /// A host said something.
    HostTold {
        /// Which host.
        host: HostId,
        /// What.
        message: FromHost,
    },
    /// A host process is gone, or could not be spawned.
    HostExited {
        /// Which host.
        host: HostId,
        /// How it ended, for people.
        how: String,
        /// When it was seen.
        seen_at: Monotonic,
    },
    /// Whoever started the agent is gone, or wants it to stop.
    StopRequested,
    /// What its monitor thinks of an appliance.
    ApplianceJudged(EntityId, ApplianceVerdict),
    /// What its monitor thinks of a bridge.
    BridgeJudged(String, BridgeVerdict),
    /// Where the agent hears heartbeats, and as which incarnation it sends its own.
    Beating {
        /// Its address, `host:port`.
        address: String,
        /// Higher than that of every agent of the server before.
        incarnation: u64,
    },
    /// What its monitor noticed of another server.
    ServerNoticed(Noticed),
    /// What the system says of a host.
    HostLookedAt(HostId, Condition),
}

/// What a fog agent asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Spawn a host process.
    Spawn(HostId),
    /// Tell a host.
    Tell {
        /// Which host.
        host: HostId,
        /// What.
        message: ToHost,
    },
    /// Let a host end in order: close its lifeline.
    Close(HostId),
    /// Kill a host process.
    Kill(HostId),
    /// Tell the manager; only while connected.
    Report(FromAgent),
    /// Everything has stopped: end the agent.
    Finish,
    /// Have the monitor watch these, besides those that it watches.
    Watch {
        /// Which, and by which signals.
        appliances: Vec<ApplianceWatch>,
        /// How to hear them, for the shell to decode.
        access: Vec<u8>,
    },
    /// Tell the monitor of servers.
    Monitor(MonitorOrder),
    /// Ask the system how a host process is.
    Look(HostId),
    /// For drills: stop a host process, as if it hung.
    Hang(HostId),
}

/// The fog agent of one server.
#[derive(Debug)]
pub struct FogAgent {
    settings: FogAgentSettings,
    connected: bool,
    elements: BTreeMap<EntityId, Hosted>,
    hosts: Hosts,
    spawns: RestartHistory,
    /// No host is spawned before this instant, because the last ones failed.
    spawn_at: Option<Monotonic>,
    reporting: Option<Reporting>,
    stopping: Stopping,
    callees: Callees,
    appliances: Appliances,
    servers: Servers,
    hanging: Hanging,
}

/// A report under way.
#[derive(Debug)]
struct Reporting {
    request: u64,
    awaited: Vec<EntityId>,
    deadline: Monotonic,
}

/// How far the agent's own end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    Elements { kill_at: Monotonic },
    Hosts { kill_at: Monotonic },
    Done,
}

impl FogAgent {
    /// An agent that runs nothing yet.
    #[must_use]
    pub fn new(settings: FogAgentSettings) -> Self {
        Self {
            spawns: RestartHistory::new(settings.spawn),
            settings,
            connected: false,
            elements: BTreeMap::new(),
            hosts: Hosts::default(),
            spawn_at: None,
            reporting: None,
            stopping: Stopping::No,
            callees: Callees::default(),
            appliances: Appliances::default(),
            servers: Servers::default(),
            hanging: Hanging::default(),
        }
    }

    fn manager_told(&mut self, now: Now, told: ToAgent, effects: &mut Vec<Effect>) {
        match told {
            ToAgent::Orders {
                autonomy_after,
                isolation,
            } => {
                self.settings.autonomy_after = autonomy_after;
                self.settings.isolation = isolation;
            }
            ToAgent::Assign(assignment) => self.assigned(now, assignment, effects),
            ToAgent::Decided {
                element,
                failure,
                decision,
            } => self.decided(now, &element, failure, decision, effects),
            ToAgent::Report { request } => self.report(now, request, effects),
            ToAgent::Inject { element, injection } => {
                self.inject(now, &element, injection, effects)
            }
            ToAgent::Stop => self.stop(now, effects),
            ToAgent::Judge(judgement) => self.judge(judgement, effects),
            ToAgent::Reach(callee) => self.reach(callee, effects),
            ToAgent::Watch { appliances, access } => {
                effects.push(Effect::Watch { appliances, access });
            }
            ToAgent::Reconfigure {
                element,
                reconfiguration,
            } => self.reconfigure(&element, reconfiguration, effects),
            ToAgent::Between(message) => self.deliver_between(message, effects),
            ToAgent::Digest(digest) => self.pass_digest(&digest, effects),
            ToAgent::Monitor(order) => self.monitor(order, effects),
            ToAgent::Release { element, in_order } => {
                self.let_go(now, &element, in_order, effects);
            }
            ToAgent::Resume { element } => self.resume(&element, effects),
            ToAgent::Await { element } => self.await_others(&element),
        }
    }

    fn host_told(&mut self, now: Now, host: HostId, told: FromHost, effects: &mut Vec<Effect>) {
        match told {
            FromHost::Hello { pid, version } => self.greeted(now, host, pid, version, effects),
            FromHost::Ready {
                element,
                epoch,
                phases,
            } => {
                if let Some(hosted) = self.hosted_by(host, &element) {
                    hosted.ready(now.monotonic, host, epoch, phases);
                    self.show(&element, effects);
                    self.spawn_missing(now, effects);
                }
            }
            FromHost::FirstEvent { element } => {
                let ended = self
                    .hosted_by(host, &element)
                    .map(|h| h.first_event(now.monotonic));
                if ended == Some(true) {
                    self.show(&element, effects);
                }
            }
            FromHost::Mended {
                element,
                cause,
                took,
            } => {
                if let Some(hosted) = self.hosted_by(host, &element) {
                    hosted.mended(now.wall - took, took, cause);
                    self.show(&element, effects);
                }
            }
            FromHost::Report {
                request,
                element,
                report,
            } => {
                if let Some(hosted) = self.hosted_by(host, &element) {
                    hosted.report = Some(report);
                    self.reported(request, &element, effects);
                }
            }
            FromHost::GivenUp {
                element,
                cause,
                restart_may_help,
            } => self.given_up(now, host, &element, cause, restart_may_help, effects),
            FromHost::Stopped { element } => self.stopped(now, host, &element, effects),
            FromHost::Pong { number, within } => self.answered(host, number, within),
            FromHost::Listening(callee) => {
                if self.hosted_by(host, &callee.element).is_some() {
                    self.listening(callee, effects);
                }
            }
            FromHost::Reconfigured {
                element,
                reconfiguration,
            } => {
                if self.hosted_by(host, &element).is_some() {
                    self.reconfigured(element, reconfiguration, effects);
                }
            }
            FromHost::Restored { element, epoch } => {
                self.restored(now, host, &element, epoch, effects);
            }
            FromHost::Between(message) => self.between(message, effects),
            FromHost::Lacking { element, entities } => self.lacks(element, entities, effects),
        }
    }

    /// The host no longer has the element; if it has none left, it must end soon.
    fn release(&mut self, now: Now, host: HostId, element: &EntityId) {
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.elements.remove(element);
            if entry.elements.is_empty() {
                entry.spent = true;
                entry.kill_at = Some(now.monotonic + EXIT_TIMEOUT);
            }
        }
    }

    /// The element, if it is this host that has it: what a replaced host says is void.
    fn hosted_by(&mut self, host: HostId, element: &EntityId) -> Option<&mut Hosted> {
        let hosted = self.elements.get_mut(element)?;
        (hosted.host() == Some(host)).then_some(hosted)
    }

    fn suspected(&self) -> Vec<EntityId> {
        let is_suspected = |hosted: &Hosted| matches!(hosted.phase, Phase::Suspected { .. });
        let suspected = self
            .elements
            .iter()
            .filter(|(_, hosted)| is_suspected(hosted));
        suspected.map(|(element, _)| element.clone()).collect()
    }

    fn status(&self, element: &EntityId, hosted: &Hosted) -> ElementStatus {
        hosted.status(element, hosted.host().and_then(|host| self.hosts.pid(host)))
    }

    fn show(&self, element: &EntityId, effects: &mut Vec<Effect>) {
        if let Some(hosted) = self.elements.get(element) {
            self.tell_manager(
                FromAgent::Status(Box::new(self.status(element, hosted))),
                effects,
            );
        }
    }

    fn tell_manager(&self, message: FromAgent, effects: &mut Vec<Effect>) {
        if self.connected {
            effects.push(Effect::Report(message));
        }
    }
}

impl Machine for FogAgent {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::ManagerConnected => {
                self.connected = true;
                self.tell_of_appliances(effects);
                let hosted = self
                    .elements
                    .iter()
                    .map(|(id, hosted)| self.status(id, hosted));
                let hosted = hosted.collect();
                self.tell_manager(FromAgent::Registered { hosted }, effects);
                self.tell_of_own_callees(effects);
                self.tell_of_servers(effects);
            }
            Input::ManagerLost => {
                self.connected = false;
                self.reporting = None;
                for element in self.suspected() {
                    self.proceed(now, &element, Decider::Agent, effects);
                }
                self.resume_all(effects);
            }
            Input::ManagerTold(told) => self.manager_told(now, told, effects),
            Input::HostTold { host, message } => self.host_told(now, host, message, effects),
            Input::HostExited { host, how, seen_at } => {
                self.host_exited(now, host, &how, seen_at, effects);
            }
            Input::StopRequested => self.stop(now, effects),
            Input::ApplianceJudged(appliance, verdict) => {
                self.appliance_judged(appliance, verdict, effects);
            }
            Input::BridgeJudged(bridge, verdict) => self.bridge_judged(bridge, verdict, effects),
            Input::Beating {
                address,
                incarnation,
            } => self.beating(address, incarnation, effects),
            Input::ServerNoticed(noticed) => self.server_noticed(noticed, effects),
            Input::HostLookedAt(host, condition) => {
                self.host_looked_at(now, host, condition, effects);
            }
        }
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        let elements = self.elements.values().filter_map(Hosted::deadline).min();
        let report = self.reporting.as_ref().map(|reporting| reporting.deadline);
        let spawn = self.spawn_at.filter(|_| self.stopping == Stopping::No);
        let stop = match self.stopping {
            Stopping::Elements { kill_at } | Stopping::Hosts { kill_at } => Some(kill_at),
            Stopping::No | Stopping::Done => None,
        };
        let hosts = [self.hosts.deadline(), self.looks_at()];
        [elements, report, spawn, stop]
            .into_iter()
            .chain(hosts)
            .flatten()
            .min()
    }

    fn wake(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due: Vec<EntityId> = self
            .elements
            .iter()
            .filter(|(_, hosted)| hosted.deadline().is_some_and(|at| at <= now.monotonic))
            .map(|(element, _)| element.clone())
            .collect();
        for element in &due {
            match self.elements.get(element).map(|hosted| &hosted.phase) {
                Some(Phase::Suspected { .. }) => {
                    self.proceed(now, element, Decider::Agent, effects);
                }
                Some(Phase::Restored(..)) => self.resume(element, effects),
                Some(_) | None => self.start(now, element, effects),
            }
            self.show(element, effects);
        }
        self.look_at_hosts(now, effects);
        while let Some(host) = self.hosts.overdue(now.monotonic) {
            effects.push(Effect::Kill(host));
        }
        if self
            .reporting
            .as_ref()
            .is_some_and(|r| r.deadline <= now.monotonic)
        {
            self.reporting.iter_mut().for_each(|r| r.awaited.clear());
            self.end_report(effects);
        }
        if self.spawn_at.is_some_and(|at| at <= now.monotonic) {
            self.spawn_at = None;
            self.spawn_missing(now, effects);
        }
        match self.stopping {
            Stopping::Elements { kill_at } | Stopping::Hosts { kill_at }
                if kill_at <= now.monotonic =>
            {
                effects.extend(self.hosts.ids().map(Effect::Kill));
                self.stopping = Stopping::Hosts {
                    kill_at: now.monotonic + EXIT_TIMEOUT,
                };
            }
            Stopping::No | Stopping::Elements { .. } | Stopping::Hosts { .. } | Stopping::Done => {}
        }
    }
}
