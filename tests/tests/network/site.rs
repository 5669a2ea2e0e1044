//! An application on several machines, set up as docs/deployment.md says: a hub with broker, manager and
//! store, and servers with an agent each. All processes end with the site.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lamplighter::operator::Operator;
use lamplighter_policies::protocol::control::{Answer, Ask, ElementStatus, PlacedStatus};
use lamplighter_runtime::broker::{BrokerAddress, accepts};
use lamplighter_tests::application::{Logs, PATIENCE};
use tempfile::TempDir;
use tokio::time::Instant;

use super::switch::Switch;

/// The node of manager, store and broker.
pub(crate) const HUB: &str = "hub";

/// The one user of the broker.
const USER: &str = "site";
const PASSWORD: &str = "a password of the site";

pub(crate) struct Site {
    // Before the directory, so that nothing writes there any more when that is removed.
    children: Vec<(String, Child)>,
    pub(crate) switch: Switch,
    program: &'static str,
    servers: Vec<&'static str>,
    directory: TempDir,
}

impl Site {
    /// Starts the application with its elements on these servers, and waits until all of it runs.
    pub(crate) async fn start(
        program: &'static str,
        servers: &[&'static str],
        topology: impl FnOnce(&str) -> String,
    ) -> Self {
        let nodes: Vec<_> = [HUB].into_iter().chain(servers.iter().copied()).collect();
        let mut site = Self {
            children: Vec::new(),
            switch: Switch::new(&nodes),
            program,
            servers: servers.to_vec(),
            directory: tempfile::tempdir().unwrap(),
        };
        site.switch.enter(HUB);
        let broker = format!(
            "kind = \"external\"\nurl = \"{}\"\nuser = \"{USER}\"\npassword = {{ file = \"{}\" }}",
            site.broker().url,
            site.path("password").display()
        );
        std::fs::write(site.path("topology.toml"), topology(&broker)).unwrap();
        site.start_broker().await;
        site.start_manager();
        for server in servers {
            site.certify(server, 365);
            site.start_agent(server);
        }
        let answer = site.operator().await.ask(Ask::AwaitReady).await.unwrap();
        let Answer::Ready { failed, .. } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(failed, [], "{}", site.logs());
        site
    }

    /// Where the broker is, and who may use it.
    pub(crate) fn broker(&self) -> BrokerAddress {
        BrokerAddress {
            url: format!("mqtt://{}", self.at(HUB, 1883)),
            user: Some(USER.to_owned()),
            password: Some(PASSWORD.to_owned()),
        }
    }

    async fn start_broker(&mut self) {
        let users = self.path("users");
        std::fs::write(self.path("password"), PASSWORD).unwrap();
        let made = Command::new("mosquitto_passwd")
            .args(["-c", "-b"])
            .arg(&users)
            .args([USER, PASSWORD])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let address = self.at(HUB, 1883);
        let settings = format!(
            "listener {} {}\nallow_anonymous false\npassword_file {}\nuser root\n",
            address.port(),
            address.ip(),
            users.display()
        );
        let file = self.path("mosquitto.conf");
        std::fs::write(&file, settings).unwrap();
        let mut command = self.switch.on(HUB, "mosquitto");
        command.arg("-c").arg(file);
        self.spawn("broker", command);
        assert!(accepts(address, PATIENCE).await, "{}", self.logs());
    }

    /// Starts the manager and waits until it listens.
    pub(crate) fn start_manager(&mut self) {
        let mut command = self.switch.on(HUB, self.program);
        command
            .arg("manager")
            .arg(self.path("topology.toml"))
            .args(["--lifeline", "--allow-inject", "--listen"])
            .arg(self.manager().to_string())
            .arg("--run-directory")
            .arg(self.path(HUB))
            .stdout(Stdio::piped());
        self.spawn("manager", command);
        let (_, child) = self.children.last_mut().unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.contains("listens on"), "{line:?} {}", self.logs());
    }

    /// Makes a new identity for a server's agent, in place of that which it has.
    pub(crate) fn certify(&self, server: &str, days: u32) {
        let made = Command::new(self.program)
            .args(["certificate", server, "--days", &days.to_string(), "--out"])
            .arg(self.path(server).join("identity"))
            .arg("--run-directory")
            .arg(self.path(HUB))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    pub(crate) fn start_agent(&mut self, server: &str) {
        let mut command = self.switch.on(server, self.program);
        command
            .args(["agent", "--lifeline", "--server", server, "--manager"])
            .arg(self.manager().to_string())
            .arg("--identity")
            .arg(self.path(server).join("identity"))
            .arg("--run-directory")
            .arg(self.path(server));
        self.spawn(server, command);
    }

    /// Kills the process of a node or role, and waits until it is gone.
    pub(crate) fn kill(&mut self, name: &str) {
        let place = self.children.iter().position(|(known, _)| known == name);
        let (_, mut child) = self.children.remove(place.expect("it was started"));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn spawn(&mut self, name: &str, mut command: Command) {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.path(&format!("{name}.log")))
            .unwrap();
        command
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stderr(log);
        let child = command.spawn().unwrap();
        self.children.push((name.to_owned(), child));
    }

    /// Where the manager listens.
    pub(crate) fn manager(&self) -> SocketAddr {
        self.at(HUB, 7_000)
    }

    fn at(&self, node: &str, port: u16) -> SocketAddr {
        (self.switch.address(node), port).into()
    }

    /// Where processes of the application listen on a node, other nodes' packets among them.
    pub(crate) fn listening(&self, node: &str) -> Vec<SocketAddr> {
        let listed = self.switch.on(node, "ss").args(["-Hltn"]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let places = listed.lines().filter_map(|line| {
            let place: SocketAddr = line.split_whitespace().nth(3)?.parse().ok()?;
            (!place.ip().is_loopback() && place.port() != 1883).then_some(place)
        });
        places.collect()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The hub's run directory.
    pub(crate) fn hub(&self) -> PathBuf {
        self.path(HUB)
    }

    /// A connection to the manager, as soon as that answers.
    pub(crate) async fn operator(&self) -> Operator {
        let began = Instant::now();
        loop {
            match Operator::find(&self.hub()).await {
                Ok(operator) => return operator,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error} {}", self.logs()),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Where an element is and how, as soon as that is as wanted.
    pub(crate) async fn element(
        &self,
        element: &str,
        wanted: impl Fn(&str, &ElementStatus) -> bool,
    ) -> PlacedStatus {
        let began = Instant::now();
        let mut operator = self.operator().await;
        loop {
            if let Ok((_, elements)) = operator.status().await {
                let mut all = elements.into_iter();
                let found = all.find(|placed| placed.status.element.as_str() == element);
                let found = found.expect("the topology has the element");
                if wanted(found.server.as_str(), &found.status) {
                    return found;
                }
                let waited = began.elapsed();
                assert!(waited < PATIENCE, "{found:?} {}", self.logs());
                tokio::time::sleep(Duration::from_millis(5)).await;
            } else {
                operator = self.operator().await;
            }
        }
    }
}

impl Logs for Site {
    fn logs(&self) -> String {
        let of = |directory: &Path| {
            let entries = std::fs::read_dir(directory).into_iter().flatten();
            entries.flatten().map(|entry| entry.path()).collect()
        };
        let mut files: Vec<PathBuf> = of(self.directory.path());
        for server in &self.servers {
            files.extend(of(&self.path(server)));
        }
        files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
        files.sort();
        let told = files.iter().map(|file| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let tail = text.char_indices().rev().nth(6_000).map_or(0, |(at, _)| at);
            format!("\n== {}\n{}", file.display(), &text[tail..])
        });
        told.collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
