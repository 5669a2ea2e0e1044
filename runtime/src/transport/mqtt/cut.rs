//! Cuts the connections to a broker under a client that offers no way to do it.
//!
//! Paho sends PUBACK as soon as its callback returns, whatever the callback thinks of the message,
//! and everything that would disconnect it waits for the callback. So the socket is shut down from
//! outside: the PUBACK fails to leave, the broker keeps the message and sends it again.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Names a socket of this process for as long as it is open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SocketId(PathBuf);

/// The TCP sockets that this process has connected to one of `peers`.
///
/// Errors: as for [`cut`].
pub(super) fn sockets_to(peers: &[SocketAddr]) -> io::Result<BTreeSet<SocketId>> {
    let mut found = BTreeSet::new();
    for_each_connection(peers, |id, _| {
        found.insert(id);
        Ok(())
    })?;
    Ok(found)
}

/// Shuts down one connection to `peers`, or all that this process has if `only` is not known, and
/// says how many. Other clients whose connection is cut with it connect again.
///
/// A descriptor is duplicated through the process's own pidfd, because Paho does not give its socket
/// away.
///
/// Errors: the system does not let a process look at its own descriptors (a sandbox without
/// `pidfd_getfd`, or a Linux before 5.6).
pub(super) fn cut(peers: &[SocketAddr], only: Option<&SocketId>) -> io::Result<usize> {
    let mut cut_count = 0;
    for_each_connection(peers, |id, stream| {
        if only.is_some_and(|only| *only != id) {
            return Ok(());
        }
        match stream.shutdown(Shutdown::Both) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
            Ok(()) | Err(_) => {
                cut_count += 1;
                Ok(())
            }
        }
    })?;
    Ok(cut_count)
}

fn for_each_connection(
    peers: &[SocketAddr],
    mut visit: impl FnMut(SocketId, &TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    let myself = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // Descriptors come and go while they are listed.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        let is_socket = target.to_string_lossy().starts_with("socket:");
        let Some(number) = number.filter(|_| is_socket) else {
            continue;
        };
        let copy: OwnedFd = match pidfd_getfd(&myself, number, PidfdGetfdFlags::empty()) {
            Ok(copy) => copy,
            Err(rustix::io::Errno::BADF) => continue,
            Err(error) => return Err(error.into()),
        };
        let stream = TcpStream::from(copy);
        // A socket that is not connected, or not TCP, has no such peer.
        if stream.peer_addr().is_ok_and(|peer| peers.contains(&peer)) {
            visit(SocketId(target), &stream)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_connections_to_the_named_peer_are_cut() {
        let (named, other) = (listener(), listener());
        let mut broken = TcpStream::connect(named.local_addr().unwrap()).unwrap();
        let kept = TcpStream::connect(other.local_addr().unwrap()).unwrap();

        let count = cut(&[named.local_addr().unwrap()], None).unwrap();

        assert_eq!(count, 1);
        assert_eq!(broken.read(&mut [0]).unwrap(), 0);
        kept.set_nonblocking(true).unwrap();
        let error = (&kept).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn one_of_two_connections_is_cut_by_its_name() {
        let listener = listener();
        let peers = [listener.local_addr().unwrap()];
        let kept = TcpStream::connect(peers[0]).unwrap();
        let before = sockets_to(&peers).unwrap();
        let mut named = TcpStream::connect(peers[0]).unwrap();
        let after = sockets_to(&peers).unwrap();

        let names: Vec<_> = after.difference(&before).collect();
        let count = cut(&peers, Some(names[0])).unwrap();

        assert_eq!((names.len(), count), (1, 1));
        assert_eq!(named.read(&mut [0]).unwrap(), 0);
        kept.set_nonblocking(true).unwrap();
        let error = (&kept).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }
}
