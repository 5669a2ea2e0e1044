//! A Redis server as our child: found free port, durable, stopped with us.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use redis::{Client, cmd};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::ManagedError;

const PROGRAM: &str = "redis-server";

/// How often another port is tried when somebody else takes the free one first.
const PORTS_MAX: usize = 8;

/// How long the server may take to read its data before it counts as silent.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// How long the server may take to write its data when it is told to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// How much of the server's log is shown when it fails.
const WORDS_BYTES: usize = 1_000;

/// When the server writes to disk what it confirms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// Every second: a loss of power costs up to two seconds, a crash of the server nothing.
    #[default]
    EverySecond,
    /// Before each reply.
    Always,
}

/// Where and how the server runs.
#[derive(Clone, Debug)]
pub struct ManagedRedisSettings {
    /// Where it keeps its data and log; made if absent.
    pub directory: PathBuf,
    /// When it writes to disk.
    pub fsync: Fsync,
    /// Its port on the loopback; `None` takes a free one.
    pub port: Option<u16>,
    /// Whether it also listens on `redis.sock` in its directory.
    pub has_socket: bool,
    /// Settings of redis.conf that come on top, by name.
    pub more: Vec<(String, String)>,
}

impl ManagedRedisSettings {
    /// A durable server in `directory`, on a free port.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            fsync: Fsync::EverySecond,
            port: None,
            has_socket: false,
            more: Vec::new(),
        }
    }
}

/// A running Redis server; killed when dropped, and by the system when our process ends.
#[derive(Debug)]
pub struct ManagedRedis {
    child: Child,
    port: u16,
    socket: Option<PathBuf>,
}

impl ManagedRedis {
    /// Starts a server and waits until it answers.
    ///
    /// The system ties the server to the thread that starts it, not only to the process: call this
    /// on a thread that lives as long as the server should, not on one of a pool that shrinks.
    ///
    /// # Errors
    /// Why it does not run; nothing is left running then.
    pub async fn start(settings: &ManagedRedisSettings) -> Result<Self, ManagedError> {
        let directory = |source| ManagedError::Directory {
            program: PROGRAM,
            path: settings.directory.clone(),
            source,
        };
        fs::create_dir_all(&settings.directory).map_err(directory)?;
        // The server resolves paths after it has changed its directory.
        let home = fs::canonicalize(&settings.directory).map_err(directory)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let port = settings
                .port
                .map_or_else(free_port, Ok)
                .map_err(start_failed)?;
            match Self::attempt(settings, &home, port).await {
                Err(ManagedError::Stopped { words, .. })
                    if settings.port.is_none()
                        && tries < PORTS_MAX
                        && words.contains("Address already in use") => {}
                outcome => return outcome,
            }
        }
    }

    /// The address for [`crate::store::redis::RedisSettings::url`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}:{}/", Ipv4Addr::LOCALHOST, self.port)
    }

    /// The same over the socket in its directory, if it has one.
    #[must_use]
    pub fn socket_url(&self) -> Option<String> {
        let path = self.socket.as_deref()?;
        Some(format!("redis+unix://{}", path.display()))
    }

    /// Its port on the loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the server ends by itself.
    ///
    /// # Errors
    /// The system's, if it cannot be waited for.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Stops the server in order, so that all it knows is on disk. One that does not stop in time
    /// is killed.
    ///
    /// # Errors
    /// The system's, if it can be neither told nor waited for.
    pub async fn stop(mut self) -> io::Result<()> {
        if let Some(process) = self.pid() {
            kill_process(process, Signal::TERM)?;
        }
        match tokio::time::timeout(STOP_TIME_MAX, self.child.wait()).await {
            Ok(status) => status.map(drop),
            Err(_) => self.child.kill().await,
        }
    }

    /// Kills the server, as a crash would.
    ///
    /// # Errors
    /// The system's, if it cannot be waited for.
    pub async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    fn pid(&self) -> Option<Pid> {
        self.child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
    }

    async fn attempt(
        settings: &ManagedRedisSettings,
        home: &Path,
        port: u16,
    ) -> Result<Self, ManagedError> {
        let log = home.join("redis.log");
        // Only this start's words matter if it fails.
        let log_start = fs::metadata(&log).map_or(0, |log| log.len());
        let socket = settings.has_socket.then(|| home.join("redis.sock"));
        let arguments = arguments(settings, home, port, socket.as_deref());
        let child = spawn(home, &arguments)?;
        let mut server = Self {
            child,
            port,
            socket,
        };
        let url = server.url();
        tokio::select! {
            status = server.child.wait() => Err(ManagedError::Stopped {
                program: PROGRAM,
                status: status.map_or_else(|fault| fault.to_string(), |status| status.to_string()),
                words: last_words(&log, log_start),
            }),
            answers = tokio::time::timeout(START_TIME_MAX, answered(&url)) => match answers {
                Ok(()) => Ok(server),
                Err(_) => Err(ManagedError::Silent {
                    program: PROGRAM,
                    words: last_words(&log, log_start),
                }),
            },
        }
    }
}

/// The settings of redis.conf as arguments.
fn arguments(
    settings: &ManagedRedisSettings,
    home: &Path,
    port: u16,
    socket: Option<&Path>,
) -> Vec<String> {
    let fsync = match settings.fsync {
        Fsync::EverySecond => "everysec",
        Fsync::Always => "always",
    };
    let port = port.to_string();
    let (home, socket) = (home.to_string_lossy(), socket.map(Path::to_string_lossy));
    let mut pairs = vec![
        ("bind", "127.0.0.1"),
        ("port", &port),
        ("dir", &home),
        ("logfile", "redis.log"),
        ("daemonize", "no"),
        ("save", ""),
        ("appendonly", "yes"),
        ("appendfsync", fsync),
        ("maxmemory-policy", "noeviction"),
    ];
    if let Some(socket) = &socket {
        pairs.push(("unixsocket", socket));
        pairs.push(("unixsocketperm", "700"));
    }
    let more = settings.more.iter();
    pairs.extend(more.map(|(name, value)| (name.as_str(), value.as_str())));
    let pairs = pairs.into_iter();
    pairs
        .flat_map(|(name, value)| [format!("--{name}"), value.to_owned()])
        .collect()
}

/// Starts the program so that the system kills it when our process ends in whatever way.
fn spawn(home: &Path, arguments: &[String]) -> Result<Child, ManagedError> {
    let start = |command: &mut Command| {
        command
            .args(arguments)
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    };
    if !is_installed(PROGRAM) {
        return Err(ManagedError::Missing {
            program: PROGRAM,
            package: PROGRAM,
        });
    }
    // The child cannot ask for this itself, and asking in its place between fork and exec takes
    // unsafe code; the small program of util-linux asks and then becomes the server.
    let bound = start(Command::new("setpriv").args(["--pdeathsig", "TERM", PROGRAM]));
    match bound {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            start(&mut Command::new(PROGRAM)).map_err(start_failed)
        }
        outcome => outcome.map_err(start_failed),
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn start_failed(source: io::Error) -> ManagedError {
    ManagedError::Start {
        program: PROGRAM,
        source,
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Returns once the server answers and has read its data. No event tells this from outside, so it
/// asks, at first often.
async fn answered(url: &str) {
    let mut pause = Duration::from_millis(1);
    loop {
        if pings(url).await {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = Duration::from_millis(50).min(pause * 2);
    }
}

async fn pings(url: &str) -> bool {
    let Ok(client) = Client::open(url) else {
        return false;
    };
    match client.get_multiplexed_async_connection().await {
        Ok(mut connection) => cmd("PING").exec_async(&mut connection).await.is_ok(),
        Err(_) => false,
    }
}

/// The end of a log from `start` on.
fn last_words(log: &Path, start: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let start = usize::try_from(start).unwrap_or(0).min(bytes.len());
    let start = start.max(bytes.len().saturating_sub(WORDS_BYTES));
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_durable_and_gone_after_its_stop() {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = ManagedRedisSettings::new(directory.path());
        settings.has_socket = true;
        let server = ManagedRedis::start(&settings).await.unwrap();
        for url in [server.url(), server.socket_url().unwrap()] {
            ask(&url, &["SET", "key", "value"]).await.unwrap();
        }
        let (url, id) = (server.url(), server.process_id().unwrap());
        server.stop().await.unwrap();
        assert!(ask(&url, &["PING"]).await.is_err());
        assert!(!Path::new(&format!("/proc/{id}")).exists());

        let server = ManagedRedis::start(&settings).await.unwrap();
        let value = ask(&server.url(), &["GET", "key"]).await;
        assert_eq!(value, Ok(redis::Value::BulkString(b"value".to_vec())));
        server.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_cannot_start_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut settings = ManagedRedisSettings::new(directory.path());
        settings.port = Some(taken.local_addr().unwrap().port());
        let fault = ManagedRedis::start(&settings)
            .await
            .unwrap_err()
            .to_string();
        assert!(fault.contains("Address already in use"), "{fault}");
    }

    async fn ask(url: &str, words: &[&str]) -> Result<redis::Value, redis::RedisError> {
        let mut connection = Client::open(url)?
            .get_multiplexed_async_connection()
            .await?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut connection).await
    }
}
