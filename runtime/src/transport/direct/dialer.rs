//! The caller's end: it connects wherever its callee listens at present.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::messages::{Callee, Direct, DirectAddress, PROTOCOL_VERSION};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{DIRECT_FRAME_BYTES_MAX, HELLO_TIMEOUT, Heard, PEERS, Peers, Told, receive};
use crate::clock;
use crate::transport::control::{Outbox, Token};
use crate::transport::frame::{FrameError, FrameReceiver};
use crate::transport::tls::{Halves, ReadHalf, Security};

/// The first wait before a callee that does not answer is tried again; it doubles.
const RECONNECT_MIN: Duration = Duration::from_millis(10);
/// The longest such wait. A new address is tried at once.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// Who calls whom.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// The application.
    pub application: EntityId,
    /// The element that calls.
    pub from: EntityId,
    /// The epoch under which it runs.
    pub epoch: u64,
    /// The element that is called.
    pub to: EntityId,
    /// What admits.
    pub token: Token,
    /// The links that lead to the callee.
    pub links: BTreeSet<EntityId>,
    /// Where the callees of this machine have their Unix sockets; those of others are reached by TCP.
    pub directory: Option<PathBuf>,
    /// How connections over TCP are protected.
    pub security: Security,
}

/// Why a connection ended or could not be had.
enum Ended {
    /// Another try may succeed.
    Away(String),
    /// The callee was connected until now.
    Lost,
}

/// Keeps a connection to a callee, wherever it says that it listens; ends when nobody tells any more.
pub async fn dial(
    dialer: Dialer,
    mut callee: watch::Receiver<Option<Callee>>,
    peers: Peers,
    told: Told,
) {
    let mut wait = RECONNECT_MIN;
    loop {
        let began = clock::monotonic();
        let target = callee.borrow_and_update().clone();
        let Some(target) = target else {
            if callee.changed().await.is_err() {
                return;
            }
            continue;
        };
        let ended = tokio::select! {
            ended = dialer.hold(&target, &peers, &told) => ended,
            changed = callee.changed() => {
                if changed.is_err() {
                    return;
                }
                wait = RECONNECT_MIN;
                continue;
            }
        };
        match ended {
            // One that lasted is not counted among the failures before it.
            Ended::Lost if clock::monotonic() - began > RECONNECT_MAX => wait = RECONNECT_MIN,
            Ended::Lost => {}
            Ended::Away(reason) => {
                tracing::debug!(callee = %dialer.to, reason, ?wait, "not connected");
            }
        }
        // Its successor has another address, of which this task is told.
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(RECONNECT_MAX),
            changed = callee.changed() => {
                if changed.is_err() {
                    return;
                }
                wait = RECONNECT_MIN;
            }
        }
    }
}

impl Dialer {
    /// Holds one connection from its hello to its end.
    async fn hold(&self, callee: &Callee, peers: &Peers, told: &Told) -> Ended {
        let away = |error: FrameError| Ended::Away(error.to_string());
        let greeting = timeout(HELLO_TIMEOUT, self.greet(callee)).await;
        let (receiver, outbox, epoch) = match greeting {
            Ok(Ok(Some(greeted))) => greeted,
            Ok(Ok(None)) => return Ended::Away("it closed the connection".to_owned()),
            Ok(Err(error)) => return away(error),
            Err(_) => return Ended::Away("it did not answer in time".to_owned()),
        };
        let Some(_connection) = peers.connected(&self.to, epoch, outbox) else {
            return Ended::Away("a later life of it is connected".to_owned());
        };
        tracing::debug!(callee = %self.to, epoch, "connected");
        told(Heard::Reached(self.links.iter().cloned().collect()));
        receive(receiver, &self.to, &self.links, told).await;
        Ended::Lost
    }

    async fn greet(&self, callee: &Callee) -> Result<Option<Greeted>, FrameError> {
        let (read, write) = self.connect(&callee.address).await?;
        let outbox = Outbox::new(write);
        let hello = Direct::Hello {
            version: PROTOCOL_VERSION,
            application: self.application.clone(),
            from: self.from.clone(),
            epoch: self.epoch,
            to: self.to.clone(),
            token: self.token.reveal().to_owned(),
        };
        if !outbox.send(hello) {
            return Ok(None);
        }
        let mut receiver = FrameReceiver::new(read, DIRECT_FRAME_BYTES_MAX);
        match receiver.next().await? {
            Some(Direct::Welcome { epoch }) if epoch >= callee.epoch => {
                Ok(Some((receiver, outbox, epoch)))
            }
            Some(Direct::Welcome { epoch }) => {
                tracing::debug!(callee = %self.to, epoch, "a former life of a callee answers");
                Ok(None)
            }
            Some(Direct::Refused { reason }) => {
                tracing::warn!(callee = %self.to, reason, "a callee refuses");
                Ok(None)
            }
            Some(Direct::Hello { .. } | Direct::Link { .. }) | None => Ok(None),
        }
    }

    /// Connects by the nearest way that the callee offers. A path names a socket of this machine only
    /// if it is where the sockets of this machine are.
    async fn connect(&self, address: &DirectAddress) -> io::Result<Halves> {
        let near = address.unix.as_deref().map(Path::new);
        let near = near.filter(|path| path.parent() == self.directory.as_deref());
        let near = match near {
            Some(path) => Some(UnixStream::connect(path).await),
            None => None,
        };
        let tcp = match (near, &address.tcp) {
            (Some(Ok(stream)), _) => {
                let (read, write) = stream.into_split();
                return Ok((Box::new(read), Box::new(write)));
            }
            (Some(Err(_)) | None, Some(tcp)) => tcp.parse().map_err(io::Error::other)?,
            (Some(Err(error)), None) => return Err(error),
            (None, None) => return Err(io::Error::other("it listens nowhere")),
        };
        let secured = self.security.connect(tcp, PEERS).await;
        Ok(secured.map_err(io::Error::other)?.stream.into_halves())
    }
}

type Greeted = (FrameReceiver<ReadHalf, Direct>, Outbox<Direct>, u64);
