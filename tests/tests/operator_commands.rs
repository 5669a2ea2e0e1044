//! What an operator sees of an application: while it runs, after a failure, and when it has stopped.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::process::Pidfd;
use lamplighter_runtime::transport::mqtt::{
    Mqtt, MqttOptions, Publish, QualityOfService, Reception, Subscription,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_presses");

/// Long enough for a busy machine; nothing waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

const TOPOLOGY: &str = r#"
[application]
name = "presses"
[servers.here]
storage = "volatile"
[elements.counter]
kind = "Counter"
server = "here"
checkpoint = { every = 100000, interval = "1h" }
restart = { backoff = "1ms..10ms" }
inputs = { "desk/press" = "Pressed", "desk/word" = "Said" }
outputs = { count = { topic = "desk/count" } }
STORE
"#;

#[tokio::test]
async fn state_log_and_dead_letters_are_shown_whole_whatever_happens_to_the_host() {
    see_all_of("").await;
}

#[tokio::test]
async fn state_log_and_dead_letters_are_shown_from_redis_as_well() {
    see_all_of("[store]\nkind = \"redis\"\nmanaged = true\n").await;
}

/// Two presses, a word that no handler bears, a killed host, and another press.
async fn see_all_of(store: &str) {
    let mut up = Up::start(store).await;
    let mut desk = Desk::at(&up.broker()).await;
    desk.press().await;
    assert_eq!(desk.count().await, "1");
    desk.press().await;
    assert_eq!(desk.count().await, "2");
    desk.say("boo").await;
    let letters = up.until(&["dead-letters", "--json"], |letters| letters != &json!([]));
    kill(up.until(&["status", "--json"], |status| pid(status).is_some()));
    desk.press().await;
    assert_eq!(desk.count().await, "3");

    let state = json!({ "presses": 3, "last_word": null });
    assert_eq!(up.shown(&["state", "counter", "--json"]), state);
    let log = up.shown(&["log", "counter", "--json"]);
    let input = |input: &Value| match input["kind"].as_str() {
        Some("event") => Some(json!([input["index"], input["payload"], input["position"]])),
        Some("skipped") => Some(json!([input["index"], input["skipped"]])),
        Some(_) | None => None,
    };
    let inputs: Vec<Value> = log.as_array().unwrap().iter().filter_map(input).collect();
    let boo = inputs
        .iter()
        .find(|input| input[1] == json!({ "Said": "boo" }));
    let boo = boo.unwrap()[0].clone();
    let payloads: Vec<&Value> = inputs.iter().map(|input| &input[1]).collect();
    let pressed = json!({ "Pressed": null });
    let said = json!({ "Said": "boo" });
    assert_eq!(payloads, [&pressed, &pressed, &said, &boo, &pressed]);
    let what = letters[0]["what"].clone();
    assert_eq!(
        letters,
        json!([{
            "element": "counter",
            "index": boo,
            "what": what,
            "at_us": letters[0]["at_us"],
            "cause": letters[0]["cause"],
        }])
    );
    let cause = letters[0]["cause"].as_str().unwrap();
    assert!(cause.contains("it was frightened"), "{cause}");
    assert_eq!(up.shown(&["dead-letters", "counter", "--json"]), letters);

    refuses_what_is_not_there(&up);
    let checked = up.run(&["store", "check"]);
    assert!(checked.status.success(), "{checked:?}");

    up.stop().await;
    if store.is_empty() {
        // Nothing runs: the files themselves are read. The last checkpoint has emptied the log.
        assert_eq!(up.shown(&["state", "counter", "--json"]), state);
        assert_eq!(up.shown(&["log", "counter", "--json"]), json!([]));
        assert_eq!(up.shown(&["dead-letters", "--json"]), letters);
        let explained = up.shown(&["explain", "counter", "--json"]);
        assert_eq!(explained["element"], "counter");
        let recovery = &explained["recovery"];
        assert!(recovery["replayed"].as_u64() > Some(0), "{explained}");
        let stopped = up.words(&["ack", "counter", "1.1.0"]);
        assert!(stopped.contains("nothing runs in "), "{stopped}");
    } else {
        let away = up.words(&["state", "counter"]);
        assert!(away.contains("the store is out of reach"), "{away}");
    }
}

/// Names that are almost right, and what is not there.
fn refuses_what_is_not_there(up: &Up) {
    let nobody = up.words(&["explain", "conter"]);
    assert_eq!(
        nobody,
        "Error: presses has no element and no appliance conter; did you mean counter?\n"
    );
    let nowhere = up.words(&["world", "--space", "hall"]);
    assert_eq!(nowhere, "Error: presses has no space hall; it has none\n");
    let silent = up.words(&["ack", "counter", "1.1.0"]);
    assert_eq!(
        silent,
        "Error: no command counter/1.1.0 of counter is of unknown fate; those that wait for a word: \
         none\n"
    );
    let missing = up.words(&["redo", "conter", "1.1.0"]);
    assert_eq!(
        missing,
        "Error: no element conter runs; did you mean counter?\n"
    );
    let unknown = up.words(&["state", "conter"]);
    assert_eq!(
        unknown,
        "Error: presses has no element conter; did you mean counter?\n"
    );
}

#[tokio::test]
async fn a_command_where_nothing_has_run_says_so() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        ["state", "counter"].as_slice(),
        &["log", "counter"],
        &["dead-letters"],
        &["store", "check"],
        &["world"],
        &["explain", "counter"],
    ] {
        let output = command(&directory).args(arguments).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(words.contains("nothing has run in "), "{words}");
        assert_eq!(output.status.code(), Some(1));
    }
}

/// A running application. Whatever happens in the test, it ends with it, and all its processes do,
/// because their lifelines end.
struct Up {
    child: Child,
    directory: tempfile::TempDir,
}

impl Up {
    async fn start(store: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("presses.toml");
        std::fs::write(&file, TOPOLOGY.replace("STORE", store)).unwrap();
        let mut child = command(&directory)
            .args(["up", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let up = Self { child, directory };
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = timeout(PATIENCE, reading)
            .await
            .expect("it is ready in time");
        let line = line.unwrap().unwrap();
        assert!(line.starts_with("presses is ready"), "{line}");
        up
    }

    fn broker(&self) -> String {
        let file = self.directory.path().join("run/broker.url");
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(&self.directory).args(arguments).output().unwrap()
    }

    /// What a command says that fails.
    fn words(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// What a command shows for programs.
    fn shown(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The same, as soon as it is as wanted.
    fn until(&self, arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let shown = self.shown(arguments);
            if wanted(&shown) {
                return shown;
            }
            assert!(began.elapsed() < PATIENCE, "{shown}");
        }
    }

    async fn stop(&mut self) {
        let pid = self.child.id();
        let asked = Command::new("kill").arg(pid.to_string()).status().unwrap();
        assert!(asked.success());
        let ended = Pidfd::open(pid).unwrap();
        timeout(PATIENCE, ended.gone()).await.unwrap().unwrap();
        let mut words = String::new();
        let complaints = self.child.stderr.take().unwrap().read_to_string(&mut words);
        complaints.unwrap();
        assert!(self.child.wait().unwrap().success(), "{words}");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where somebody presses, speaks, and reads the count.
struct Desk {
    mqtt: Mqtt,
    counts: mpsc::UnboundedReceiver<String>,
}

impl Desk {
    async fn at(url: &str) -> Self {
        let address = BrokerAddress {
            url: url.to_owned(),
            user: None,
            password: None,
        };
        let (told, counts) = mpsc::unbounded_channel();
        let subscription = Subscription {
            filter: "desk/count".into(),
            quality: QualityOfService::AtLeastOnce,
        };
        let options = MqttOptions::new(address, "desk");
        let receive = move |message: lamplighter_runtime::transport::mqtt::Incoming| {
            told.send(String::from_utf8_lossy(&message.payload).into_owned())
                .ok();
            Reception::Done
        };
        let mqtt = Mqtt::start(options, vec![subscription], Arc::new(receive)).unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        Self { mqtt, counts }
    }

    async fn press(&self) {
        self.publish("desk/press", b"").await;
    }

    async fn say(&self, word: &str) {
        self.publish("desk/word", word.as_bytes()).await;
    }

    async fn publish(&self, topic: &str, payload: &[u8]) {
        let published = self
            .mqtt
            .publish(topic, payload.to_vec(), Publish::at_least_once());
        published.unwrap().await.unwrap();
    }

    async fn count(&mut self) -> String {
        let count = timeout(PATIENCE, self.counts.recv()).await;
        count.expect("the count comes in time").unwrap()
    }
}

fn pid(status: &Value) -> Option<u64> {
    status["elements"][0]["pid"].as_u64()
}

fn kill(status: Value) {
    let pid = pid(&status).and_then(|pid| u32::try_from(pid).ok());
    Pidfd::open(pid.unwrap()).unwrap().kill();
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
