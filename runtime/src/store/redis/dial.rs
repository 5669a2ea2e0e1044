//! Making one connection and checking the server behind it before anything is written.

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError, cmd};
use tokio::net::{TcpStream, UnixStream};

use super::check::{Facts, Finding, Severity};
use super::connection::{Fault, Shared};
use super::replies::{Action, Reply, words};
use super::scripts;
use super::settings::{RedisSettings, StoreIdentity};
use super::time::Reading;
use crate::store::StoreError;

/// How many commands may be queued for the socket before callers wait.
const QUEUE: usize = 1_024;

/// When the system gives up a silent connection: probes after this time, then as often as given.
const PROBE: (Duration, Duration, u32) = (Duration::from_secs(5), Duration::from_secs(2), 3);

/// For how long the server's clock is watched.
const SURVEY: Duration = Duration::from_secs(1);

/// A connection to a server that passed its checks.
pub(super) struct Dialled {
    pub(super) connection: MultiplexedConnection,
    /// Carries the connection; ends with it.
    pub(super) driver: BoxFuture<'static, ()>,
}

/// What was seen of the server when it was last checked.
pub(super) struct Known {
    /// Which run of the server.
    run_id: String,
    /// Which store; one without it, or with another, is not the store that we know.
    pub(super) identity: Option<StoreIdentity>,
    /// What a person should know about it.
    pub(super) findings: Vec<Finding>,
}

impl Known {
    /// What is known before the first connection.
    pub(super) fn before(settings: &RedisSettings) -> Self {
        Self {
            run_id: String::new(),
            identity: settings.identity,
            findings: Vec::new(),
        }
    }
}

/// Connects, loads the scripts and checks the server.
pub(super) async fn dial(shared: &Shared) -> Result<Dialled, Fault> {
    let patience = shared.settings.patience;
    match tokio::time::timeout(patience, attempt(shared)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Fault::Away(format!("no answer within {patience:?}"))),
    }
}

async fn attempt(shared: &Shared) -> Result<Dialled, Fault> {
    let (mut connection, mut driver) = reach(&shared.target, shared.settings.patience)
        .await
        .map_err(refuse_or_wait)?;
    // The driver moves the bytes, so it runs beside the conversation.
    tokio::select! {
        outcome = check(shared, &mut connection) => outcome?,
        () = &mut driver => return Err(Fault::Away("the server closed the connection".into())),
    }
    Ok(Dialled { connection, driver })
}

/// Asks a server about itself over a connection of its own.
pub(super) async fn look(settings: &RedisSettings) -> Result<Vec<Finding>, Fault> {
    let target = settings.target().map_err(Fault::Refused)?;
    let asking = async {
        let (mut connection, driver) = reach(&target, settings.patience).await?;
        tokio::select! {
            findings = survey(settings, &mut connection) => findings,
            () = driver => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    };
    let patience = settings.patience + SURVEY;
    match tokio::time::timeout(patience, asking).await {
        Ok(findings) => findings.map_err(refuse_or_wait),
        Err(_) => Err(Fault::Away(format!("no answer within {patience:?}"))),
    }
}

/// Every finding, those that take a while included.
async fn survey(
    settings: &RedisSettings,
    connection: &mut MultiplexedConnection,
) -> Result<Vec<Finding>, RedisError> {
    let facts = Facts::read(connection).await?;
    let mut findings = facts.findings(settings.durability);
    let first = Reading::take(connection).await?;
    findings.extend(first.offset());
    tokio::time::sleep(SURVEY).await;
    findings.extend(first.rate(&Reading::take(connection).await?));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(findings)
}

/// Opens the socket and greets the server.
async fn reach(
    target: &ConnectionInfo,
    patience: Duration,
) -> Result<(MultiplexedConnection, BoxFuture<'static, ()>), RedisError> {
    let redis = target.redis_settings();
    let timing = AsyncConnectionConfig::new()
        .set_response_timeout(Some(patience))
        .set_pipeline_buffer_size(QUEUE);
    match target.addr() {
        ConnectionAddr::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            tune(&stream)?;
            let (connection, driver) =
                MultiplexedConnection::new_with_config(redis, stream, timing).await?;
            Ok((connection, driver.boxed()))
        }
        ConnectionAddr::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            let (connection, driver) =
                MultiplexedConnection::new_with_config(redis, stream, timing).await?;
            Ok((connection, driver.boxed()))
        }
        other @ (ConnectionAddr::TcpTls { .. } | _) => {
            Err(io::Error::other(format!("{other} cannot be reached")).into())
        }
    }
}

/// Sends small writes at once, and notices a peer that is gone without a word.
fn tune(stream: &TcpStream) -> io::Result<()> {
    let (after, every, times) = PROBE;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(after)
        .with_interval(every)
        .with_retries(times);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(after + every * times))
}

/// Everything that must hold before a write may pass.
async fn check(shared: &Shared, connection: &mut MultiplexedConnection) -> Result<(), Fault> {
    let facts = Facts::read(connection).await.map_err(refuse_or_wait)?;
    if facts.is_loading() {
        return Err(Fault::Away("the server reads its data".to_owned()));
    }
    let mut findings = facts.findings(shared.settings.durability);
    let reading = Reading::take(connection).await.map_err(refuse_or_wait)?;
    findings.extend(reading.offset());
    let is_new = shared.known().run_id != facts.run_id();
    for finding in findings.iter().filter(|_| is_new) {
        tracing::warn!(cure = finding.cure, "Redis: {}", finding.what);
    }
    if let Some(refusal) = refusal(&findings) {
        return Err(hold_or_refuse(shared, refusal));
    }
    let found = identity(shared, connection).await?;
    scripts::load_all()
        .exec_async(connection)
        .await
        .map_err(refuse_or_wait)?;
    let mut known = shared.known();
    known.run_id = facts.run_id().to_owned();
    known.identity = found;
    known.findings = findings;
    Ok(())
}

/// A server that never passed is refused. One that did is being worked on, or is about to hand over
/// to another: nothing is written to it, and elements wait instead of giving up.
fn hold_or_refuse(shared: &Shared, refusal: StoreError) -> Fault {
    if shared.known().run_id.is_empty() {
        Fault::Refused(refusal)
    } else {
        Fault::Away(refusal.to_string())
    }
}

/// Which store this is, if it is the one that is expected.
async fn identity(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
) -> Result<Option<StoreIdentity>, Fault> {
    let found: Option<String> = cmd("GET")
        .arg(shared.keys.identity())
        .query_async(connection)
        .await
        .map_err(refuse_or_wait)?;
    let found = found.and_then(|text| u128::from_str_radix(&text, 16).ok());
    let found = found.map(crate::store::Nonce);
    let expected = shared.known().identity;
    if expected.is_some() && expected != found {
        return Err(Fault::Refused(emptied(found.is_some())));
    }
    Ok(found)
}

/// The refusal of a server that does not hold what it held before.
pub(super) fn emptied(holds_another: bool) -> StoreError {
    StoreError::Refused {
        attempted: "checking the Redis server".to_owned(),
        reason: if holds_another {
            "it holds another store than before".to_owned()
        } else {
            "it has lost this application's state: the server was emptied".to_owned()
        },
        cure: "restore the server's data from a copy, or give the address of the right server; to \
               begin again with nothing, remove the application's data directory"
            .to_owned(),
    }
}

/// All that rules the server out, as one error.
pub(super) fn refusal(findings: &[Finding]) -> Option<StoreError> {
    let refused: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Refuse)
        .collect();
    let join = |part: fn(&Finding) -> &str| {
        let parts: Vec<&str> = refused.iter().map(|finding| part(finding)).collect();
        parts.join("; ")
    };
    (!refused.is_empty()).then(|| StoreError::Refused {
        attempted: "checking the Redis server".to_owned(),
        reason: join(|finding| &finding.what),
        cure: join(|finding| &finding.cure),
    })
}

/// Tells what a person must cure from what passes.
fn refuse_or_wait(error: RedisError) -> Fault {
    match Reply::of(&error).action() {
        Action::Stop { cure } => Fault::Refused(StoreError::Refused {
            attempted: "greeting the Redis server".to_owned(),
            reason: words(&error),
            cure: cure.to_owned(),
        }),
        Action::Wait | Action::WaitAndAlarm | Action::Reconnect | Action::LoadScripts => {
            Fault::Redis(error)
        }
    }
}
