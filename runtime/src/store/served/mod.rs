//! The embedded store for other processes: one process opens it and serves it, the others reach it
//! through [`Served`], from another machine over mutual TLS.
//!
//! One connection per process; requests carry ids and may be answered in any order, but are
//! started in the order in which they were asked. A connection begins with a token that the
//! serving process has given to those it started, so that strangers are refused.

mod client;
mod flight;
mod server;
mod way;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures_util::future::BoxFuture;
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};

pub use self::client::Served;
pub use self::server::{Server, serve};
use super::{Delta, Fence, Nonce, StoreError, StoredBatch, Summary};
use crate::transport::tls::{Door, Kind, Security, SecurityError};

/// The longest frame either way, in bytes. What is longer is sent in pages, or refused.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// How much of a frame is left for what surrounds one field, batch or letter.
const FRAME_MARGIN_BYTES: usize = 64 << 10;

/// How many requests of one connection may be unanswered.
const IN_FLIGHT_MAX: usize = 1_024;

/// Where a store is served; written `tcp://127.0.0.1:7000` or `unix:///run/lamplighter/store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A port, of this machine or, with TLS, of another.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Text that names no place where a store can be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a store; write tcp://ADDRESS:PORT or unix:///PATH")]
pub struct InvalidAddress(String);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.into());
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(invalid()),
            };
        }
        let address = text.strip_prefix("tcp://").ok_or_else(invalid)?;
        address.parse().map(Self::Tcp).map_err(|_| invalid())
    }
}

/// The secret that admits a process to a served store. It is not shown when printed for debugging.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(String);

impl Token {
    /// A token that nobody can guess.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    /// Takes up a token that another process has made.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    /// The secret itself, to hand on.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not tell how much of a guess is right.
    fn admits(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let differences = mine.iter().zip(theirs).fold(0, |sum, (a, b)| sum | (a ^ b));
        mine.len() == theirs.len() && differences == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Who may use a store that is served to other machines.
const ADMITTED: &[Kind] = &[Kind::Agent, Kind::Manager, Kind::Operator];

/// A place where connections arrive.
#[derive(Debug)]
pub enum Listener {
    /// A port, and what lets others in there.
    Tcp(TcpListener, Door),
    /// A socket in the file system.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Takes the address; port 0 is any free one.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::InvalidInput`] if others can reach the address and there is no
    /// identity to protect what is sent.
    pub async fn bind(address: &Address, security: &Security) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let allowed = security.allows(address.ip());
                allowed.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                let listener = TcpListener::bind(address).await?;
                Ok(Self::Tcp(listener, security.door(ADMITTED)))
            }
            Address::Unix(path) => {
                remove_abandoned(path).await?;
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Where connections arrive.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener, _) => Ok(Address::Tcp(listener.local_addr()?)),
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    /// The next connection; what is left to do before it can be used is the returned future's.
    async fn accept(
        &self,
    ) -> io::Result<BoxFuture<'static, Result<Box<dyn Stream>, SecurityError>>> {
        Ok(match self {
            Self::Tcp(listener, door) => {
                let (stream, _) = listener.accept().await?;
                let door = door.clone();
                Box::pin(async move {
                    let secured = door.admit(stream).await?;
                    Ok(Box::new(secured.stream) as Box<dyn Stream>)
                })
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Box::pin(async { Ok(Box::new(stream) as Box<dyn Stream>) })
            }
        })
    }
}

/// Removes a socket that nobody listens to any more; its process may have been killed.
async fn remove_abandoned(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn dial(address: &Address, security: &Security) -> io::Result<Box<dyn Stream>> {
    match address {
        Address::Tcp(address) => {
            let secured = security.connect(*address, &[Kind::Manager]).await;
            Ok(Box::new(secured.map_err(io::Error::other)?.stream))
        }
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Client to server.
#[derive(Debug, Serialize, Deserialize)]
enum ToStore {
    /// The first message.
    Hello { token: Token },
    /// A request; the answer carries the same id.
    Ask { id: u64, ask: Ask },
}

/// What a client asks for: the methods of `StableStore`.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    Claim {
        element: EntityId,
        nonce: Nonce,
        floor: u64,
    },
    Append {
        fence: Fence,
        expected_head: u64,
        last: u64,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    Checkpoint {
        fence: Fence,
        delta: Delta,
    },
    Load {
        fence: Fence,
    },
    Prove {
        fence: Fence,
    },
    Peek {
        element: EntityId,
    },
    Summary {
        element: EntityId,
    },
    Bury {
        fence: Fence,
        letter: ByteBuf,
    },
    DeadLetters {
        element: EntityId,
    },
}

/// Server to client.
#[derive(Debug, Serialize, Deserialize)]
enum FromStore {
    /// The token is right.
    Welcome,
    /// The token is wrong; the connection ends.
    Stranger,
    /// Part of an answer that is too long for one frame.
    Page { id: u64, page: Page },
    /// The answer, or what the pages lack.
    Answer {
        id: u64,
        answer: Result<Answer, StoreError>,
    },
}

/// Part of what an element has saved, or of its dead letters.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Page {
    fields: Vec<(String, ByteBuf)>,
    log: Vec<StoredBatch>,
    letters: Vec<ByteBuf>,
}

/// An answer. What may be long has gone ahead in pages.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Claimed { fence: Fence, rest: Rest },
    Appended(WallClock),
    Done,
    Loaded(Rest),
    Proven(WallClock),
    Peeked(Option<Rest>),
    Summary(Option<Summary>),
    Letters,
}

/// What pages do not hold of all that an element has saved.
#[derive(Debug, Serialize, Deserialize)]
struct Rest {
    head: u64,
    checkpoint: u64,
    read_at: WallClock,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in ["tcp://127.0.0.1:7000", "tcp://[::1]:1", "unix:///run/store"] {
            assert_eq!(
                text.parse::<Address>().map(|read| read.to_string()),
                Ok(text.into())
            );
        }
        for text in [
            "",
            "tcp://nowhere",
            "unix://relative",
            "redis://127.0.0.1:1",
        ] {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress(text.into())));
        }
    }

    #[test]
    fn a_token_admits_itself_only_and_is_not_shown() {
        let token = Token::random();
        assert!(token.admits(&Token::new(token.secret())));
        assert!(!token.admits(&Token::random()));
        assert!(!token.admits(&Token::new("")));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
