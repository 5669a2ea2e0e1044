//! An application on several servers, each an agent process of its own that nobody starts again: so a
//! server can be lost. Whatever happens in the test, all its processes end with it.

#![expect(clippy::unwrap_used, reason = "these are parts of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lamplighter::operator::Operator;
use lamplighter_policies::protocol::control::{Answer, Ask, ServerState, ServerStatus};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use crate::application::{PATIENCE, kill, processes_marked};

/// The manager and the agents.
pub struct Fog {
    program: &'static str,
    manager: Child,
    address: String,
    agents: BTreeMap<String, Child>,
    directory: TempDir,
}

impl Fog {
    /// Starts a manager for a topology, and the agents of these servers, and waits until every element
    /// runs.
    pub async fn start(program: &'static str, topology: &str, servers: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("topology.toml");
        std::fs::write(&file, topology).unwrap();
        let mut manager = command(program, &directory, "manager")
            .arg(file)
            .args(["--listen", "127.0.0.1:0", "--allow-inject"])
            // Nothing connects to it: the hosts of these tests hold no elements.
            .args(["--broker-url", "mqtt://127.0.0.1:9"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = manager.stdout.take().unwrap();
        let mut fog = Self {
            program,
            manager,
            address: String::new(),
            agents: BTreeMap::new(),
            directory,
        };
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = timeout(PATIENCE, reading).await.unwrap().unwrap().unwrap();
        let address = line.trim().strip_prefix("the manager listens on ");
        fog.address = address
            .unwrap_or_else(|| panic!("{}", fog.logs()))
            .to_owned();
        for server in servers {
            fog.start_agent(server);
        }
        let mut operator = fog.operator().await;
        let ready = timeout(PATIENCE, operator.ask(Ask::AwaitReady)).await;
        let ready = ready.unwrap_or_else(|_| panic!("{}", fog.logs())).unwrap();
        assert!(matches!(ready, Answer::Ready { .. }), "{ready:?}");
        fog
    }

    /// Starts the agent of a server.
    pub fn start_agent(&mut self, server: &str) {
        let agent = command(self.program, &self.directory, &format!("agent-{server}"))
            .args(["--server", server, "--manager", &self.address])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.agents.insert(server.to_owned(), agent);
    }

    /// A connection to the manager.
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

    /// How a server is, as soon as that is what is wanted. `never` must not be seen meanwhile.
    pub async fn until(
        &self,
        operator: &mut Operator,
        server: &str,
        wanted: ServerState,
        never: Option<ServerState>,
    ) -> ServerStatus {
        let began = Instant::now();
        loop {
            let (servers, _) = operator.status().await.unwrap();
            let mut found = servers.into_iter();
            let status = found
                .find(|status| status.server.as_str() == server)
                .unwrap();
            if status.state == wanted {
                return status;
            }
            assert_ne!(Some(status.state), never, "{}", self.logs());
            assert!(began.elapsed() < PATIENCE, "{status:?} {}", self.logs());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Loses a server: its agent and all hosts of it are killed at once.
    pub async fn lose(&mut self, server: &str) {
        let mut agent = self.agents.remove(server).unwrap();
        let hosts = self.hosts(server);
        agent.kill().unwrap();
        for host in hosts {
            kill(host).await;
        }
        agent.wait().unwrap();
    }

    /// Stops the agent of a server (SIGSTOP), or has it go on.
    pub fn hang(&self, server: &str, hangs: bool) {
        let signal = if hangs { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.agents[server]), signal).unwrap();
    }

    /// The host processes of a server.
    #[must_use]
    pub fn hosts(&self, server: &str) -> BTreeSet<u32> {
        let is_of = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).skip(1).take(3).collect();
            arguments == ["host", "--server", server].map(str::as_bytes)
        };
        self.processes().into_iter().filter(is_of).collect()
    }

    /// Where logs and token are.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// All that its processes wrote.
    #[must_use]
    pub fn logs(&self) -> String {
        let directories = [self.directory.path().to_owned(), self.run_directory()];
        let entries = directories
            .iter()
            .flat_map(std::fs::read_dir)
            .flatten()
            .flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
        let logs = logs.map(|log| {
            let text = std::fs::read_to_string(log.path()).unwrap_or_default();
            format!("{}:\n{text}", log.path().display())
        });
        logs.collect()
    }

    fn processes(&self) -> BTreeSet<u32> {
        processes_marked(&self.run_directory())
    }
}

impl Drop for Fog {
    fn drop(&mut self) {
        for child in self.agents.values_mut().chain([&mut self.manager]) {
            child.kill().ok();
            child.wait().ok();
        }
        for pid in self.processes() {
            if let Ok(process) = lamplighter_runtime::process::Pidfd::open(pid) {
                process.kill();
            }
        }
    }
}

/// The role is the first part of the name; its messages go to a log of that name.
fn command(program: &str, directory: &TempDir, name: &str) -> Command {
    let log = directory.path().join(format!("{name}.log"));
    let mut command = Command::new(program);
    command
        .arg(name.split('-').next().unwrap_or(name))
        .env("LAMPLIGHTER_DIRECTORIES__RUN", directory.path().join("run"))
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(log).unwrap());
    command
}
