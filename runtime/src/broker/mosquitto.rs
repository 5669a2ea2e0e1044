//! A Mosquitto that Lamplighter starts and stops itself.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{BrokerAddress, PAYLOAD_BYTES_MAX, accepts};

/// How many messages wait for one absent client before Mosquitto drops the next ones.
const QUEUED_MESSAGES_MAX: usize = 10_000;
/// How many bytes wait for one absent client.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// How many QoS 1 messages a client may leave unacknowledged.
const IN_FLIGHT_MAX: usize = 100;
/// Room for topic and properties beside the largest payload.
const PACKET_OVERHEAD_BYTES: usize = 64 << 10;
/// How many clients may be connected at once.
const CONNECTIONS_MAX: usize = 1_024;
/// Another process can take the port between picking and listening.
const PORT_ATTEMPTS: u32 = 5;
/// It starts in some 20 ms; a busy Raspberry Pi needs longer.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// It writes its queues to disk when it is asked to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What Mosquitto is started with.
#[derive(Clone, Debug)]
pub struct MosquittoSettings {
    /// Where it keeps its configuration and queues; created if missing. The same directory on the next start
    /// brings the sessions back.
    pub directory: PathBuf,
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The one user and password that are let in. Everybody is, if there is none; that is refused
    /// off loopback.
    pub credentials: Option<(String, String)>,
}

/// Why there is no Mosquitto.
#[derive(Debug, thiserror::Error)]
pub enum MosquittoError {
    /// It is not installed.
    #[error("{program} is not installed; `make setup` installs it, or use the embedded broker")]
    Missing {
        /// Which program was looked for.
        program: &'static str,
    },
    /// The settings cannot be used.
    #[error("Mosquitto is not started: {reason}")]
    Refused {
        /// What is wrong, and what to write.
        reason: String,
    },
    /// A file or process could not be made.
    #[error("cannot {attempted}: {source}")]
    Io {
        /// What was attempted, on what.
        attempted: String,
        /// The system's own words.
        source: io::Error,
    },
    /// It was started and does not answer.
    #[error("Mosquitto does not accept connections at {listen}{ended}; its own words are in {log}")]
    Silent {
        /// Where it should listen.
        listen: SocketAddr,
        /// " and ended with …", if it did.
        ended: String,
        /// The file with what it wrote.
        log: String,
    },
}

/// A running Mosquitto, which is killed when this is dropped and ends when the thread that started
/// it does.
#[derive(Debug)]
pub struct ManagedMosquitto {
    child: Child,
    settings: MosquittoSettings,
}

impl ManagedMosquitto {
    /// Starts it and waits until it accepts connections.
    ///
    /// Start it from a thread that lives as long as the process (a runtime's main thread): the
    /// system ends Mosquitto with the thread that started it, so that none is left behind when its parent is killed.
    pub async fn start(settings: MosquittoSettings) -> Result<Self, MosquittoError> {
        if settings.credentials.is_none() && !settings.listen.ip().is_loopback() {
            let reason = format!(
                "it would let everybody in at {}; give it a user and password, or let it listen on \
                 127.0.0.1",
                settings.listen
            );
            return Err(MosquittoError::Refused { reason });
        }
        let mosquitto = find("mosquitto")?;
        let attempted = format!("create {}", settings.directory.display());
        std::fs::create_dir_all(&settings.directory).map_err(io_error(attempted))?;
        let picked = settings.listen.port() == 0;
        let mut attempts = if picked { PORT_ATTEMPTS } else { 1 };
        loop {
            let mut settings = settings.clone();
            if picked {
                settings.listen.set_port(free_port(settings.listen)?);
            }
            attempts -= 1;
            match launch(&mosquitto, settings).await {
                Err(MosquittoError::Silent { .. }) if attempts > 0 => {}
                result => return result,
            }
        }
    }

    /// Where it listens, and how to sign in.
    pub fn address(&self) -> BrokerAddress {
        let (user, password) = self.settings.credentials.clone().unzip();
        BrokerAddress {
            url: format!("mqtt://{}", self.settings.listen),
            user,
            password,
        }
    }

    /// What it was started with, with the port that was picked: start again with these to get the same
    /// broker.
    pub fn settings(&self) -> &MosquittoSettings {
        &self.settings
    }

    /// Its process id, while it has not been waited for.
    pub fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it ends by itself, and says how.
    pub async fn ended(&mut self) -> io::Result<std::process::ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to save its queues and end; kills it if it has not after 5 s.
    pub async fn stop(mut self) -> Result<(), MosquittoError> {
        let process = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(process) = process {
            // It may have ended by itself a moment ago, which is just as good.
            kill_process(process, Signal::TERM).ok();
        }
        match tokio::time::timeout(STOP_WITHIN, self.child.wait()).await {
            Ok(ended) => ended
                .map(|_| ())
                .map_err(io_error("wait for Mosquitto".to_owned())),
            Err(_) => self.kill().await,
        }
    }

    /// Kills it with SIGKILL; what it has not saved is gone.
    pub async fn kill(mut self) -> Result<(), MosquittoError> {
        self.child
            .kill()
            .await
            .map_err(io_error("kill Mosquitto".to_owned()))
    }
}

async fn launch(
    mosquitto: &Path,
    settings: MosquittoSettings,
) -> Result<ManagedMosquitto, MosquittoError> {
    let configuration = write_configuration(&settings)?;
    let log_path = settings.directory.join("mosquitto.log");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(io_error(format!("open {}", log_path.display())))?;
    let mut child = Command::new(find("setpriv")?)
        .args(["--pdeathsig", "TERM", "--"])
        .arg(mosquitto)
        .arg("-c")
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(io_error(format!("start {}", mosquitto.display())))?;
    let ended = tokio::select! {
        accepted = accepts(settings.listen, READY_WITHIN) => {
            if accepted && child.try_wait().is_ok_and(|ended| ended.is_none()) {
                return Ok(ManagedMosquitto { child, settings });
            }
            String::new()
        }
        ended = child.wait() => match ended {
            Ok(status) => format!(" and ended with {status}"),
            Err(error) => format!(" and cannot be waited for ({error})"),
        },
    };
    let log = log_path.display().to_string();
    Err(MosquittoError::Silent {
        listen: settings.listen,
        ended,
        log,
    })
}

fn write_configuration(settings: &MosquittoSettings) -> Result<PathBuf, MosquittoError> {
    let directory = settings.directory.display();
    let unusable = |c: char| c.is_control();
    if directory.to_string().contains(unusable) {
        let reason = format!("its directory {directory:?} has control characters in its name");
        return Err(MosquittoError::Refused { reason });
    }
    let packet = PAYLOAD_BYTES_MAX + PACKET_OVERHEAD_BYTES;
    let mut text = format!(
        "listener {port} {host}\n\
         max_connections {CONNECTIONS_MAX}\n\
         persistence true\n\
         persistence_location {directory}/\n\
         autosave_interval 1\n\
         max_queued_messages {QUEUED_MESSAGES_MAX}\n\
         max_queued_bytes {QUEUED_BYTES_MAX}\n\
         max_inflight_messages {IN_FLIGHT_MAX}\n\
         message_size_limit {PAYLOAD_BYTES_MAX}\n\
         max_packet_size {packet}\n\
         set_tcp_nodelay true\n\
         sys_interval 0\n\
         connection_messages false\n\
         log_dest stderr\n\
         log_type error\n\
         log_type warning\n\
         log_type notice\n",
        port = settings.listen.port(),
        host = settings.listen.ip(),
    );
    if rustix::process::geteuid().is_root() {
        // Else it becomes another user, who may not write its queues into our directory.
        text.push_str("user root\n");
    }
    match &settings.credentials {
        None => text.push_str("allow_anonymous true\n"),
        Some((user, password)) => {
            let file = write_password(&settings.directory, user, password)?;
            // Writing to a String cannot fail.
            writeln!(
                text,
                "allow_anonymous false\npassword_file {}",
                file.display()
            )
            .ok();
        }
    }
    let path = settings.directory.join("mosquitto.conf");
    write_private(&path, &text)?;
    Ok(path)
}

/// Mosquitto takes hashed passwords only; its own tool hashes a file in place, so that the password
/// never stands in a command line.
fn write_password(directory: &Path, user: &str, password: &str) -> Result<PathBuf, MosquittoError> {
    if user.is_empty() || user.contains([':', '\n']) || password.contains('\n') {
        let reason =
            "a user is not empty, has no colon and no line end; nor has a password a line end";
        return Err(MosquittoError::Refused {
            reason: reason.to_owned(),
        });
    }
    let path = directory.join("passwords");
    write_private(&path, &format!("{user}:{password}\n"))?;
    let tool = find("mosquitto_passwd")?;
    let attempted = format!("hash the password in {}", path.display());
    let output = std::process::Command::new(tool)
        .arg("-U")
        .arg(&path)
        .output();
    let output = output.map_err(io_error(attempted.clone()))?;
    if output.status.success() {
        Ok(path)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        let source = io::Error::other(format!("{} {}", output.status, said.trim()));
        Err(MosquittoError::Io { attempted, source })
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), MosquittoError> {
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        io::Write::write_all(&mut file, text.as_bytes())
    };
    write().map_err(io_error(format!("write {}", path.display())))
}

/// Looks where system programs are, too: they are often missing from a user's PATH.
fn find(program: &'static str) -> Result<PathBuf, MosquittoError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or(MosquittoError::Missing { program })
}

fn free_port(listen: SocketAddr) -> Result<u16, MosquittoError> {
    TcpListener::bind(SocketAddr::new(listen.ip(), 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(io_error(format!("pick a free port on {}", listen.ip())))
}

fn io_error(attempted: String) -> impl FnOnce(io::Error) -> MosquittoError {
    move |source| MosquittoError::Io { attempted, source }
}
