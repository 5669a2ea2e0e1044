//! One house: the application and its devices as processes in a folder of their own.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use lamplighter_runtime::broker::BrokerAddress;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::processes::terminate;
use super::status::Status;

/// The file of the physical trace in a house's folder.
const TRACE: &str = "physical.jsonl";

/// How long the application, or the devices, may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long one command of the application may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a part of the house may take to end in order.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Why a house does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum HouseError {
    /// A file or process of the house cannot be made.
    #[error("cannot {attempted}: {source}")]
    System {
        /// What was attempted, on what.
        attempted: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A process ended, or is silent, where it should have said that it is ready.
    #[error("{what} is not ready: {reason}; what it wrote is in {log}")]
    NotReady {
        /// Which process.
        what: &'static str,
        /// What was seen.
        reason: String,
        /// Where its own words are.
        log: PathBuf,
    },
    /// A command of the application failed or gave no answer that can be read.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// What was asked.
        command: String,
        /// The answer.
        reason: String,
    },
}

/// A running house.
#[derive(Debug)]
pub struct House {
    application: Application,
    devices: Child,
    broker: String,
}

/// The application's part of a house.
#[derive(Debug)]
struct Application {
    folder: PathBuf,
    program: PathBuf,
    process: Child,
}

impl House {
    /// Starts the application of this topology in `folder`, then its devices, and waits until both
    /// are ready. `programs` is the folder of the binaries.
    ///
    /// # Errors
    /// A file or process cannot be made, or a process does not become ready.
    pub async fn start(folder: &Path, topology: &str, programs: &Path) -> Result<Self, HouseError> {
        let attempted = |what: &str| system(format!("{what} {}", folder.display()));
        std::fs::create_dir_all(folder).map_err(attempted("make the folder"))?;
        let file = folder.join("smart-home.toml");
        std::fs::write(&file, topology).map_err(attempted("write the topology into"))?;

        let program = programs.join("smart-home");
        let mut command = command_of(&program, folder);
        command
            .arg("up")
            .arg(&file)
            .args(["--allow-inject", "--lifeline"]);
        let (process, output) = spawn(command, folder, "application")?;
        let process = ready("the application", process, output, folder).await?;
        let application = Application {
            folder: folder.to_owned(),
            program,
            process,
        };
        let broker = application.status().await?.broker;

        let mut command = Command::new(programs.join("devices"));
        command
            .args(["--broker", &broker, "--trace"])
            .arg(folder.join(TRACE));
        let (devices, output) = spawn(command, folder, "devices")?;
        let devices = ready("the devices", devices, output, folder).await?;
        Ok(Self {
            application,
            devices,
            broker,
        })
    }

    /// Where its broker is.
    #[must_use]
    pub fn broker(&self) -> BrokerAddress {
        BrokerAddress {
            url: self.broker.clone(),
            user: None,
            password: None,
        }
    }

    /// Where its devices write down what they do.
    #[must_use]
    pub fn trace(&self) -> PathBuf {
        self.application.folder.join(TRACE)
    }

    /// How it is.
    ///
    /// # Errors
    /// The application does not answer, or not with a status.
    pub async fn status(&self) -> Result<Status, HouseError> {
        self.application.status().await
    }

    /// The state of an element.
    ///
    /// # Errors
    /// The application does not answer, or not with a state.
    pub async fn state(&self, element: &str) -> Result<Value, HouseError> {
        let text = self.application.ask(&["state", element, "--json"]).await?;
        serde_json::from_str(&text).map_err(|fault| HouseError::Command {
            command: format!("smart-home state {element} --json"),
            reason: format!("{fault} in {text}"),
        })
    }

    /// Makes the handler of the next event of an element panic.
    ///
    /// # Errors
    /// The application refuses or does not answer.
    pub async fn inject_panic(&self, element: &str) -> Result<(), HouseError> {
        self.application
            .ask(&["inject", "panic", element])
            .await
            .map(drop)
    }

    /// Says, as a person who looked, that a command of an element was carried out.
    ///
    /// # Errors
    /// The application refuses or does not answer.
    pub async fn acknowledge(&self, element: &str, command: &str) -> Result<(), HouseError> {
        self.application
            .ask(&["ack", element, command])
            .await
            .map(drop)
    }

    /// Stops the application in order, then the devices.
    ///
    /// # Errors
    /// A process does not end in time, or fails.
    pub async fn stop(&mut self) -> Result<(), HouseError> {
        end("the application", &mut self.application.process).await?;
        end("the devices", &mut self.devices).await
    }
}

impl Application {
    async fn status(&self) -> Result<Status, HouseError> {
        let text = self.ask(&["status", "--json"]).await?;
        Status::parse(&text).map_err(|fault| HouseError::Command {
            command: "smart-home status --json".into(),
            reason: format!("{fault} in {text}"),
        })
    }

    async fn ask(&self, arguments: &[&str]) -> Result<String, HouseError> {
        let command = format!("smart-home {}", arguments.join(" "));
        let failed = |reason: String| HouseError::Command {
            command: command.clone(),
            reason,
        };
        let mut asked = command_of(&self.program, &self.folder);
        asked.args(arguments).stdin(Stdio::null());
        let answer: Output = timeout(ANSWER_WITHIN, asked.output())
            .await
            .map_err(|_| failed(format!("no answer within {ANSWER_WITHIN:?}")))?
            .map_err(|fault| failed(fault.to_string()))?;
        if !answer.status.success() {
            let words = String::from_utf8_lossy(&answer.stderr);
            return Err(failed(format!("{} {}", answer.status, words.trim())));
        }
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    }
}

/// A command of the application, which finds its house by the folder.
fn command_of(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("LAMPLIGHTER_DIRECTORIES__RUN", folder)
        .kill_on_drop(true);
    command
}

/// Starts a process that lives as long as the drill: its input is a pipe whose end tells it that the
/// drill is gone; what it complains about goes into a file.
fn spawn(
    mut command: Command,
    folder: &Path,
    name: &str,
) -> Result<(Child, ChildStdout), HouseError> {
    let log = folder.join(format!("{name}.log"));
    let complaints = File::create(&log).map_err(system(format!("write {}", log.display())))?;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(complaints)
        .kill_on_drop(true)
        .spawn()
        .map_err(system(format!(
            "start {:?}",
            command.as_std().get_program()
        )))?;
    let output = child
        .stdout
        .take()
        .expect("standard output is a pipe, see above");
    Ok((child, output))
}

/// Waits for the line with which a process says that it is ready, then reads on, so that the process
/// never waits for a reader.
async fn ready(
    what: &'static str,
    child: Child,
    output: ChildStdout,
    folder: &Path,
) -> Result<Child, HouseError> {
    let not_ready = |reason: String| HouseError::NotReady {
        what,
        reason,
        log: folder.to_owned(),
    };
    let mut lines = BufReader::new(output).lines();
    let waiting = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("ready") {
                return Ok(());
            }
            // The application also says when it is up with only a part of its elements.
            if line.contains("do not") {
                return Err(io::Error::other(line));
            }
        }
        Err(io::Error::other("it ended"))
    };
    match timeout(READY_WITHIN, waiting).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => return Err(not_ready(fault.to_string())),
        Err(_) => return Err(not_ready(format!("it said nothing for {READY_WITHIN:?}"))),
    }
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(child)
}

async fn end(what: &str, child: &mut Child) -> Result<(), HouseError> {
    let attempted = || format!("stop {what}");
    if let Some(pid) = child.id() {
        terminate(pid).map_err(system(attempted()))?;
    }
    let ended = timeout(STOP_WITHIN, child.wait()).await.map_err(|_| {
        let silence = io::Error::other(format!("it still runs after {STOP_WITHIN:?}"));
        system(attempted())(silence)
    })?;
    let status = ended.map_err(system(attempted()))?;
    if status.success() {
        Ok(())
    } else {
        Err(system(attempted())(io::Error::other(status.to_string())))
    }
}

fn system(attempted: String) -> impl FnOnce(io::Error) -> HouseError {
    move |source| HouseError::System { attempted, source }
}
