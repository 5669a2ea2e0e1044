//! Events and calls between servers.

use lamplighter_tests::application::{Logs, kill};

use super::ward::{SERVERS, Ward};

pub(crate) async fn a_flow_over_three_servers_with_calls_between_them_stays_exact_when_hosts_are_killed()
 {
    let mut ward = Ward::start().await;
    ward.hurt();
    for round in 0..3 {
        for element in ["watch", "nurse", "pump"] {
            let running = ward.site.element(element, |_, e| e.pid.is_some()).await;
            kill(running.status.pid.unwrap()).await;
            let again = ward.site.element(element, |_, e| e.restarts > round).await;
            assert_eq!(again.server, running.server, "it is mended where it was");
        }
    }
    let calls = ward.is_exact().await;
    assert!(calls > 10, "{calls} calls are too few to show anything");
    calls_went_from_server_to_server(&ward);
}

/// The nurse and the pump speak with each other, over a connection between their servers.
fn calls_went_from_server_to_server(ward: &Ward) {
    let [_, nurse, pump] = SERVERS;
    let listed = ward.site.switch.on(nurse, "ss").args(["-Htn"]).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    let peer = ward.site.switch.address(pump).to_string();
    let connections = listed.lines().filter(|line| line.contains(&peer)).count();
    assert!(connections > 0, "{listed} {}", ward.site.logs());
}
