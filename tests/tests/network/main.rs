//! Applications on several machines, which are network namespaces with cables between them. Whoever runs
//! this must be root: `make test-net`. Elsewhere it says that it was left out.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that finds something else fails, and a runner of tests tells how they went"
)]

mod cables;
mod calls;
mod identities;
mod site;
mod switch;
mod ward;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lamplighter_runtime::process::Pidfd;

/// Says that these tests are wanted: they need root, and no test may touch what is not its own.
const WANTED: &str = "TEST_NET";

/// Names the test that a process is to run: each has a process of its own, because the MQTT library keeps
/// its threads, and with them the namespace in which it was first used.
const CASE: &str = "TEST_NET_CASE";

/// How long a test may take before its process is killed.
const PATIENCE: Duration = Duration::from_secs(300);

/// A test: its name, and what it does in a process of its own.
type Case = (&'static str, fn());

/// Lists the tests of a module under their names.
macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        [$((
            stringify!($name),
            (|| completes($module::$name())) as fn(),
        )),*]
    };
}

fn main() -> ExitCode {
    if std::env::var_os(WANTED).is_none() {
        println!("network: SKIPPED: these tests need root and are run by `make test-net`");
        return ExitCode::SUCCESS;
    }
    let cases: &[Case] = &cases![
        calls::a_flow_over_three_servers_with_calls_between_them_stays_exact_when_hosts_are_killed,
        cables::what_is_lost_in_one_direction_alone_is_neither_lost_nor_repeated,
        cables::without_the_manager_agents_go_on_alone,
        identities::an_identity_is_replaced_while_its_agent_runs,
        identities::who_does_not_belong_is_refused_on_every_port,
    ];
    if let Ok(name) = std::env::var(CASE) {
        let (_, case) = cases.iter().find(|(known, _)| *known == name).unwrap();
        case();
        return ExitCode::SUCCESS;
    }
    switch::sweep();
    let filter: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_chosen = |name: &str| filter.is_empty() || filter.iter().any(|part| name.contains(part));
    let chosen: Vec<&Case> = cases.iter().filter(|(name, _)| is_chosen(name)).collect();
    println!("\nrunning {} tests in network namespaces", chosen.len());
    let failed = chosen.iter().filter(|case| !passes(case)).count();
    let passed = chosen.len() - failed;
    println!("\nnetwork: {passed} passed, {failed} failed\n");
    match (passed, failed) {
        (1.., 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs a test, and removes what it left behind if it was killed.
fn passes((name, _): &Case) -> bool {
    let began = Instant::now();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CASE, name)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let ended = completes(async {
        let process = Pidfd::open(child.id()).unwrap();
        tokio::time::timeout(PATIENCE, process.gone()).await.is_ok()
    });
    if !ended {
        child.kill().unwrap();
    }
    let is_well = child.wait().unwrap().success();
    switch::sweep();
    let said = match (is_well, ended) {
        (true, _) => "ok",
        (false, true) => "FAILED",
        (false, false) => "FAILED: it took too long",
    };
    println!("test {name} ... {said} ({:.1?})", began.elapsed());
    is_well
}

fn completes<T>(task: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(task)
}
