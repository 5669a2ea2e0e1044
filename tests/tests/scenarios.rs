//! What `record` hears of what `scenario` plays, over a real broker.

#![expect(clippy::unwrap_used, reason = "a test fails where its helpers do")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use lamplighter_runtime::broker::mosquitto::{ManagedMosquitto, MosquittoSettings};
use serde_json::Value;

const SCENARIO: &str = r#"
    [[message]]
    at = "30ms"
    topic = "home/door"
    payload = { contact = false }
    [[message]]
    at = "10ms"
    topic = "home/lamp/set"
    payload = "ON"
    [[stream]]
    topic = "home/climate"
    every = "2ms"
    arrivals = "random"
    count = 40
    payload = {}
    draw = { temperature = { from = 18, to = 24, digits = 1 } }
    number = "n"
"#;

#[tokio::test]
async fn what_is_recorded_of_a_scenario_is_what_was_played_and_plays_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = MosquittoSettings {
        directory: folder.path().join("broker"),
        listen: ([127, 0, 0, 1], 0).into(),
        credentials: None,
    };
    let broker = ManagedMosquitto::start(settings).await.unwrap();
    let url = broker.address().url;
    let scenario = folder.path().join("load.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();

    let planned = shown(&scenario, &["--seed", "7", "--leave-out", "+/+/set"]);
    assert_eq!(planned.len(), 41);
    let first = folder.path().join("first.jsonl");
    let arguments = ["--seed", "7", "--leave-out", "+/+/set"];
    assert_eq!(heard(&url, &scenario, &arguments, &first), planned);

    let second = folder.path().join("second.jsonl");
    assert_eq!(heard(&url, &first, &["--speed", "100"], &second), planned);
    broker.stop().await.unwrap();
}

#[test]
fn a_scenario_without_a_broker_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("load.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let mut command = program();
    command.arg("scenario").arg(&scenario);
    command.arg("--run-directory").arg(folder.path());
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("start the application, or give --broker"),
        "{said}"
    );
}

/// Plays a scenario while everything is recorded into `file`, and gives what was recorded.
fn heard(url: &str, scenario: &Path, arguments: &[&str], file: &Path) -> Vec<(String, String)> {
    let mut recorder = program()
        .args([
            "record", "--topic", "home/#", "--count", "41", "--broker", url,
        ])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(recorder.stderr.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "recording home/#");
    let mut command = program();
    command.arg("scenario").arg(scenario).args(arguments);
    let outcome = succeeded(command.args(["--json", "--broker", url]));
    let outcome: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(
        (&outcome["acknowledged"], &outcome["unacknowledged"]),
        (&41.into(), &0.into())
    );
    assert!(recorder.wait().unwrap().success());
    shown(file, &[])
}

/// What would be played of a scenario: topics and payloads in order.
fn shown(scenario: &Path, arguments: &[&str]) -> Vec<(String, String)> {
    let mut command = program();
    command.arg("scenario").arg(scenario).args(arguments);
    let output = succeeded(command.arg("--dry-run"));
    let lines = output.stdout.lines().map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = |field: &str| line[field].as_str().unwrap().to_owned();
        (text("topic"), text("payload"))
    });
    lines.collect()
}

fn succeeded(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_presses"))
}
