//! Real processes: started, broken and stopped, with a test double in place of the host's inside.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use lamplighter::operator::Operator;
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::control::{
    Answer, Ask, Decider, ElementState, ElementStatus, Injection,
};
use lamplighter_runtime::process::{Ended, Pidfd};
use tokio::time::{Instant, timeout};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fake-host");

/// Long enough for a busy machine; nothing waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_death_of_a_host_is_mended_by_the_spare_on_the_managers_decision() {
    let up = Up::start(TWO_ELEMENTS).await;
    let mut operator = up.operator().await;
    let before = up
        .element(&mut operator, "lamp", |lamp| lamp.report.is_some())
        .await;
    let spare = up.hosts_without(&mut operator).await;

    kill(before.pid.unwrap()).await;
    let after = up
        .element(&mut operator, "lamp", |lamp| is_mended(lamp, 1))
        .await;

    let failure = after.last_failure.unwrap();
    assert_eq!(
        (
            failure.number,
            failure.cause.as_str(),
            failure.decided_by,
            after.epoch
        ),
        (
            1,
            "was killed by signal 9",
            Some(Decider::Manager),
            before.epoch + 1
        )
    );
    assert_eq!(BTreeSet::from([after.pid.unwrap()]), spare);
    let phases = failure.phases;
    assert!(phases.decided <= phases.repaired, "{phases:?}");
    let door = up.element(&mut operator, "door", |_| true).await;
    assert_eq!((door.state, door.restarts), (ElementState::Running, 0));
    up.stop().await;
}

#[tokio::test]
async fn an_element_that_fails_too_often_is_shown_as_failed_and_the_others_go_on() {
    let up = Up::start(TWO_ELEMENTS).await;
    let mut operator = up.operator().await;
    for failures in 0..2 {
        let lamp = up.element(&mut operator, "lamp", |lamp| {
            lamp.state == ElementState::Running && lamp.restarts == failures
        });
        kill(lamp.await.pid.unwrap()).await;
    }
    let lamp = up.element(&mut operator, "lamp", |lamp| {
        lamp.restarts == 2 && is_running(lamp)
    });
    kill(lamp.await.pid.unwrap()).await;
    let failed = |lamp: &ElementStatus| matches!(lamp.state, ElementState::Failed { .. });
    let lamp = up.element(&mut operator, "lamp", failed).await;
    assert_eq!(
        lamp.state,
        ElementState::Failed {
            reason: "restarted 2 times within 60s and failed again: was killed by signal 9".into(),
        }
    );
    let door = up.element(&mut operator, "door", |_| true).await;
    assert_eq!(door.state, ElementState::Running);
    up.stop().await;
}

#[tokio::test]
async fn an_element_on_damaged_data_is_given_up_at_once_with_its_reason() {
    let up = Up::start(&TWO_ELEMENTS.replace("level = 3", "damaged = true")).await;
    let mut operator = up.operator().await;
    let failed = |lamp: &ElementStatus| matches!(lamp.state, ElementState::Failed { .. });
    let lamp = up.element(&mut operator, "lamp", failed).await;
    let reason = "record 7 fails its checksum".into();
    assert_eq!(
        (lamp.state, lamp.restarts),
        (ElementState::Failed { reason }, 0)
    );
    assert!(
        up.ready_line.contains("1 elements run, 1 do not"),
        "{}",
        up.ready_line
    );
    up.stop().await;
}

#[tokio::test]
async fn a_manager_that_hangs_does_not_keep_an_agent_from_repairing() {
    let up = Up::start(TWO_ELEMENTS).await;
    let mut operator = up.operator().await;
    let lamp = up.element(&mut operator, "lamp", is_running).await;
    let manager = up.process("manager");
    signal(manager, "-STOP");
    kill(lamp.pid.unwrap()).await;
    // The agent has the spare run the element and, as a sign of that, starts another spare.
    up.until("another host is started", || {
        up.marked()
            .iter()
            .filter(|pid| arguments(**pid).contains("host"))
            .count()
            == 3
    })
    .await;
    signal(manager, "-CONT");
    let lamp = up
        .element(&mut operator, "lamp", |lamp| is_mended(lamp, 1))
        .await;
    assert_eq!(lamp.last_failure.unwrap().decided_by, Some(Decider::Agent));
    up.stop().await;
}

#[tokio::test]
async fn a_manager_or_agent_that_dies_is_started_again_and_the_application_is_whole() {
    let up = Up::start(TWO_ELEMENTS).await;
    let mut operator = up.operator().await;
    let lamp = up.element(&mut operator, "lamp", is_running).await;

    kill(up.process("manager")).await;
    let mut operator = up.operator().await;
    let again = up.element(&mut operator, "lamp", is_running).await;
    assert_eq!(
        (again.pid, again.restarts),
        (lamp.pid, 0),
        "its host went on undisturbed"
    );

    let host = Pidfd::open(lamp.pid.unwrap()).unwrap();
    kill(up.process("agent")).await;
    timeout(PATIENCE, host.gone()).await.unwrap().unwrap();
    let again = up
        .element(&mut operator, "lamp", |l| {
            is_running(l) && l.pid != lamp.pid
        })
        .await;
    assert!(again.epoch > lamp.epoch, "{again:?}");
    up.stop().await;
}

#[tokio::test]
async fn a_drill_kills_an_element_and_its_repair_is_measured() {
    let up = Up::start(TWO_ELEMENTS).await;
    let mut operator = up.operator().await;
    let mut repaired = Vec::new();
    for round in 1..=2 {
        let ready = |lamp: &ElementStatus| is_running(lamp) && lamp.restarts == round - 1;
        up.element(&mut operator, "lamp", ready).await;
        let inject = Ask::Inject {
            element: id("lamp"),
            injection: Injection::Kill,
        };
        assert_eq!(operator.ask(inject).await.unwrap(), Answer::Injected);
        let lamp = up
            .element(&mut operator, "lamp", |lamp| is_mended(lamp, round))
            .await;
        let phases = lamp.last_failure.unwrap().phases;
        assert!(
            phases.seen.is_some() && phases.started.is_some(),
            "{phases:?}"
        );
        repaired.push(phases);
    }
    let table = up.command(&["status"]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("lamp     running  up      pc"), "{text}");
    assert!(text.contains("was killed by signal 9 (seen "), "{text}");
    let json = up.command(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["elements"][1]["restarts"], 2);
    assert_eq!(json["elements"][1]["log_length"], 2);
    let broker = json["broker"].as_str().unwrap();
    assert!(up.ready_line.contains(&format!("; broker {broker}\n")));
    up.stop().await;
}

#[tokio::test]
async fn what_is_stopped_leaves_nothing_behind() {
    let up = Up::start(TWO_ELEMENTS).await;
    let all = "up, broker, manager, agent, two hosts and the spare";
    up.until(all, || up.marked().len() == 7).await;
    let busy = up.command(&["up", up.file.to_str().unwrap()]);
    let words = String::from_utf8(busy.stderr).unwrap();
    assert!(
        words.contains("runs in") && words.contains("already; stop it first"),
        "{words}"
    );
    up.stop().await;
}

#[tokio::test]
async fn nothing_outlives_an_up_that_is_killed() {
    let mut up = Up::start(TWO_ELEMENTS).await;
    let others: Vec<Pidfd> = up
        .marked()
        .into_iter()
        .filter(|pid| *pid != up.child.id())
        .map(|pid| Pidfd::open(pid).unwrap())
        .collect();
    up.child.kill().unwrap();
    up.child.wait().unwrap();
    for other in others {
        timeout(PATIENCE, other.gone()).await.unwrap().unwrap();
    }
    assert_eq!(up.marked(), BTreeSet::new());
    let nobody = up.command(&["status"]);
    let words = String::from_utf8(nobody.stderr).unwrap();
    assert!(words.starts_with("nothing runs in "), "{words}");
}

#[tokio::test]
async fn an_agent_is_refused_without_the_token_or_with_a_server_that_is_not_there() {
    let up = Up::start(TWO_ELEMENTS).await;
    let address = std::fs::read_to_string(up.run_directory().join("manager.address")).unwrap();
    let agent = |server: &str, token: &str| {
        let token_file = up.directory.path().join("shown");
        std::fs::write(&token_file, token).unwrap();
        set_private(&token_file);
        let token_file = token_file.to_str().unwrap();
        let manager = address.trim();
        let output = up.command(&[
            "agent",
            "--server",
            server,
            "--manager",
            manager,
            "--token-file",
            token_file,
        ]);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let secret = std::fs::read_to_string(up.run_directory().join("token")).unwrap();
    let wrong = agent("pc", "0000");
    assert!(
        wrong.contains("the token is not that of this application"),
        "{wrong}"
    );
    let unknown = agent("mars", &secret);
    assert!(
        unknown.contains("the topology has no server mars; it has pc"),
        "{unknown}"
    );
    up.stop().await;
}

const TWO_ELEMENTS: &str = r#"
[application]
name = "house"
[servers.pc]
storage = "volatile"
[elements.lamp]
kind = "Fake"
server = "pc"
state = { level = 3 }
restart = { max = 2, backoff = "10ms..20ms" }
[elements.door]
kind = "Fake"
server = "pc"
"#;

/// A running application. Whatever happens in the test, all its processes end with it.
struct Up {
    child: Child,
    directory: tempfile::TempDir,
    file: PathBuf,
    ready_line: String,
}

impl Up {
    async fn start(topology: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("house.toml");
        std::fs::write(&file, topology).unwrap();
        let mut up = Self {
            child: command(&directory)
                .args(["up", "--allow-inject", file.to_str().unwrap()])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
            directory,
            file,
            ready_line: String::new(),
        };
        let stdout = up.child.stdout.take().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = timeout(PATIENCE, reading).await;
        up.ready_line = line.expect("it is ready in time").unwrap().unwrap();
        assert!(
            up.ready_line.starts_with("house is "),
            "{:?} {}",
            up.ready_line,
            up.logs()
        );
        up
    }

    fn run_directory(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    fn logs(&self) -> String {
        let entries = std::fs::read_dir(self.run_directory())
            .into_iter()
            .flatten()
            .flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
        logs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default())
            .collect()
    }

    fn command(&self, arguments: &[&str]) -> Output {
        command(&self.directory).args(arguments).output().unwrap()
    }

    async fn operator(&self) -> Operator {
        let began = Instant::now();
        loop {
            match Operator::find(&self.run_directory()).await {
                Ok(operator) => return operator,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The status of an element, as soon as it is as wanted.
    async fn element(
        &self,
        operator: &mut Operator,
        element: &str,
        wanted: impl Fn(&ElementStatus) -> bool,
    ) -> ElementStatus {
        let began = Instant::now();
        loop {
            let (_, elements) = operator.status().await.unwrap();
            let placed = elements
                .into_iter()
                .find(|placed| placed.status.element == id(element));
            let status = placed.unwrap().status;
            if wanted(&status) {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "{status:?} {}", self.logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until(&self, what: &str, wanted: impl Fn() -> bool) {
        let began = Instant::now();
        while !wanted() {
            assert!(
                began.elapsed() < PATIENCE,
                "not in time: {what} {}",
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The host processes that run no element, once there is one.
    async fn hosts_without(&self, operator: &mut Operator) -> BTreeSet<u32> {
        let hosts = || -> BTreeSet<u32> {
            self.marked()
                .into_iter()
                .filter(|pid| arguments(*pid).contains("host"))
                .collect()
        };
        self.until("the spare is there", || hosts().len() == 3)
            .await;
        let (_, elements) = operator.status().await.unwrap();
        let used: BTreeSet<u32> = elements
            .iter()
            .filter_map(|placed| placed.status.pid)
            .collect();
        hosts().difference(&used).copied().collect()
    }

    /// All living processes of this application.
    fn marked(&self) -> BTreeSet<u32> {
        let mark = format!(
            "LAMPLIGHTER_DIRECTORIES__RUN={}",
            self.run_directory().display()
        );
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        })
        .collect()
    }

    fn process(&self, role: &str) -> u32 {
        let is_role = |pid: &u32| arguments(*pid).starts_with(role);
        let found = self.marked().into_iter().find(is_role);
        found.expect("the role runs")
    }

    /// Stops it as a user does, and sees that nothing is left.
    async fn stop(mut self) {
        signal(self.child.id(), "-TERM");
        let pidfd = Pidfd::open(self.child.id()).unwrap();
        let death = timeout(PATIENCE, pidfd.death())
            .await
            .expect("it stops in time")
            .unwrap();
        assert_eq!(death.ended, Ended::Exited(0), "{}", self.logs());
        assert_eq!(self.marked(), BTreeSet::new());
        self.child.try_wait().ok();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        for pid in self.marked() {
            if let Ok(process) = Pidfd::open(pid) {
                process.kill();
            }
        }
    }
}

fn command(directory: &tempfile::TempDir) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env("LAMPLIGHTER_DIRECTORIES__RUN", directory.path().join("run"))
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn arguments(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut parts = line.split(|byte| *byte == 0);
    parts.next();
    String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned()
}

async fn kill(pid: u32) {
    let process = Pidfd::open(pid).unwrap();
    process.kill();
    timeout(PATIENCE, process.gone()).await.unwrap().unwrap();
}

fn signal(pid: u32, signal: &str) {
    assert!(
        Command::new("kill")
            .args([signal, &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

fn set_private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn is_running(status: &ElementStatus) -> bool {
    status.state == ElementState::Running
}

fn is_mended(status: &ElementStatus, restarts: u32) -> bool {
    is_running(status) && status.restarts == restarts
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}
