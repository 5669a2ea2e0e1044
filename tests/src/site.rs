//! An application on several servers as its operator starts it, role by role: a broker, a manager and an
//! agent for each server, all on this machine. Each can be killed alone, and a server with all that is on
//! it. Whatever happens in the test, all its processes end with it.

#![expect(clippy::unwrap_used, reason = "these are parts of tests")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lamplighter::operator::Operator;
use lamplighter_policies::protocol::control::PlacedStatus;
use lamplighter_runtime::process::{Pidfd, Process, Program};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::application::{PATIENCE, kill};

/// The processes of one application.
pub struct Site {
    program: &'static str,
    directory: TempDir,
    /// By role; that of an agent is the name of its server.
    processes: BTreeMap<String, Process>,
    manager: String,
    /// Where its broker is.
    pub broker: String,
}

impl Site {
    /// Starts broker, manager and the agents of these servers.
    pub async fn start(program: &'static str, topology: &str, servers: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("topology.toml"), topology).unwrap();
        std::fs::create_dir(directory.path().join("run")).unwrap();
        let (broker, manager) = (free_address(), free_address());
        let mut site = Self {
            program,
            directory,
            processes: BTreeMap::new(),
            manager,
            broker: format!("mqtt://{broker}"),
        };
        site.spawn("broker", &["broker", "--listen", &broker]);
        let address = broker.parse().unwrap();
        assert!(lamplighter_runtime::broker::accepts(address, PATIENCE).await);
        site.start_manager();
        for server in servers {
            site.start_server(server);
        }
        site
    }

    /// Starts the manager, where it was before.
    pub fn start_manager(&mut self) {
        let file = self.directory.path().join("topology.toml");
        let (file, listen, broker) = (
            file.display().to_string(),
            self.manager.clone(),
            self.broker.clone(),
        );
        let arguments = [
            "manager",
            &file,
            "--listen",
            &listen,
            "--broker-url",
            &broker,
        ];
        let more = ["--allow-inject", "--lifeline"];
        self.spawn("manager", &[&arguments[..], &more].concat());
    }

    /// Starts the agent of a server.
    pub fn start_server(&mut self, server: &str) {
        let manager = self.manager.clone();
        let arguments = [
            "agent",
            "--server",
            server,
            "--manager",
            &manager,
            "--lifeline",
        ];
        self.spawn(server, &arguments);
    }

    fn spawn(&mut self, role: &str, arguments: &[&str]) {
        // The token is there once the manager is; an agent needs it to start.
        let program = Program {
            path: self.program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: self.environment(),
            log: self.run_directory().join(format!("{role}.log")),
        };
        if arguments[0] == "agent" {
            let began = Instant::now();
            while !self.run_directory().join("token").exists() {
                assert!(began.elapsed() < PATIENCE, "{}", self.logs());
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.processes
            .insert(role.to_owned(), program.spawn().unwrap());
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let run = self.run_directory().into_os_string();
        environment.push(("LAMPLIGHTER_DIRECTORIES__RUN".into(), run));
        environment
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
        let logs = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let logs = logs.filter(|path| path.extension().is_some_and(|e| e == "log"));
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            format!("== {}\n{text}", path.display())
        };
        logs.map(read).collect()
    }

    /// Runs a command of the program against it, and gives what it printed.
    ///
    /// # Panics
    /// If the command fails.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> String {
        let output = Command::new(self.program)
            .args(arguments)
            .envs(self.environment())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors} {}", self.logs());
        String::from_utf8(output.stdout).unwrap()
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

    /// How all elements are, as soon as that is as wanted.
    pub async fn elements(&self, wanted: impl Fn(&[PlacedStatus]) -> bool) -> Vec<PlacedStatus> {
        let began = Instant::now();
        let mut operator = self.operator().await;
        loop {
            match operator.status().await {
                Ok((_, elements)) if wanted(&elements) => return elements,
                Ok((_, elements)) => {
                    assert!(began.elapsed() < PATIENCE, "{elements:#?} {}", self.logs())
                }
                Err(_) => operator = self.operator().await,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A server dies, with all that is on it, at one stroke.
    pub async fn kill_server(&mut self, server: &str) {
        let agent = self.processes.remove(server).expect("it runs");
        let hosts = hosts_of(&self.run_directory(), server);
        agent.pidfd().kill();
        let hosts: Vec<Pidfd> = hosts
            .into_iter()
            .filter_map(|pid| Pidfd::open(pid).ok())
            .collect();
        hosts.iter().for_each(|host| {
            host.kill();
        });
        agent.pidfd().gone().await.unwrap();
        for host in hosts {
            host.gone().await.unwrap();
        }
    }

    /// The manager dies.
    pub async fn kill_manager(&mut self) {
        let manager = self.processes.remove("manager").expect("it runs");
        kill(manager.pid()).await;
    }

    /// Lets go of a server's agent: it is to stop in order. Returns once it has.
    pub async fn stop_server(&mut self, server: &str) {
        let mut agent = self.processes.remove(server).expect("it runs");
        agent.close();
        let gone = tokio::time::timeout(PATIENCE, agent.pidfd().gone()).await;
        gone.expect("it stops in time").unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for process in self.processes.values() {
            process.pidfd().kill();
        }
        for pid in marked(&self.run_directory()) {
            if let Ok(process) = Pidfd::open(pid) {
                process.kill();
            }
        }
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

/// The processes that were started for this directory.
fn marked(run: &Path) -> Vec<u32> {
    let mark = format!("LAMPLIGHTER_DIRECTORIES__RUN={}", run.display());
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| variable == mark.as_bytes())
    })
    .collect()
}

/// The host processes of a server.
fn hosts_of(run: &Path, server: &str) -> Vec<u32> {
    let is_host = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&b"host".as_slice()) && words.contains(&server.as_bytes())
    };
    marked(run).into_iter().filter(is_host).collect()
}
