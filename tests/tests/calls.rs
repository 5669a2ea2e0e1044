//! Function calls between real processes that are killed at random moments: each call is carried out
//! once, and its caller has one answer.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_policies::protocol::control::ElementState;
use lamplighter_tests::application::{Application, is_running, kill};
use lamplighter_tests::clinic::Outside;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_clinic");

const EMBEDDED: &str = "kind = \"embedded\"";
const REDIS: &str = "kind = \"redis\"\nmanaged = true";

#[tokio::test]
async fn calls_on_one_server_survive_the_deaths_of_caller_and_callee() {
    survive_kills(&topology("pc", "60s", 10_000, EMBEDDED), 1).await;
}

#[tokio::test]
async fn calls_between_servers_survive_the_deaths_of_caller_and_callee() {
    survive_kills(&topology("rpi", "60s", 10_000, REDIS), 2).await;
}

#[tokio::test]
async fn a_call_to_an_element_that_is_down_times_out() {
    let text = topology("pc", "500ms", 0, EMBEDDED);
    let application = Application::start(PROGRAM, &text).await;
    let outside = Outside::connect(&application.broker).await;
    outside.pain(1).await;
    outside.answered(&[(1, "given 1")], &application).await;
    let pump = application.element("pump", is_running).await;
    kill(pump.pid.unwrap()).await;
    application
        .element("pump", |pump| {
            matches!(pump.state, ElementState::Failed { .. })
        })
        .await;
    outside.pain(2).await;
    let late = "no answer came in time, so it is not known whether the call was carried out";
    outside
        .answered(&[(1, "given 1"), (2, late)], &application)
        .await;
    application.stop().await;
}

#[tokio::test]
async fn a_refusal_and_a_failure_of_the_callee_reach_the_caller() {
    let text = topology("pc", "60s", 10_000, EMBEDDED);
    let application = Application::start(PROGRAM, &text).await;
    let outside = Outside::connect(&application.broker).await;
    for n in [1, 1_000_000, 999_999, 2] {
        outside.pain(n).await;
    }
    let failed = "the callee gave the call up: the callee's handler failed on it repeatedly; it is \
                  among the callee's dead letters";
    let expected = [
        (1, "given 1"),
        (1_000_000, "the callee refused: that is too much"),
        (999_999, failed),
        (2, "given 2"),
    ];
    outside.answered(&expected, &application).await;
    assert_eq!(outside.given(2, &application).await, [1, 2]);
    application.stop().await;
}

#[tokio::test]
async fn garbage_on_the_socket_of_a_callee_does_no_harm() {
    let text = topology("pc", "60s", 10_000, EMBEDDED);
    let application = Application::start(PROGRAM, &text).await;
    let outside = Outside::connect(&application.broker).await;
    let sockets = std::fs::read_dir(application.run_directory().join("calls")).unwrap();
    let sockets: Vec<_> = sockets.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    let mut dice = StdRng::seed_from_u64(3);
    for n in 1..=50 {
        let mut garbage = vec![0; dice.random_range(1..4_096)];
        dice.fill(&mut garbage[..]);
        let mut socket = UnixStream::connect(&sockets[0]).unwrap();
        socket.write_all(&garbage).ok();
        outside.pain(n).await;
    }
    let given = (1..=50).map(|n| (n, format!("given {n}")));
    let given: Vec<(u32, String)> = given.collect();
    let given: Vec<(u32, &str)> = given.iter().map(|(n, text)| (*n, text.as_str())).collect();
    outside.answered(&given, &application).await;
    let pump = application.element("pump", is_running).await;
    assert_eq!(pump.restarts, 0);
    application.stop().await;
}

/// `KILLS=200` for the long form.
async fn survive_kills(topology: &str, seed: u64) {
    let kills = std::env::var("KILLS").map_or(20, |kills| kills.parse().unwrap());
    let application = Application::start(PROGRAM, topology).await;
    let outside = Arc::new(Outside::connect(&application.broker).await);
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let asking = Arc::clone(&outside);
    let load = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        for n in 1.. {
            ticks.tick().await;
            asking.pain(n).await;
            if stopped.try_recv().is_ok() {
                return n;
            }
        }
        unreachable!("numbers do not run out")
    });
    let mut dice = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(dice.random_range(5..400))).await;
        let victims: &[&str] =
            [&["nurse"][..], &["pump"], &["nurse", "pump"]][dice.random_range(0..3)];
        let mut pids = Vec::new();
        for victim in victims {
            let element = application.element(victim, |e| e.pid.is_some()).await;
            pids.extend(element.pid);
        }
        for pid in pids {
            kill(pid).await;
        }
    }
    let took = began.elapsed();
    stop.send(()).unwrap();
    let last = load.await.unwrap();
    let all: Vec<u32> = (1..=last).collect();
    let answers = outside.answers(last, &application).await;
    let expected: Vec<_> = all.iter().map(|n| (*n, format!("given {n}"))).collect();
    assert_eq!(answers, expected, "{}", application.logs());
    let given = outside.given(last, &application).await;
    assert_eq!(given, all, "{}", application.logs());
    eprintln!("{kills} kills in {took:?}: {last} calls, each carried out once and answered once");
    application.stop().await;
}

fn topology(pump_server: &str, reply_within: &str, restarts: u32, store: &str) -> String {
    format!(
        r#"
[application]
name = "clinic"
[servers.pc]
storage = "volatile"
[servers.rpi]
storage = "volatile"
[appliances.patient]
api = "mqtt"
role = "sensor"
functions = ["pain"]
topic = "test/pain"
identified_by = "n"
[elements.nurse]
kind = "Nurse"
server = "pc"
inputs = {{ "test/tell" = "Tell" }}
outputs = {{ answers = {{ topic = "test/answers" }} }}
checkpoint = {{ every = 40, interval = "1s" }}
restart = {{ max = 10000, backoff = "1ms..5ms" }}
[elements.pump]
kind = "Pump"
server = "{pump_server}"
placement = {{ pinned = true }}
inputs = {{ "test/tell" = "Tell" }}
outputs = {{ given = {{ topic = "test/given" }} }}
checkpoint = {{ every = 40, interval = "1s" }}
restart = {{ max = {restarts}, backoff = "1ms..5ms" }}
[bindings.pain]
from = "nurse"
to = "patient"
receive = [ {{ input = "Pain" }} ]
[bindings.doses]
from = "nurse"
to = "pump"
model = "call"
reply_within = "{reply_within}"
send = [ {{ output = "doses", input = "Dose", reply = "Dosed" }} ]
[store]
{store}
[broker]
kind = "embedded"
"#
    )
}
