//! A TCP connection, protected or not, as one stream of bytes.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::fault::Fault;

/// How long what was sent may stay unacknowledged, and a silent peer unheard of, before the connection
/// is given up: a cable that was cut says nothing.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// After how long without a byte the peer's machine is asked whether it is there, and how often then.
const PROBE_AFTER: Duration = Duration::from_secs(4);
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBES_MAX: u32 = 3;

/// Both halves of a connection, whatever carries it.
pub type Halves = (ReadHalf, WriteHalf);

/// What arrives.
pub type ReadHalf = Box<dyn Reading>;

/// What leaves. Shut it when all is said: dropping it tells the peer nothing before the other half is
/// dropped too.
pub type WriteHalf = Box<dyn Writing>;

/// Whatever can be read from by one task.
pub trait Reading: AsyncRead + Debug + Send + Unpin {}
impl<R: AsyncRead + Debug + Send + Unpin> Reading for R {}

/// Whatever can be written to by one task.
pub trait Writing: AsyncWrite + Debug + Send + Unpin {}
impl<W: AsyncWrite + Debug + Send + Unpin> Writing for W {}

/// A connection over TCP.
#[derive(Debug)]
pub enum Stream {
    /// Within this machine.
    Plain(TcpStream),
    /// Protected by TLS, with both ends certified.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// What arrives and what leaves, for two tasks.
    #[must_use]
    pub fn into_halves(self) -> Halves {
        match self {
            Self::Plain(stream) => {
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
            tls @ Self::Tls(_) => {
                let (read, write) = tokio::io::split(tls);
                (Box::new(read), Box::new(write))
            }
        }
    }
}

/// Sets what every connection between our processes wants: small messages leave at once, and a peer
/// whose machine or cable is gone is noticed.
///
/// # Errors
/// The system's.
pub(crate) fn tend(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PROBES_MAX)?;
    let silence = u32::try_from(SILENCE_MAX.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, silence)?;
    Ok(())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => match ready!(Pin::new(stream).poll_read(context, buffer)) {
                // A peer that was killed says no farewell. What it left unfinished, the frames tell.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                outcome => Poll::Ready(outcome.map_err(said)),
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes).map_err(said),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context).map_err(said),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A refusal by the peer arrives with the first byte that is read; it is said in words.
fn said(error: io::Error) -> io::Error {
    let fault = Fault::of(&error);
    if matches!(fault, Fault::Network(_)) {
        return error;
    }
    io::Error::new(io::ErrorKind::PermissionDenied, fault)
}
