//! A host's end of the connection to its agent.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use lamplighter_policies::protocol::messages::{FromHost, ToHost};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

use crate::transport::control::{CONTROL_FRAME_BYTES_MAX, Outbox};
use crate::transport::frame::{FrameError, FrameReceiver};

/// The connection over which an agent tells a host what to run. It is the host's standard input,
/// and its lifeline: when it ends, the host stops in order.
#[derive(Debug)]
pub struct HostLink {
    outbox: Outbox<FromHost>,
    receiver: FrameReceiver<OwnedReadHalf, ToHost>,
}

impl HostLink {
    /// Takes the standard input of this process. Call it within a tokio runtime.
    ///
    /// # Errors
    /// It is not a socket: the process was not started by an agent.
    pub fn from_stdin() -> io::Result<Self> {
        let descriptor = io::stdin().as_fd().try_clone_to_owned()?;
        let stream = StdUnixStream::from(descriptor);
        stream.local_addr()?;
        stream.set_nonblocking(true)?;
        Ok(Self::new(UnixStream::from_std(stream)?))
    }

    /// The connection over any Unix stream.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self {
            outbox: Outbox::new(write),
            receiver: FrameReceiver::new(read, CONTROL_FRAME_BYTES_MAX),
        }
    }

    /// What sends to the agent, for any task of the host.
    #[must_use]
    pub fn outbox(&self) -> Outbox<FromHost> {
        self.outbox.clone()
    }

    /// What the agent says next; `None` once the host is to stop. Safe to cancel.
    ///
    /// # Errors
    /// The connection is of no more use: stop.
    pub async fn next(&mut self) -> Result<Option<ToHost>, FrameError> {
        self.receiver.next().await
    }
}
