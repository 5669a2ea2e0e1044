//! Heartbeats: their own socket and their own thread (paper, 4.2.2).
//!
//! They go by UDP: over a stream one lost segment would delay all that follow it. They do not share a
//! thread with anything, because a busy executor would look like a failed server. What is received is
//! stamped as it is read, and all that has arrived is read before anybody is judged: a thread that was kept
//! from running finds in its socket what it missed. The kernel's own time stamps are not used; no safe
//! interface of what is used here offers them, and a thread that was late knows it by its own deadlines.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use lamplighter_policies::detection::server_monitor::{Asker, Effect, Input};
use lamplighter_policies::detection::{MonitorOrder, Noticed, ServerMonitor};
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::time::{Monotonic, Now};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::clock;
use packet::{Codec, Content, PACKET_BYTES, Packet, Tag};
use peers::Peers;

pub mod packet;
mod peers;

/// How many packets are read before anything else is done.
const TURN_PACKETS_MAX: usize = 1_024;
/// How many orders may wait; the manager gives one now and then.
const ORDERS_MAX: usize = 1_024;

/// What a heartbeat thread is started with.
#[derive(Debug)]
pub struct HeartbeatPlan {
    /// The server whose heartbeats are sent.
    pub server: EntityId,
    /// Higher than that of every agent of the server before.
    pub incarnation: u64,
    /// Where heartbeats are received, and what they are sent from; a successor may be given that of the
    /// agent before.
    pub socket: UdpSocket,
}

/// What came and went, since the thread was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatCounts {
    /// Packets of this application for this server.
    pub received: u64,
    /// Anything else that arrived.
    pub rejected: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that the system did not take.
    pub unsent: u64,
}

/// A running heartbeat thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Heartbeats {
    address: SocketAddr,
    incarnation: u64,
    socket: UdpSocket,
    orders: SyncSender<MonitorOrder>,
    bell: Arc<Bell>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeats {
    /// Starts the thread. What it notices of other servers is told to `report`, on that thread.
    ///
    /// # Errors
    /// The socket or the thread cannot be used.
    pub fn start(
        plan: HeartbeatPlan,
        report: impl FnMut(Noticed) + Send + 'static,
    ) -> io::Result<Self> {
        let address = plan.socket.local_addr()?;
        plan.socket.set_nonblocking(true)?;
        let (socket, incarnation) = (plan.socket.try_clone()?, plan.incarnation);
        let bell = Arc::new(Bell::new()?);
        let counters = Arc::new(Counters::default());
        let (orders, ordered) = sync_channel(ORDERS_MAX);
        let heart = Heart {
            monitor: ServerMonitor::new(plan.server.clone(), plan.incarnation),
            peers: Peers::new(plan.server),
            codec: None,
            socket: plan.socket,
            ordered,
            bell: bell.clone(),
            counters: counters.clone(),
            askers: Vec::new(),
            report: Box::new(report),
        };
        let thread = std::thread::Builder::new()
            .name("heartbeats".to_owned())
            .spawn(move || heart.beat())?;
        Ok(Self {
            address,
            incarnation,
            socket,
            orders,
            bell,
            counters,
            thread: Some(thread),
        })
    }

    /// Where heartbeats are received.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The incarnation under which heartbeats are sent.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The socket, to be handed to a successor: what arrives meanwhile waits in it.
    #[must_use]
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Tells the monitor whom to observe, or what is thought of a server.
    pub fn order(&self, order: MonitorOrder) {
        if self.orders.try_send(order).is_err() {
            tracing::error!("the heartbeat thread does not take orders");
        }
        self.bell.ring();
    }

    /// What came and went.
    #[must_use]
    pub fn counts(&self) -> HeartbeatCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HeartbeatCounts {
            received: read(&self.counters.received),
            rejected: read(&self.counters.rejected),
            sent: read(&self.counters.sent),
            unsent: read(&self.counters.unsent),
        }
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.bell.is_over.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the heartbeat thread had failed");
        }
    }
}

/// Wakes the thread.
#[derive(Debug)]
struct Bell {
    descriptor: OwnedFd,
    is_over: AtomicBool,
}

impl Bell {
    fn new() -> io::Result<Self> {
        Ok(Self {
            descriptor: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            is_over: AtomicBool::new(false),
        })
    }

    fn ring(&self) {
        // A full counter rings already.
        rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes()).ok();
    }

    fn heard(&self) {
        rustix::io::read(&self.descriptor, &mut [0; 8]).ok();
    }
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    rejected: AtomicU64,
    sent: AtomicU64,
    unsent: AtomicU64,
}

/// What the thread owns.
struct Heart {
    monitor: ServerMonitor,
    peers: Peers,
    /// Known with the first order, which names the application and its secret.
    codec: Option<Codec>,
    socket: UdpSocket,
    ordered: Receiver<MonitorOrder>,
    bell: Arc<Bell>,
    counters: Arc<Counters>,
    /// Whoever asked in this turn.
    askers: Vec<(SocketAddr, Tag)>,
    report: Box<dyn FnMut(Noticed) + Send>,
}

impl Heart {
    fn beat(mut self) {
        let mut effects = Vec::new();
        while !self.bell.is_over.load(Ordering::Acquire) {
            if let Err(error) = self.sleep() {
                tracing::error!(%error, "heartbeats are not heard any more");
                return;
            }
            self.receive(&mut effects);
            self.take_orders(&mut effects);
            let now = clock::monotonic();
            if self.monitor.next_deadline().is_some_and(|at| at <= now) {
                self.monitor.wake(at(now), &mut effects);
            }
            for effect in effects.drain(..) {
                self.perform(effect);
            }
            self.askers.clear();
        }
    }

    /// Waits for a packet, an order or the monitor's deadline.
    fn sleep(&self) -> io::Result<()> {
        let wait = self
            .monitor
            .next_deadline()
            .map(|at| at - clock::monotonic());
        let wait = wait.map(|wait| Timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let mut sources = [
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.bell.descriptor.as_fd(), PollFlags::IN),
        ];
        match poll(&mut sources, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self, effects: &mut Vec<Effect>) {
        // One more byte than a packet has, so that a longer one is seen to be longer.
        let mut bytes = [0; PACKET_BYTES + 1];
        for _ in 0..TURN_PACKETS_MAX {
            match self.socket.recv_from(&mut bytes) {
                Ok((length, from)) => {
                    let now = clock::monotonic();
                    let input = self.understood(&bytes[..length], from);
                    let counter = if let Some(input) = input {
                        self.monitor.handle(at(now), input, effects);
                        &self.counters.received
                    } else {
                        &self.counters.rejected
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // What could not be delivered earlier comes back as an error of the socket.
                Err(error) => tracing::debug!(%error, "a heartbeat was not received"),
            }
        }
    }

    /// What arrived, as an input of the monitor; `None` if it is not for it.
    fn understood(&mut self, bytes: &[u8], source: SocketAddr) -> Option<Input> {
        let packet = match self.codec.as_ref()?.decode(bytes) {
            Ok(packet) => packet,
            Err(rejected) => {
                tracing::debug!(%source, %rejected, "not a heartbeat");
                return None;
            }
        };
        if packet.to != self.peers.own() {
            return None;
        }
        Some(match packet.content {
            Content::Heartbeat(heartbeat) => Input::HeartbeatReceived {
                from: self.peers.server(packet.from)?,
                heartbeat,
            },
            Content::Answer { nonce } => Input::ProbeAnswered {
                by: self.peers.server(packet.from)?,
                nonce,
            },
            Content::Probe { nonce } => {
                self.askers.push((source, packet.from));
                let from = Asker(self.askers.len() - 1);
                Input::ProbeReceived { from, nonce }
            }
        })
    }

    fn take_orders(&mut self, effects: &mut Vec<Effect>) {
        self.bell.heard();
        while let Ok(order) = self.ordered.try_recv() {
            let input = match order {
                MonitorOrder::Observe(observation) => {
                    self.codec = Some(Codec::new(
                        &observation.application,
                        observation.secret.reveal(),
                    ));
                    self.peers.assigned(&observation);
                    Input::Assigned(observation)
                }
                MonitorOrder::Look(peer) => {
                    self.peers.look(&peer);
                    Input::LookRequested(peer.server)
                }
                MonitorOrder::Judge(server, judgement) => Input::Judged(server, judgement),
            };
            self.monitor.handle(at(clock::monotonic()), input, effects);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::SendHeartbeat(to, heartbeat) => {
                self.send(&to, Content::Heartbeat(heartbeat));
            }
            Effect::SendProbe { to, nonce } => self.send(&to, Content::Probe { nonce }),
            Effect::SendAnswer { to, nonce } => {
                if let Some((address, tag)) = self.askers.get(to.0).copied() {
                    self.send_to(address, tag, Content::Answer { nonce });
                }
            }
            Effect::Report(noticed) => (self.report)(noticed),
            Effect::WarnOfJitter { server, wanted } => tracing::warn!(
                %server, ?wanted,
                "its heartbeats come so unevenly that it may be suspected wrongly; the profile `wifi` is more patient"
            ),
        }
    }

    fn send(&self, to: &EntityId, content: Content) {
        if let Some((address, tag)) = self.peers.address(to) {
            self.send_to(address, tag, content);
        }
    }

    fn send_to(&self, address: SocketAddr, to: Tag, content: Content) {
        let Some(codec) = &self.codec else { return };
        let from = self.peers.own();
        let bytes = codec.encode(&Packet { from, to, content });
        let counter = match self.socket.send_to(&bytes, address) {
            Ok(_) => &self.counters.sent,
            Err(error) => {
                tracing::debug!(%error, %address, "a heartbeat was not sent");
                &self.counters.unsent
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn at(monotonic: Monotonic) -> Now {
    Now {
        monotonic,
        ..Now::default()
    }
}

#[cfg(test)]
mod tests;
