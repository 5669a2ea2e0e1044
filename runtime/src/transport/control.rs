//! The control plane's connections: who may connect, and what happens when one breaks.
//!
//! A connection begins with a hello that carries the application's token. What is sent goes through
//! a bounded [`Outbox`]; a peer that does not read is cut off. The connecting side connects again,
//! after a growing wait, until it is told that it is refused.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_policies::protocol::control::{CONTROL_VERSION, FromManager, Peer, ToManager};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWrite;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::frame::{FrameError, FrameReceiver, FrameSender};

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
}

/// The secret that admits to the control plane of one application.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A token's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read or written.
    #[error("the token file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read it, so it is no secret.
    #[error("the token file {path} may be read by others; run: chmod 600 {path}")]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
}

impl Token {
    /// Makes a new secret and writes it to `path`, for this user only.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<Self, TokenError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let fault = |source| TokenError::File {
            path: path.to_owned(),
            source,
        };
        let token = Self(format!(
            "{:032x}{:032x}",
            rand::random::<u128>(),
            rand::random::<u128>()
        ));
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            Ok(()) | Err(_) => {}
        }
        let mut options = std::fs::File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(fault)?;
        file.write_all(token.0.as_bytes()).map_err(fault)?;
        Ok(token)
    }

    /// Reads the secret that was written to `path`.
    ///
    /// # Errors
    /// The file cannot be read, or others can read it too.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        use std::os::unix::fs::PermissionsExt;
        let fault = |source| TokenError::File {
            path: path.to_owned(),
            source,
        };
        let mode = std::fs::metadata(path).map_err(fault)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(TokenError::Exposed {
                path: path.to_owned(),
            });
        }
        let text = std::fs::read_to_string(path).map_err(fault)?;
        Ok(Self(text.trim().to_owned()))
    }

    /// A secret that was told by whoever knows it.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The secret, to be sent to the peer that knows it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the secret, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn admits(&self, other: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), other.as_bytes());
        let differences = own.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
        own.len() == other.len() && differences == 0
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
    pub receiver: FrameReceiver<OwnedReadHalf, ToManager>,
}

/// Admits peers that know the token, each in a task of its own, until the listener fails.
///
/// `admitted` is called with each and its future is driven to its end, which ends the connection.
///
/// # Errors
/// The listener failed.
pub async fn serve<F: Future<Output = ()> + 'static>(
    listener: TcpListener,
    token: Token,
    admitted: impl Fn(Admitted) -> F + 'static,
) -> io::Result<()> {
    let (token, admitted) = (Arc::new(token), std::rc::Rc::new(admitted));
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
        let (token, admitted) = (token.clone(), admitted.clone());
        tokio::task::spawn_local(async move {
            match timeout(HELLO_TIMEOUT, admit(stream, &token)).await {
                Ok(Ok(Some(peer))) => admitted(peer).await,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a peer did not say hello"),
                Err(_) => tracing::debug!("a peer did not say hello in time"),
            }
            drop(place);
        });
    }
}

async fn admit(stream: TcpStream, token: &Token) -> Result<Option<Admitted>, FrameError> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let outbox = Outbox::new(write);
    let mut receiver = FrameReceiver::new(read, CONTROL_FRAME_BYTES_MAX);
    let reason = match receiver.next().await? {
        None => return Ok(None),
        Some(ToManager::Hello { version, .. }) if version != CONTROL_VERSION => format!(
            "this is version {CONTROL_VERSION} of the control plane, not {version}; run the same build everywhere"
        ),
        Some(ToManager::Hello { token: shown, .. }) if !token.admits(&shown) => {
            "the token is not that of this application; use its token file".to_owned()
        }
        Some(ToManager::Hello { peer, .. }) => {
            if outbox.send(FromManager::Welcome) {
                return Ok(Some(Admitted {
                    peer,
                    outbox,
                    receiver,
                }));
            }
            return Ok(None);
        }
        Some(ToManager::Agent(_) | ToManager::Operator(_)) => "say hello first".to_owned(),
    };
    tracing::warn!(%reason, "a peer is refused");
    // The outbox sends what it holds before it closes.
    let _is_sent = outbox.send(FromManager::Refused { reason });
    Ok(None)
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
    pub receiver: FrameReceiver<OwnedReadHalf, FromManager>,
}

/// Connects to the manager and says hello.
///
/// # Errors
/// Nobody is there, or the hello is refused.
pub async fn connect(
    address: SocketAddr,
    token: &Token,
    peer: Peer,
) -> Result<ManagerLink, ConnectError> {
    let away = |reason: String| ConnectError::Away { address, reason };
    let greeting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let outbox = Outbox::new(write);
        let hello = ToManager::Hello {
            version: CONTROL_VERSION,
            token: token.reveal().to_owned(),
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
        .map_err(|error| away(error.to_string()))?;
    match answer {
        Some(FromManager::Welcome) => Ok(link),
        Some(FromManager::Refused { reason }) => Err(ConnectError::Refused { address, reason }),
        Some(FromManager::Agent(_) | FromManager::Operator(_)) => {
            Err(away("it did not welcome the connection".into()))
        }
        None => Err(away("it closed the connection".into())),
    }
}

/// Connects to the manager, again and again after a growing wait, until it is there.
///
/// # Errors
/// The manager refuses the hello: [`ConnectError::Refused`].
pub async fn connect_patiently(
    address: SocketAddr,
    token: &Token,
    peer: &Peer,
) -> Result<ManagerLink, ConnectError> {
    let mut wait = RECONNECT_MIN;
    loop {
        match connect(address, token, peer.clone()).await {
            Err(ConnectError::Away { reason, .. }) => {
                tracing::debug!(%address, %reason, ?wait, "no manager yet");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RECONNECT_MAX);
            }
            outcome @ (Ok(_) | Err(ConnectError::Refused { .. })) => return outcome,
        }
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
