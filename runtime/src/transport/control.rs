//! The control plane's connections: who may connect, and what happens when one breaks.
//!
//! A connection begins with a hello. Within a machine that carries the application's token; off it
//! both ends have shown certificates before, and the hello must agree with them. What is sent goes
//! through a bounded [`Outbox`]; a peer that does not read is cut off. The connecting side connects
//! again, after a growing wait, until it is told that it is refused.

mod admission;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_policies::protocol::control::{CONTROL_VERSION, FromManager, Peer, ToManager};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::frame::{FrameError, FrameReceiver, FrameSender};
use super::tls::{Certified, Door, Fault, Kind, ReadHalf, Role, SecurityError};

pub use self::admission::{Admission, Token, TokenError};

/// The longest frame of the control plane.
pub const CONTROL_FRAME_BYTES_MAX: usize = 256 << 10;

/// How many messages may wait to be sent on one connection.
pub const OUTBOX_MESSAGES_MAX: usize = 4_096;

/// How many connections a listener holds at once; more have to wait.
pub const CONNECTIONS_MAX: usize = 1_024;

/// How long a peer may take to connect, and to say hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

const RECONNECT_MIN: Duration = Duration::from_millis(10);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// The sending half of a connection; cheap to clone. The connection's sending side is shut once all
/// clones are gone and all is sent.
#[derive(Debug)]
pub struct Outbox<Out>(mpsc::Sender<Out>);

impl<Out> Clone for Outbox<Out> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Out: Serialize + Send + Sync + 'static> Outbox<Out> {
    /// Sends over `writer` from a task of its own. Call it within a tokio runtime.
    pub fn new(writer: impl AsyncWrite + Unpin + Send + 'static) -> Self {
        let (queue, queued) = mpsc::channel(OUTBOX_MESSAGES_MAX);
        tokio::spawn(send_all(writer, queued));
        Self(queue)
    }

    /// Queues one message. Returns whether the connection still takes messages: it does not once it
    /// broke, or while [`OUTBOX_MESSAGES_MAX`] wait because the peer does not read.
    #[must_use]
    pub fn send(&self, message: Out) -> bool {
        self.0.try_send(message).is_ok()
    }

    /// Waits until all that was queued is on its way, at most `within`.
    pub async fn drained(&self, within: Duration) {
        if timeout(within, self.0.reserve_many(OUTBOX_MESSAGES_MAX))
            .await
            .is_err()
        {
            tracing::debug!("a peer did not read what was sent last");
        }
    }
}

async fn send_all<Out: Serialize>(
    writer: impl AsyncWrite + Unpin,
    mut queued: mpsc::Receiver<Out>,
) {
    let mut sender = FrameSender::new(writer, CONTROL_FRAME_BYTES_MAX);
    let mut batch = Vec::new();
    while queued.recv_many(&mut batch, 64).await > 0 {
        for message in batch.drain(..) {
            match sender.feed(&message).await {
                Ok(()) => {}
                Err(error @ (FrameError::TooLong { .. } | FrameError::Unencodable(_))) => {
                    tracing::error!(%error, "a control message is not sent");
                }
                Err(error) => return tracing::debug!(%error, "a control connection broke"),
            }
        }
        if let Err(error) = sender.flush().await {
            return tracing::debug!(%error, "a control connection broke");
        }
    }
    if let Err(error) = sender.close().await {
        tracing::debug!(%error, "a peer was gone before its connection was closed");
    }
}

/// A peer that was admitted.
#[derive(Debug)]
pub struct Admitted {
    /// Who it is.
    pub peer: Peer,
    /// What sends to it.
    pub outbox: Outbox<FromManager>,
    /// What it says.
    pub receiver: FrameReceiver<ReadHalf, ToManager>,
    /// The certificate by which it was admitted; `None` where a token did.
    pub certified: Option<Certified>,
}

/// Who may connect to a manager.
const ADMITTED: &[Kind] = &[Kind::Agent, Kind::Operator];

/// Admits peers, each in a task of its own, until the listener fails.
///
/// `admitted` is called with each and its future is driven to its end, which ends the connection.
///
/// # Errors
/// The listener failed, or is off loopback where a token alone admits.
pub async fn serve<F: Future<Output = ()> + 'static>(
    listener: TcpListener,
    admission: Admission,
    admitted: impl Fn(Admitted) -> F + 'static,
) -> io::Result<()> {
    let security = admission.security();
    let address = listener.local_addr()?;
    security.allows(address.ip()).map_err(io::Error::other)?;
    let door = security.door(ADMITTED);
    let (admission, admitted) = (Arc::new(admission), std::rc::Rc::new(admitted));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return Ok(());
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The peer was gone before it was accepted; the listener is well.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let (admission, admitted) = (admission.clone(), admitted.clone());
        let door = door.clone();
        tokio::task::spawn_local(async move {
            match timeout(HELLO_TIMEOUT, admit(&door, stream, &admission)).await {
                Ok(Ok(Some(peer))) => admitted(peer).await,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a peer did not say hello"),
                Err(_) => tracing::debug!("a peer did not say hello in time"),
            }
            drop(place);
        });
    }
}

async fn admit(
    door: &Door,
    stream: TcpStream,
    admission: &Admission,
) -> Result<Option<Admitted>, FrameError> {
    // The door has said why it lets somebody not in.
    let Ok(secured) = door.admit(stream).await else {
        return Ok(None);
    };
    let certified = secured.peer;
    let (read, write) = secured.stream.into_halves();
    let outbox = Outbox::new(write);
    let mut receiver = FrameReceiver::new(read, CONTROL_FRAME_BYTES_MAX);
    let reason = match receiver.next().await? {
        None => return Ok(None),
        Some(ToManager::Hello {
            version,
            token,
            peer,
        }) => match greeted(version, &token, &peer, admission, certified.as_ref()) {
            Ok(()) => {
                if outbox.send(FromManager::Welcome) {
                    return Ok(Some(Admitted {
                        peer,
                        outbox,
                        receiver,
                        certified,
                    }));
                }
                return Ok(None);
            }
            Err(reason) => reason,
        },
        Some(ToManager::Agent(_) | ToManager::Operator(_)) => "say hello first".to_owned(),
    };
    tracing::warn!(%reason, "a peer is refused");
    // The outbox sends what it holds before it closes.
    let _is_sent = outbox.send(FromManager::Refused { reason });
    Ok(None)
}

/// Whether who says hello is who it says, or why not.
fn greeted(
    version: u32,
    token: &str,
    peer: &Peer,
    admission: &Admission,
    certified: Option<&Certified>,
) -> Result<(), String> {
    if version != CONTROL_VERSION {
        return Err(format!(
            "this is version {CONTROL_VERSION} of the control plane, not {version}; run the same build everywhere"
        ));
    }
    let wanted = match peer {
        Peer::Agent { server, .. } => Role::Agent(server.clone()),
        Peer::Operator => Role::Operator,
    };
    match (admission, certified.map(|certified| &certified.name)) {
        (Admission::Token(own), None) if own.admits(token) => Ok(()),
        (Admission::Token(_), None) => {
            Err("the token is not that of this application; use its token file".to_owned())
        }
        (_, Some(name)) if name.role == wanted => Ok(()),
        (_, Some(name)) => Err(format!(
            "the certificate is that of {name}, and so it cannot speak for {}; start it with the identity that was made for it",
            match peer {
                Peer::Agent { server, .. } => format!("the agent of {server}"),
                Peer::Operator => "an operator".to_owned(),
            }
        )),
        (Admission::Certificate(_), None) => Err("show a certificate".to_owned()),
    }
}

/// A connection to the manager could not be had, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there; trying again may help.
    #[error("no manager answers at {address}: {reason}")]
    Away {
        /// Where.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The two ends do not trust each other; trying again helps once a certificate or a clock has been
    /// set right.
    #[error("the manager at {address} and this process do not trust each other: {fault}")]
    Untrusted {
        /// Where.
        address: SocketAddr,
        /// What keeps them apart.
        fault: Fault,
    },
    /// The manager refuses; trying again will not help.
    #[error("the manager at {address} refuses: {reason}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Its words.
        reason: String,
    },
}

/// A connection to the manager.
#[derive(Debug)]
pub struct ManagerLink {
    /// What sends to it.
    pub outbox: Outbox<ToManager>,
    /// What it says.
    pub receiver: FrameReceiver<ReadHalf, FromManager>,
}

/// Connects to the manager and says hello.
///
/// # Errors
/// Nobody is there, the two do not trust each other, or the hello is refused.
pub async fn connect(
    address: SocketAddr,
    admission: &Admission,
    peer: Peer,
) -> Result<ManagerLink, ConnectError> {
    let away = |reason: String| ConnectError::Away { address, reason };
    let security = admission.security();
    security
        .allows(address.ip())
        .map_err(|error| ConnectError::Refused {
            address,
            reason: error.to_string(),
        })?;
    let greeting = async {
        let secured = security.connect(address, &[Kind::Manager]).await;
        let secured = secured.map_err(io::Error::other)?;
        let (read, write) = secured.stream.into_halves();
        let outbox = Outbox::new(write);
        let hello = ToManager::Hello {
            version: CONTROL_VERSION,
            token: admission.shown().to_owned(),
            peer,
        };
        let is_sent = outbox.send(hello);
        let mut receiver = FrameReceiver::new(read, CONTROL_FRAME_BYTES_MAX);
        let answer = if is_sent {
            receiver.next().await?
        } else {
            None
        };
        Ok::<_, FrameError>((ManagerLink { outbox, receiver }, answer))
    };
    let (link, answer) = timeout(HELLO_TIMEOUT, greeting)
        .await
        .map_err(|_| away("it did not answer in time".into()))?
        .map_err(|error| {
            distrust(&error).map_or_else(
                || away(error.to_string()),
                |fault| ConnectError::Untrusted { address, fault },
            )
        })?;
    match answer {
        Some(FromManager::Welcome) => Ok(link),
        Some(FromManager::Refused { reason }) => Err(ConnectError::Refused { address, reason }),
        Some(FromManager::Agent(_) | FromManager::Operator(_)) => {
            Err(away("it did not welcome the connection".into()))
        }
        None => Err(away("it closed the connection".into())),
    }
}

/// What a broken connection says of trust; `None` if it broke for another reason.
fn distrust(error: &FrameError) -> Option<Fault> {
    let FrameError::Broken(error) = error else {
        return None;
    };
    let inner = error.get_ref();
    let fault = match inner.and_then(|inner| inner.downcast_ref::<SecurityError>()) {
        Some(SecurityError::Fault { fault, .. }) => fault.clone(),
        Some(SecurityError::Unprotected(_)) => return None,
        None => Fault::of(error),
    };
    (!matches!(fault, Fault::Network(_) | Fault::Late | Fault::Crowded)).then_some(fault)
}

/// Connects to the manager, again and again after a growing wait, until it is there. Distrust is
/// traced whenever its reason changes, because only a person can mend it.
///
/// # Errors
/// The manager refuses the hello: [`ConnectError::Refused`].
pub async fn connect_patiently(
    address: SocketAddr,
    admission: &Admission,
    peer: &Peer,
) -> Result<ManagerLink, ConnectError> {
    let mut wait = RECONNECT_MIN;
    let mut complained_of = None;
    loop {
        match connect(address, admission, peer.clone()).await {
            Err(ConnectError::Away { reason, .. }) => {
                tracing::debug!(%address, %reason, ?wait, "no manager yet");
            }
            Err(error @ ConnectError::Untrusted { .. }) => {
                let reason = error.to_string();
                if complained_of.as_ref() != Some(&reason) {
                    tracing::warn!(%reason, "not connected; it is tried again");
                    complained_of = Some(reason);
                }
            }
            outcome @ (Ok(_) | Err(ConnectError::Refused { .. })) => return outcome,
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RECONNECT_MAX);
    }
}

/// Hands all that a receiver gets to `take`, until the connection ends.
pub async fn receive_all<In: DeserializeOwned>(
    mut receiver: FrameReceiver<impl tokio::io::AsyncRead + Unpin, In>,
    mut take: impl FnMut(In),
) {
    loop {
        match receiver.next().await {
            Ok(Some(message)) => take(message),
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "a control connection broke"),
        }
    }
}

#[cfg(test)]
mod tests;
