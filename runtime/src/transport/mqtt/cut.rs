//! Cuts the connections to a broker under a client that offers no way to do it.
//!
//! Paho sends PUBACK as soon as its callback returns, whatever the callback thinks of the message,
//! and everything that would disconnect it waits for the callback. So the socket is shut down from
//! outside: the PUBACK fails to leave, the broker keeps the message and sends it again.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Shuts down every TCP connection that this process has to one of `peers`, and says how many.
///
/// A descriptor is duplicated through the process's own pidfd, because Paho does not give its socket
/// away. Connections of other clients to the same broker are cut with it; they connect again.
///
/// Errors: the system does not let a process look at its own descriptors (a sandbox without
/// `pidfd_getfd`, or a Linux before 5.6).
pub(super) fn cut_connections_to(peers: &[SocketAddr]) -> io::Result<usize> {
    let myself = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut cut_count = 0;
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        let Some(number) = number.filter(|_| is_socket) else {
            continue;
        };
        let copy: OwnedFd = match pidfd_getfd(&myself, number, PidfdGetfdFlags::empty()) {
            Ok(copy) => copy,
            Err(rustix::io::Errno::BADF) => continue, // closed since it was listed
            Err(error) => return Err(error.into()),
        };
        let stream = TcpStream::from(copy);
        // A socket that is not connected, or not TCP, has no such peer.
        if stream.peer_addr().is_ok_and(|peer| peers.contains(&peer)) {
            match stream.shutdown(Shutdown::Both) {
                Ok(()) => cut_count += 1,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => cut_count += 1,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(cut_count)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_connections_to_the_named_peer_are_cut() {
        let (named, other) = (listener(), listener());
        let mut cut = TcpStream::connect(named.local_addr().unwrap()).unwrap();
        let kept = TcpStream::connect(other.local_addr().unwrap()).unwrap();

        let count = cut_connections_to(&[named.local_addr().unwrap()]).unwrap();

        assert_eq!(count, 1);
        assert_eq!(cut.read(&mut [0]).unwrap(), 0);
        kept.set_nonblocking(true).unwrap();
        let error = (&kept).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }
}
