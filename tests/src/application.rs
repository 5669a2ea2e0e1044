//! A whole application as its user starts it. Whatever happens in the test, all its processes end with it.

#![expect(clippy::unwrap_used, reason = "these are parts of tests")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lamplighter::operator::Operator;
use lamplighter_policies::protocol::control::{ElementState, ElementStatus};
use lamplighter_runtime::process::{Ended, Pidfd};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

/// Long enough for a busy machine; nothing waits this long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Whatever can tell why a test failed.
pub trait Logs {
    /// All that its processes wrote.
    fn logs(&self) -> String;
}

impl Logs for Application {
    fn logs(&self) -> String {
        Self::logs(self)
    }
}

/// `up` and its directory.
pub struct Application {
    child: Child,
    program: &'static str,
    directory: TempDir,
    /// Where its broker is.
    pub broker: String,
}

impl Application {
    /// Starts `program up` on a topology and waits until all of it runs.
    pub async fn start(program: &'static str, topology: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("topology.toml"), topology).unwrap();
        Self::start_in(program, directory).await
    }

    /// Stops it as a user does, sees that nothing is left, and starts it again on the same directory.
    pub async fn start_again(self) -> Self {
        let (program, directory) = (self.program, self.stop().await);
        Self::start_in(program, directory).await
    }

    async fn start_in(program: &'static str, directory: TempDir) -> Self {
        let mut child = Command::new(program)
            .args(["up", "--lifeline", "--allow-inject", "topology.toml"])
            .env("LAMPLIGHTER_DIRECTORIES__RUN", directory.path().join("run"))
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(directory.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let mut application = Self {
            child,
            program,
            directory,
            broker: String::new(),
        };
        let line = timeout(PATIENCE, reading).await;
        let line = line.expect("it is ready in time").unwrap().unwrap();
        let broker = line.trim().split_once("; broker ");
        let (_, broker) = broker.unwrap_or_else(|| panic!("{line:?} {}", application.logs()));
        broker.clone_into(&mut application.broker);
        application
    }

    /// Where its logs are.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// All that its processes wrote.
    #[must_use]
    pub fn logs(&self) -> String {
        let entries = std::fs::read_dir(self.run_directory());
        let logs = entries.into_iter().flatten().flatten();
        let logs = logs.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
        let errors = std::fs::read_to_string(self.directory.path().join("stderr"));
        let logs = logs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default());
        errors.into_iter().chain(logs).collect()
    }

    /// A connection to its manager, as soon as that answers.
    pub async fn operator(&self) -> Operator {
        let began = Instant::now();
        loop {
            match Operator::find(&self.run_directory()).await {
                Ok(operator) => return operator,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error} {}", self.logs()),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How an element is, as soon as that is as wanted.
    pub async fn element(
        &self,
        element: &str,
        wanted: impl Fn(&ElementStatus) -> bool,
    ) -> ElementStatus {
        let began = Instant::now();
        let mut operator = self.operator().await;
        loop {
            match operator.status().await {
                Ok((_, elements)) => {
                    let mut all = elements.into_iter().map(|placed| placed.status);
                    let status = all.find(|status| status.element.as_str() == element);
                    // A manager that has just been started hears of the elements from the agents.
                    if let Some(status) = status {
                        if wanted(&status) {
                            return status;
                        }
                        assert!(began.elapsed() < PATIENCE, "{status:?} {}", self.logs());
                    }
                }
                Err(_) => operator = self.operator().await,
            }
            assert!(began.elapsed() < PATIENCE, "{element}: {}", self.logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the process that hosts an element, without a word.
    pub async fn kill_host_of(&self, element: &str) {
        let status = self.element(element, |status| status.pid.is_some()).await;
        kill(status.pid.unwrap()).await;
    }

    /// Whether an element keeps a log on its server.
    #[must_use]
    pub fn has_local_log(&self, server: &str, element: &str) -> bool {
        let logs = self.run_directory().join("local").join(server);
        logs.join(element).is_dir()
    }

    /// All its living processes.
    #[must_use]
    pub fn processes(&self) -> BTreeSet<u32> {
        processes_marked(&self.run_directory())
    }

    /// The process of this role.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn process(&self, role: &str) -> u32 {
        let plays = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
        };
        let found = self.processes().into_iter().find(plays);
        found.expect("the role runs")
    }

    /// Stops it with SIGTERM, sees that nothing is left, and gives back its directory.
    pub async fn stop(mut self) -> TempDir {
        let pidfd = Pidfd::open(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let death = timeout(PATIENCE, pidfd.death()).await;
        let ended = death.expect("it stops in time").unwrap().ended;
        assert_eq!(ended, Ended::Exited(0), "{}", self.logs());
        assert_eq!(self.processes(), BTreeSet::new());
        self.child.try_wait().ok();
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        for pid in self.processes() {
            if let Ok(process) = Pidfd::open(pid) {
                process.kill();
            }
        }
    }
}

/// All living processes that were started with this run directory.
#[must_use]
pub fn processes_marked(run_directory: &Path) -> BTreeSet<u32> {
    let mark = format!("LAMPLIGHTER_DIRECTORIES__RUN={}", run_directory.display());
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| variable == mark.as_bytes())
    })
    .collect()
}

/// Kills a process, if it has not just ended, and waits until it is gone.
pub async fn kill(pid: u32) {
    if let Ok(process) = Pidfd::open(pid) {
        process.kill();
        timeout(PATIENCE, process.gone()).await.unwrap().unwrap();
    }
}

/// Whether the element runs.
#[must_use]
pub fn is_running(status: &ElementStatus) -> bool {
    status.state == ElementState::Running
}
