//! How the processes of an application reach each other: on loopback with a token, or between machines
//! with certificates, and where the certificates of the manager's machine are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::clock;
use lamplighter_runtime::transport::control::{Admission, Token, TokenError};
use lamplighter_runtime::transport::tls::{
    Authority, AuthorityError, Identity, IdentityError, Role, Security,
};

use crate::cluster::TOKEN_FILE;

/// How long the manager's own certificates hold; it makes new ones by itself.
const OWN_DAYS: u32 = 90;

/// How often a process looks at its own certificates, at least: a machine that slept or
/// whose clock was set has not counted the time.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// How a process reaches others and is reached.
#[derive(Clone, Debug)]
pub struct Network {
    /// How its connections over TCP are protected.
    pub security: Security,
    /// The address by which other servers reach it.
    pub address: IpAddr,
}

impl Network {
    /// That of a machine alone.
    pub const LOOPBACK: Self = Self {
        security: Security::LoopbackOnly,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };

    /// That of a process with the identity in a directory, or of a machine alone.
    ///
    /// # Errors
    /// The identity cannot be used.
    pub fn with(identity: Option<&Path>, address: Option<IpAddr>) -> Result<Self, IdentityError> {
        let Some(directory) = identity else {
            return Ok(Self::LOOPBACK);
        };
        Ok(Self {
            security: Security::MutualTls(Identity::open(directory)?),
            address: address.unwrap_or(Self::LOOPBACK.address),
        })
    }
}

/// A process cannot take part in the network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The authority cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The manager would listen on an address that is none.
    #[error(
        "--listen {0} is every address of this machine and so none that agents could be told; say the one by which they reach it"
    )]
    Everywhere(SocketAddr),
    /// The identity is that of somebody else.
    #[error(
        "the identity in {} is that of {found}, and this is to be the agent of {wanted}; make one with `certificate {wanted}` where the manager runs",
        .directory.display()
    )]
    Another {
        /// Where it is.
        directory: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose was wanted.
        wanted: EntityId,
    },
    /// The system knows no way to the manager.
    #[error(
        "this machine has no way to the manager at {manager} ({source}); connect it, or say --address"
    )]
    NoWay {
        /// Where the manager is.
        manager: SocketAddr,
        /// The system's own words.
        source: std::io::Error,
    },
}

/// Where the application's authority is, in the run directory of its manager.
pub(crate) fn authority_directory(run_directory: &Path) -> PathBuf {
    run_directory.join("tls").join("authority")
}

fn own_directory(run_directory: &Path, role: &Role) -> PathBuf {
    let tls = run_directory.join("tls");
    tls.join(role.kind().to_string())
}

/// What admits to a manager that listens there. Off loopback it has an authority of its own, which
/// makes certificates for itself and for the commands of its machine.
pub(crate) fn of_manager(
    run_directory: &Path,
    application: &EntityId,
    listen: SocketAddr,
    token: Token,
) -> Result<Admission, NetworkError> {
    if listen.ip().is_loopback() {
        return Ok(Admission::Token(token));
    }
    if listen.ip().is_unspecified() {
        return Err(NetworkError::Everywhere(listen));
    }
    let authority = Authority::keep(&authority_directory(run_directory), application)?;
    keep_own(run_directory, &authority)?;
    let own = own_directory(run_directory, &Role::Manager);
    Ok(Admission::Certificate(Identity::open(&own)?))
}

/// Makes the certificates of the manager's machine where they are due; says when they are next.
fn keep_own(run_directory: &Path, authority: &Authority) -> Result<WallClock, IdentityError> {
    let keep = |role: Role| {
        let directory = own_directory(run_directory, &role);
        Identity::keep(&directory, authority, &role, OWN_DAYS)
    };
    Ok(keep(Role::Manager)?.min(keep(Role::Operator)?))
}

/// Renews the certificates of the manager's machine for as long as it runs.
pub(crate) async fn renew_own(run_directory: PathBuf) {
    loop {
        let due = Authority::open(&authority_directory(&run_directory))
            .map_err(IdentityError::from)
            .and_then(|authority| keep_own(&run_directory, &authority));
        let wait = match due {
            Ok(due) => due.since(clock::wall()).min(LOOK_EVERY),
            Err(error) => {
                tracing::error!(%error, "the manager's own certificates cannot be renewed");
                LOOK_EVERY
            }
        };
        tokio::time::sleep(wait.max(Duration::from_secs(1))).await;
    }
}

/// What admits the agent of a server to its manager: the identity in a directory, or a token.
pub(crate) fn of_agent(
    server: &EntityId,
    identity: Option<&Path>,
    token_file: &Path,
) -> Result<Admission, NetworkError> {
    let Some(directory) = identity else {
        return Ok(Admission::Token(Token::read(token_file)?));
    };
    let identity = Identity::open(directory)?;
    let name = identity.certified().name;
    if name.role != Role::Agent(server.clone()) {
        return Err(NetworkError::Another {
            directory: directory.to_owned(),
            found: name.to_string(),
            wanted: server.clone(),
        });
    }
    Ok(Admission::Certificate(identity))
}

/// What admits a command to the manager at `address`, with what is in the manager's run directory.
pub(crate) fn of_operator(
    run_directory: &Path,
    address: IpAddr,
) -> Result<Admission, NetworkError> {
    if address.is_loopback() {
        return Ok(Admission::Token(Token::read(
            &run_directory.join(TOKEN_FILE),
        )?));
    }
    let own = own_directory(run_directory, &Role::Operator);
    Ok(Admission::Certificate(Identity::open(&own)?))
}

/// Looks at a process's own certificate from time to time, also while no connection is made, so that it
/// is told in time that it ends.
pub(crate) async fn watch_own(admission: Admission) {
    let Admission::Certificate(identity) = admission else {
        return;
    };
    loop {
        tracing::debug!(own = ?identity.certified(), "the certificate was looked at");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The address of this machine from which it reaches the manager, which is taken to be that by which
/// other servers reach it. Nothing is sent.
pub(crate) fn address_toward(manager: SocketAddr) -> Result<IpAddr, NetworkError> {
    let any: IpAddr = match manager {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let found = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(manager)?;
        Ok(socket.local_addr()?.ip())
    });
    found.map_err(|source| NetworkError::NoWay { manager, source })
}
