//! Servers lost and hanging, as real processes: what is noticed of them, and how soon (paper, 4.2.2).
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::DetectionProfile;
use lamplighter_policies::protocol::control::{Answer, Ask, ElementState, Injection, ServerState};
use lamplighter_tests::application::PATIENCE;
use lamplighter_tests::fog::Fog;
use tokio::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fake-host");

/// How much later than its budget a failure may be seen where other tests keep the machine busy.
const BUSY: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_lost_server_is_failed_in_time_and_has_returned_when_its_agent_is_started_again() {
    let servers = ["rpi1", "rpi2", "rpi3", "rpi4"];
    let mut fog = Fog::start(PROGRAM, &topology("fast", &servers), &servers).await;
    let mut operator = fog.operator().await;
    fog.until(&mut operator, "rpi4", ServerState::Up, None)
        .await;
    let lost_at = Instant::now();
    fog.lose("rpi4").await;
    let status = fog
        .until(&mut operator, "rpi4", ServerState::Failed, None)
        .await;
    let took = lost_at.elapsed();
    eprintln!(
        "a lost server was failed after {took:?}: {}",
        status.cause.as_deref().unwrap()
    );
    assert!(took < DetectionProfile::Fast.budget() + BUSY, "{took:?}");
    for server in ["rpi1", "rpi2", "rpi3"] {
        fog.until(&mut operator, server, ServerState::Up, None)
            .await;
    }
    fog.start_agent("rpi4");
    fog.until(&mut operator, "rpi4", ServerState::Returned, None)
        .await;
}

#[tokio::test]
async fn a_server_that_hangs_for_a_moment_is_suspected_and_not_failed() {
    let servers = ["rpi1", "rpi2", "rpi3"];
    let fog = Fog::start(PROGRAM, &topology("wifi", &servers), &servers).await;
    let mut operator = fog.operator().await;
    fog.hang("rpi2", true);
    let failed = Some(ServerState::Failed);
    fog.until(&mut operator, "rpi2", ServerState::Suspected, failed)
        .await;
    fog.hang("rpi2", false);
    fog.until(&mut operator, "rpi2", ServerState::Up, failed)
        .await;
}

#[tokio::test]
async fn one_of_two_servers_that_hangs_is_failed_and_has_returned_as_soon_as_it_goes_on() {
    let servers = ["rpi1", "rpi2"];
    let fog = Fog::start(PROGRAM, &topology("fast", &servers), &servers).await;
    let mut operator = fog.operator().await;
    let hung_at = Instant::now();
    fog.hang("rpi2", true);
    fog.until(&mut operator, "rpi2", ServerState::Failed, None)
        .await;
    let took = hung_at.elapsed();
    eprintln!("one of two servers was failed after {took:?}");
    let window = DetectionProfile::Fast.heartbeats().confirmation.within;
    assert!(
        took < DetectionProfile::Fast.budget() + window + BUSY,
        "{took:?}"
    );
    assert_eq!(
        fog.until(&mut operator, "rpi1", ServerState::Up, None)
            .await
            .cause,
        None
    );
    fog.hang("rpi2", false);
    fog.until(&mut operator, "rpi2", ServerState::Returned, None)
        .await;
}

#[tokio::test]
async fn an_element_whose_process_is_stopped_is_killed_from_outside_and_runs_again() {
    let fog = Fog::start(PROGRAM, &topology("fast", &["rpi1"]), &["rpi1"]).await;
    let mut operator = fog.operator().await;
    let hang = Ask::Inject {
        element: EntityId::new("on-rpi1").unwrap(),
        injection: Injection::Hang,
    };
    assert_eq!(operator.ask(hang).await.unwrap(), Answer::Injected);
    let began = Instant::now();
    let element = loop {
        let (_, elements) = operator.status().await.unwrap();
        let status = elements.into_iter().next().unwrap().status;
        if status.restarts == 1 && status.state == ElementState::Running {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "{status:?} {}", fog.logs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let failure = element.last_failure.unwrap();
    eprintln!("{}, seen after {:?}", failure.cause, failure.phases.seen);
    assert!(
        failure.cause.starts_with("hung: its process was stopped"),
        "{failure:?}"
    );
    assert!(
        failure.phases.seen.unwrap() < Duration::from_secs(2) + BUSY,
        "{failure:?}"
    );
}

fn topology(profile: &str, servers: &[&str]) -> String {
    let server = |name: &&str| {
        format!(
            "[servers.{name}]\nstorage = \"volatile\"\n[elements.on-{name}]\nkind = \"Fake\"\nserver = \"{name}\"\n"
        )
    };
    let servers: String = servers.iter().map(server).collect();
    format!("[application]\nname = \"house\"\n[detection]\nprofile = \"{profile}\"\n{servers}")
}
