//! The death of a process as an event, through a handle that never means another process.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use lamplighter_policies::time::Monotonic;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock;

/// A handle of one process. Unlike a process id it is never used again for another process.
#[derive(Clone, Debug)]
pub struct Pidfd(Arc<OwnedFd>);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// It is gone; only its parent knows more.
    Gone,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Killed(signal) => write!(f, "was killed by signal {signal}"),
            Self::Gone => f.write_str("is gone"),
        }
    }
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// How it ended.
    pub ended: Ended,
    /// When it was seen.
    pub seen_at: Monotonic,
}

impl Pidfd {
    /// Opens a handle of a process, which must be a child of this one that was not waited for, or
    /// be known to live by other means: otherwise the id may mean another process already.
    ///
    /// # Errors
    /// The process is gone, or the system has no room for another handle.
    pub fn open(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = raw.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Self(Arc::new(pidfd_open(pid, PidfdFlags::NONBLOCK)?)))
    }

    /// Waits for the end of the process. Of a child it takes the exit status, so it is called once.
    ///
    /// # Errors
    /// The handle cannot be watched; the process goes on.
    pub async fn death(&self) -> io::Result<Death> {
        self.gone().await?;
        let seen_at = clock::monotonic();
        let status = waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED);
        let ended = match status {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ended::Exited(code),
                (None, Some(signal)) => Ended::Killed(signal),
                (None, None) => Ended::Gone,
            },
            // It was no child of ours, or somebody has taken the status.
            Ok(None) | Err(_) => Ended::Gone,
        };
        Ok(Death { ended, seen_at })
    }

    /// Waits for the end of the process and leaves its exit status to whoever takes it.
    ///
    /// # Errors
    /// The handle cannot be watched; the process goes on.
    pub async fn gone(&self) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change; this one owns its own"
        )]
        let watched = AsyncFd::with_interest(self.0.try_clone()?, Interest::READABLE)?;
        watched.readable().await?.retain_ready();
        Ok(())
    }

    /// Kills the process; nothing happens if it is gone.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks the process to end (SIGTERM); nothing happens if it is gone.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops the process (SIGSTOP), as if it hung; nothing happens if it is gone.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = pidfd_send_signal(self.0.as_fd(), signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, ?signal, "a process cannot be signalled");
        }
    }
}
