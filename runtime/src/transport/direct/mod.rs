//! Connections from host to host, for function calls (paper, 4.2.1): no broker is between caller and
//! callee.
//!
//! A callee listens on a Unix socket for callers of its own server and on TCP for others. A caller
//! connects, says who it is and shows the application's secret, and from the welcome on both ends say
//! what the ends of a binding tell each other. Nothing is kept here: what is lost with a connection is
//! sent again by its sender's outbox. Between machines both ends show certificates of agents first.

mod dialer;
mod listener;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::messages::{Direct, Envelope, Link};

pub use dialer::{Dialer, dial};
pub use listener::{ListenError, Listener, Place};

use super::control::Outbox;
use super::frame::FrameReceiver;
use super::tls::{Kind, ReadHalf};

/// The longest frame between hosts, a call or reply of the largest size among them.
pub const DIRECT_FRAME_BYTES_MAX: usize = super::control::CONTROL_FRAME_BYTES_MAX;

/// How many bytes of payload are put into one frame, beyond its first event.
const FRAME_PAYLOAD_BYTES: usize = 96 << 10;

/// How many events are put into one frame.
const FRAME_EVENTS_MAX: usize = 64;

/// How long a peer may take to connect, and to say hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Who may be at the other end of a connection off this machine: hosts have the certificates of the
/// agents that start them.
const PEERS: &[Kind] = &[Kind::Agent];

/// What is told of connections. It is called within the runtime's thread and must not block.
pub type Told = Arc<dyn Fn(Heard) + Send + Sync>;

/// What a connection brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The other end of these links is connected, for the first time or again.
    Reached(Vec<EntityId>),
    /// The other end of a link said something.
    Said(EntityId, Link),
}

/// The links that lead to one peer.
pub type LinksOf = BTreeMap<EntityId, BTreeSet<EntityId>>;

/// What sends to the peers of one element; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<Mutex<BTreeMap<EntityId, Connected>>>);

#[derive(Debug)]
struct Connected {
    number: u64,
    epoch: u64,
    outbox: Outbox<Direct>,
}

impl Peers {
    /// Sends over a link to `peer`. What cannot leave is lost here: its sender sends it again until
    /// it is acknowledged.
    pub fn send(&self, peer: &EntityId, link: &EntityId, message: Link) {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(connected) = peers.get(peer) else {
            return tracing::debug!(%peer, %link, "not connected, so not sent now");
        };
        for message in frames(message) {
            let link = link.clone();
            if !connected.outbox.send(Direct::Link { link, message }) {
                return tracing::debug!(%peer, "it does not read, so not sent now");
            }
        }
    }

    /// Takes a connection in place of the one before, unless that is of a later life of the peer.
    fn connected(&self, peer: &EntityId, epoch: u64, outbox: Outbox<Direct>) -> Option<Connection> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = peers.get(peer);
        if before.is_some_and(|before| before.epoch > epoch) {
            return None;
        }
        let number = before.map_or(0, |before| before.number) + 1;
        let connected = Connected {
            number,
            epoch,
            outbox,
        };
        peers.insert(peer.clone(), connected);
        Some(Connection {
            peers: self.clone(),
            peer: peer.clone(),
            number,
        })
    }
}

/// A connection that is in use; given up when it is dropped.
struct Connection {
    peers: Peers,
    peer: EntityId,
    number: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers
            .get(&self.peer)
            .is_some_and(|now| now.number == self.number)
        {
            peers.remove(&self.peer);
        }
    }
}

/// A message in pieces that fit the frame limit.
fn frames(message: Link) -> Vec<Link> {
    let events = match message {
        Link::Events(events) => events,
        other @ (Link::Acknowledged(_) | Link::Resume(_)) => return vec![other],
    };
    let mut frames: Vec<Vec<Envelope>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        bytes += event.payload.len();
        match frames.last_mut() {
            Some(frame) if frame.len() < FRAME_EVENTS_MAX && bytes <= FRAME_PAYLOAD_BYTES => {
                frame.push(event);
            }
            Some(_) | None => {
                bytes = event.payload.len();
                frames.push(vec![event]);
            }
        }
    }
    frames.into_iter().map(Link::Events).collect()
}

/// Brings what a peer says to its links, until the connection ends or the peer says what it may not.
async fn receive(
    mut receiver: FrameReceiver<ReadHalf, Direct>,
    peer: &EntityId,
    links: &BTreeSet<EntityId>,
    told: &Told,
) {
    loop {
        match receiver.next().await {
            Ok(Some(Direct::Link { link, message })) if links.contains(&link) => {
                told(Heard::Said(link, message));
            }
            Ok(Some(Direct::Link { link, .. })) => {
                return tracing::warn!(%peer, %link, "a peer speaks of a link that it is not at");
            }
            Ok(Some(Direct::Refused { reason })) => {
                return tracing::warn!(%peer, reason, "a peer ends the connection");
            }
            Ok(Some(Direct::Hello { .. } | Direct::Welcome { .. })) => {
                return tracing::warn!(%peer, "a peer greets twice");
            }
            Ok(None) => return,
            Err(error) => return tracing::debug!(%peer, %error, "a connection to a host broke"),
        }
    }
}

#[cfg(test)]
mod tests;
