//! The callee's end: where it listens, and whom it lets in.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::messages::{Direct, DirectAddress, PROTOCOL_VERSION};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{DIRECT_FRAME_BYTES_MAX, HELLO_TIMEOUT, Heard, LinksOf, PEERS, Peers, Told, receive};
use crate::transport::control::{Outbox, Token};
use crate::transport::frame::{FrameError, FrameReceiver};
use crate::transport::tls::{Halves, Security, Unprotected};

/// How many connections one element holds at once; more have to wait.
const CONNECTIONS_MAX: usize = 256;

/// The wait before the system is asked again for a connection that it could not give, for lack of
/// descriptors for example.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The longest path that a Unix socket may have on Linux.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where and for whom an element takes calls.
#[derive(Clone, Debug)]
pub struct Place {
    /// The application.
    pub application: EntityId,
    /// The element.
    pub element: EntityId,
    /// The epoch under which it runs.
    pub epoch: u64,
    /// What admits a caller.
    pub token: Token,
    /// The directory of the Unix socket; made if absent, for this user only. `None` listens on TCP
    /// alone.
    pub directory: Option<PathBuf>,
    /// The address of the TCP listener, by which others reach this machine.
    pub tcp: IpAddr,
    /// How connections over TCP are protected.
    pub security: Security,
    /// The links that each caller may use.
    pub callers: LinksOf,
}

impl Place {
    /// The loopback.
    pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
}

/// An element cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can be reached by others, who could listen in.
    #[error(transparent)]
    Exposed(#[from] Unprotected),
    /// The system refuses.
    #[error("cannot listen for calls on {on}: {source}")]
    System {
        /// Where.
        on: String,
        /// The system's own words.
        source: io::Error,
    },
}

/// Takes calls until it is dropped.
#[derive(Debug)]
pub struct Listener {
    address: DirectAddress,
    socket: Option<PathBuf>,
    serving: Vec<JoinHandle<()>>,
    /// When it is dropped, all connections end.
    _open: watch::Sender<()>,
}

impl Listener {
    /// Listens, and lets callers in.
    ///
    /// # Errors
    /// It cannot listen there, or must not.
    pub async fn start(place: Place, peers: &Peers, told: &Told) -> Result<Self, ListenError> {
        place.security.allows(place.tcp)?;
        let system = |on: &dyn std::fmt::Display| {
            let on = on.to_string();
            move |source| ListenError::System { on, source }
        };
        let tcp = TcpListener::bind(SocketAddr::new(place.tcp, 0))
            .await
            .map_err(system(&place.tcp))?;
        let port = tcp.local_addr().map_err(system(&place.tcp))?;
        let unix = match place.directory.as_deref().and_then(|in_directory| {
            let path = socket_path(in_directory, &place);
            (path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX).then_some((in_directory, path))
        }) {
            None => None,
            Some((directory, path)) => {
                let listener =
                    bind(directory, &path, &place.element).map_err(system(&path.display()))?;
                Some((listener, path))
            }
        };
        let (open, closed) = watch::channel(());
        let door = Arc::new(Door {
            place,
            peers: peers.clone(),
            told: told.clone(),
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            closed,
        });
        let mut serving = vec![tokio::spawn(door.clone().take_tcp(tcp))];
        let mut socket = None;
        if let Some((listener, path)) = unix {
            serving.push(tokio::spawn(door.take_unix(listener)));
            socket = Some(path);
        }
        let path = socket.as_ref().map(|path| path.display().to_string());
        Ok(Self {
            address: DirectAddress {
                unix: path,
                tcp: Some(port.to_string()),
            },
            socket,
            serving,
            _open: open,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &DirectAddress {
        &self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for serving in &self.serving {
            serving.abort();
        }
        if let Some(socket) = &self.socket
            && let Err(error) = std::fs::remove_file(socket)
        {
            tracing::debug!(%error, "a socket is gone already");
        }
    }
}

/// Each life of the element has a path of its own, so that a former one cannot be mistaken for it.
fn socket_path(directory: &Path, place: &Place) -> PathBuf {
    directory.join(format!("{}@{}", place.element, place.epoch))
}

/// A socket that this user alone may connect to. Those that former hosts of the element left behind
/// are removed; whoever still listened on one is fenced off by the store.
fn bind(directory: &Path, path: &Path, element: &EntityId) -> io::Result<UnixListener> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let former = format!("{element}@");
    for entry in std::fs::read_dir(directory)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&former) {
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Lets callers in.
struct Door {
    place: Place,
    peers: Peers,
    told: Told,
    room: Arc<Semaphore>,
    closed: watch::Receiver<()>,
}

impl Door {
    async fn take_tcp(self: Arc<Self>, listener: TcpListener) {
        let gate = self.place.security.door(PEERS);
        loop {
            let accepted = listener.accept().await;
            let gate = gate.clone();
            let secured = |(stream, _): (TcpStream, SocketAddr)| async move {
                // The gate has said why it lets somebody not in.
                let secured = gate.admit(stream).await.ok()?;
                Some(secured.stream.into_halves())
            };
            if !self.admit(accepted.map(secured)).await {
                return;
            }
        }
    }

    async fn take_unix(self: Arc<Self>, listener: UnixListener) {
        loop {
            let accepted = listener.accept().await;
            let halves = |(stream, _): (UnixStream, _)| async {
                let (read, write) = stream.into_split();
                let halves: Halves = (Box::new(read), Box::new(write));
                Some(halves)
            };
            if !self.admit(accepted.map(halves)).await {
                return;
            }
        }
    }

    /// Says whether to go on accepting. What is left to do before the halves are there is done beside.
    async fn admit(
        self: &Arc<Self>,
        accepted: io::Result<impl Future<Output = Option<Halves>> + Send + 'static>,
    ) -> bool {
        let greeting = match accepted {
            Ok(greeting) => greeting,
            // The peer was gone before it was accepted; the listener is well.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return true,
            Err(error) => {
                tracing::error!(%error, "cannot take a caller now");
                tokio::time::sleep(ACCEPT_RETRY).await;
                return true;
            }
        };
        let Ok(room) = self.room.clone().acquire_owned().await else {
            return false;
        };
        let door = Arc::clone(self);
        tokio::spawn(async move {
            let mut closed = door.closed.clone();
            let held = async {
                if let Some(halves) = greeting.await {
                    door.hold(halves).await;
                }
            };
            tokio::select! {
                () = held => {}
                _ = closed.changed() => {}
            }
            drop(room);
        });
        true
    }

    /// Holds one connection from its hello to its end.
    async fn hold(&self, (read, write): Halves) {
        let mut receiver = FrameReceiver::new(read, DIRECT_FRAME_BYTES_MAX);
        let outbox = Outbox::new(write);
        let hello = match timeout(HELLO_TIMEOUT, receiver.next()).await {
            Ok(Ok(Some(hello))) => hello,
            Ok(Ok(None)) | Ok(Err(FrameError::Broken(_))) => return,
            Ok(Err(error)) => return tracing::warn!(%error, "a caller cannot be understood"),
            Err(_) => return tracing::debug!("a caller did not say hello in time"),
        };
        let (caller, links, epoch) = match self.greeted(hello) {
            Ok(admitted) => admitted,
            Err(reason) => {
                tracing::warn!(element = %self.place.element, %reason, "a caller is refused");
                // The outbox sends what it holds before it closes.
                let _is_sent = outbox.send(Direct::Refused { reason });
                return;
            }
        };
        let epoch_here = self.place.epoch;
        if !outbox.send(Direct::Welcome { epoch: epoch_here }) {
            return;
        }
        let Some(_connection) = self.peers.connected(&caller, epoch, outbox) else {
            return tracing::debug!(%caller, epoch, "a former life of a caller is refused");
        };
        (self.told)(Heard::Reached(links.iter().cloned().collect()));
        receive(receiver, &caller, &links, &self.told).await;
    }

    /// Who said hello, which links lead to it, and its epoch; or why it is refused.
    fn greeted(&self, hello: Direct) -> Result<(EntityId, BTreeSet<EntityId>, u64), String> {
        let Direct::Hello {
            version,
            application,
            from,
            epoch,
            to,
            token,
        } = hello
        else {
            return Err("say hello first".to_owned());
        };
        let place = &self.place;
        if version != PROTOCOL_VERSION {
            return Err(format!(
                "this is version {PROTOCOL_VERSION} of the protocol, not {version}; run the same build everywhere"
            ));
        }
        if !place.token.admits(&token) {
            return Err("the token is not that of this application".to_owned());
        }
        if application != place.application || to != place.element {
            let (is, of) = (&place.element, &place.application);
            return Err(format!("this is {is} of {of}, not {to} of {application}"));
        }
        let links = place.callers.get(&from);
        let links = links.ok_or_else(|| format!("the topology does not let {from} call {to}"))?;
        Ok((from, links.clone(), epoch))
    }
}
