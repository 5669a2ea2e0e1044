//! Mutual TLS between machines: both ends show a certificate of the application's own authority, and
//! who a peer is, is read from its certificate and from nothing that it says.
//!
//! Within a machine, on loopback and Unix sockets, a token protects and there is no TLS. Off loopback
//! nothing is listened on or connected to without an [`Identity`]. Only TLS 1.3 is spoken, no session
//! is resumed, and so each connection looks at the certificates anew.

mod authority;
mod fault;
mod identity;
mod name;
mod room;
mod secret;
mod stream;
mod validity;
mod verify;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub use self::authority::{
    AUTHORITY_CERTIFICATE_FILE, AUTHORITY_KEY_FILE, Authority, AuthorityError,
};
pub use self::fault::Fault;
pub use self::identity::{IDENTITY_FILE, Identity, IdentityError};
pub use self::name::{InvalidName, Kind, Name, Role};
pub use self::room::{HANDSHAKES_MAX, HANDSHAKES_OF_ADDRESS_MAX};
pub use self::secret::SecretFileError;
pub(crate) use self::stream::tend;
pub use self::stream::{Halves, ReadHalf, Reading, Stream, WriteHalf, Writing};
pub use self::validity::{Validity, date};
pub use self::verify::Certified;

use self::identity::Papers;
use self::room::Room;
use self::validity::unix;
use self::verify::Verifier;
use crate::clock;

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long and how much a peer that was refused is read from, so that it reads why before the
/// connection is reset.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
const FAREWELL_BYTES_MAX: u64 = 64 << 10;

/// How the TCP connections of a process are protected.
#[derive(Clone, Debug)]
pub enum Security {
    /// Not at all, so they stay within this machine.
    LoopbackOnly,
    /// By TLS, with both ends certified.
    MutualTls(Identity),
}

/// A process would be reachable, or reach out, over a network without protection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is off loopback, and nothing goes there without TLS; give this process an identity: `manager --listen` makes its own, `certificate SERVER --out DIRECTORY` one for `agent --identity`"
)]
pub struct Unprotected {
    /// Where.
    pub address: IpAddr,
}

/// A connection could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// It would not be protected.
    #[error(transparent)]
    Unprotected(#[from] Unprotected),
    /// The two ends do not trust each other, or cannot reach each other.
    #[error("{peer}: {fault}")]
    Fault {
        /// Who is at the other end.
        peer: SocketAddr,
        /// What keeps them apart.
        fault: Fault,
    },
}

/// A connection, and who is at its other end.
#[derive(Debug)]
pub struct Secured {
    /// What carries it.
    pub stream: Stream,
    /// Whom the peer's certificate is for; `None` within a machine, where there is none.
    pub peer: Option<Certified>,
}

impl Security {
    /// Whether an address may be listened on or connected to.
    ///
    /// # Errors
    /// It is off loopback, and there is no identity.
    pub fn allows(&self, address: IpAddr) -> Result<(), Unprotected> {
        match self {
            Self::LoopbackOnly if !address.is_loopback() => Err(Unprotected { address }),
            Self::LoopbackOnly | Self::MutualTls(_) => Ok(()),
        }
    }

    /// Connects to whoever listens there, and believes it only if it is of the `wanted` kinds.
    ///
    /// With TLS the peer judges our certificate afterwards: what it thinks arrives with the first
    /// bytes that are read.
    ///
    /// # Errors
    /// The address may not be connected to, nobody is there, or it is not to be believed. Takes at
    /// most [`HANDSHAKE_TIMEOUT`] beyond connecting.
    pub async fn connect(
        &self,
        address: SocketAddr,
        wanted: &'static [Kind],
    ) -> Result<Secured, SecurityError> {
        self.allows(address.ip())?;
        let fault = |fault| SecurityError::Fault {
            peer: address,
            fault,
        };
        let network = |error: io::Error| fault(Fault::Network(error.to_string()));
        let stream = TcpStream::connect(address).await.map_err(network)?;
        tend(&stream).map_err(network)?;
        match self {
            Self::LoopbackOnly => Ok(Secured {
                stream: Stream::Plain(stream),
                peer: None,
            }),
            Self::MutualTls(identity) => {
                let papers = identity.papers();
                let greeting = greet(&papers, stream, wanted);
                match timeout(HANDSHAKE_TIMEOUT, greeting).await {
                    Ok(outcome) => outcome.map_err(fault),
                    Err(_) => Err(fault(Fault::Late)),
                }
            }
        }
    }

    /// What lets peers of these kinds in.
    #[must_use]
    pub fn door(&self, admitted: &'static [Kind]) -> Door {
        Door {
            security: self.clone(),
            admitted,
            room: Arc::default(),
        }
    }
}

/// Lets peers in that arrive at a listener; cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    security: Security,
    admitted: &'static [Kind],
    room: Arc<Room>,
}

impl Door {
    /// Greets whoever has connected. Call it in a task of its own: a stranger may take up to
    /// [`HANDSHAKE_TIMEOUT`]. Refusals are traced, at most one a second.
    ///
    /// # Errors
    /// It is not to be let in, and the connection is closed.
    pub async fn admit(&self, stream: TcpStream) -> Result<Secured, SecurityError> {
        let peer = stream.peer_addr().map_err(|error| SecurityError::Fault {
            peer: SocketAddr::from(([0; 4], 0)),
            fault: Fault::Network(error.to_string()),
        })?;
        let outcome = self.welcome(stream, peer).await;
        outcome.map_err(|fault| {
            match self.room.complain() {
                Some(unsaid) => tracing::warn!(%peer, %fault, unsaid, "a connection is refused"),
                None => tracing::debug!(%peer, %fault, "a connection is refused"),
            }
            SecurityError::Fault { peer, fault }
        })
    }

    async fn welcome(&self, stream: TcpStream, peer: SocketAddr) -> Result<Secured, Fault> {
        tend(&stream).map_err(|error| Fault::Network(error.to_string()))?;
        let identity = match &self.security {
            Security::LoopbackOnly => {
                return Ok(Secured {
                    stream: Stream::Plain(stream),
                    peer: None,
                });
            }
            Security::MutualTls(identity) => identity,
        };
        let Some(_knock) = self.room.enter(peer.ip()) else {
            return Err(Fault::Crowded);
        };
        let papers = identity.papers();
        let greeting = receive(&papers, stream, self.admitted);
        timeout(HANDSHAKE_TIMEOUT, greeting)
            .await
            .unwrap_or(Err(Fault::Late))
    }
}

/// The handshake of whoever connects.
async fn greet(
    papers: &Papers,
    stream: TcpStream,
    wanted: &'static [Kind],
) -> Result<Secured, Fault> {
    let verifier = papers.verifier(wanted);
    let config = ClientConfig::builder_with_details(papers.provider.clone(), Arc::new(OurClock))
        .with_protocol_versions(&[&TLS13])
        .map_err(protocol)?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone());
    let mut config = config.with_client_cert_resolver(papers.shown.clone());
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    let address = stream.peer_addr();
    let address = address.map_err(|error| Fault::Network(error.to_string()))?;
    // A name is asked for by the library. Ours stand in URIs, and the verifier reads them there.
    let name = ServerName::IpAddress(address.ip().into());
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match connecting.await {
        Ok(stream) => believed(TlsStream::Client(stream), &verifier),
        Err(error) => Err(why(&verifier, &error)),
    }
}

/// The handshake of whoever was connected to.
async fn receive(
    papers: &Papers,
    stream: TcpStream,
    admitted: &'static [Kind],
) -> Result<Secured, Fault> {
    let verifier = papers.verifier(admitted);
    let config = ServerConfig::builder_with_details(papers.provider.clone(), Arc::new(OurClock))
        .with_protocol_versions(&[&TLS13])
        .map_err(protocol)?
        .with_client_cert_verifier(verifier.clone());
    let mut config = config.with_cert_resolver(papers.shown.clone());
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let accepting = TlsAcceptor::from(Arc::new(config)).accept(stream);
    match accepting.into_fallible().await {
        Ok(stream) => believed(TlsStream::Server(stream), &verifier),
        Err((error, stream)) => {
            let fault = why(&verifier, &error);
            take_leave(stream).await;
            Err(fault)
        }
    }
}

fn believed(stream: TlsStream<TcpStream>, verifier: &Verifier) -> Result<Secured, Fault> {
    match verifier.found() {
        Some(Ok(peer)) => Ok(Secured {
            stream: Stream::Tls(Box::new(stream)),
            peer: Some(peer),
        }),
        Some(Err(fault)) => Err(fault),
        None => Err(Fault::TheirsMissing),
    }
}

/// What the verifier found says more than the error that it became.
fn why(verifier: &Verifier, error: &io::Error) -> Fault {
    match verifier.found() {
        Some(Err(fault)) => fault,
        Some(Ok(_)) | None => Fault::of(error),
    }
}

/// Closes a connection so that the peer can read why: what it has sent is read first, because the
/// system resets a connection that is closed with bytes unread.
async fn take_leave(mut stream: TcpStream) {
    let leaving = async {
        stream.shutdown().await?;
        let mut rest = stream.take(FAREWELL_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    match timeout(FAREWELL_TIMEOUT, leaving).await {
        Ok(Ok(_)) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a refused peer is gone"),
    }
}

fn protocol(error: rustls::Error) -> Fault {
    Fault::Protocol(error.to_string())
}

impl Papers {
    fn verifier(&self, wanted: &'static [Kind]) -> Arc<Verifier> {
        Arc::new(Verifier {
            anchors: self.anchors.clone(),
            application: self.own.name.application.clone(),
            wanted,
            algorithms: self.provider.signature_verification_algorithms,
            found: Mutex::default(),
        })
    }
}

/// The time of day, read where all time is read.
#[derive(Debug)]
struct OurClock;

impl TimeProvider for OurClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(clock::wall()))
    }
}

#[cfg(test)]
mod tests;
