//! What befalls cables: they are pulled, and they carry one way only.

use std::time::Duration;

use lamplighter_policies::protocol::control::Decider;
use lamplighter_tests::application::kill;
use tokio::time::sleep;

use super::site::HUB;
use super::switch::Way;
use super::ward::Ward;

/// Longer than any connection lives without a sign from its peer.
const LONG: Duration = Duration::from_secs(14);

pub(crate) async fn what_is_lost_in_one_direction_alone_is_neither_lost_nor_repeated() {
    let mut ward = Ward::start().await;
    for way in [Way::In, Way::Out] {
        ward.hurt();
        for server in ["rpi2", "rpi3"] {
            ward.site.switch.block(server, way);
            sleep(LONG).await;
            ward.site.switch.clear(server);
        }
        ward.is_exact().await;
    }
}

pub(crate) async fn without_the_manager_agents_go_on_alone() {
    let mut ward = Ward::start().await;
    ward.hurt();
    let pump = ward.site.element("pump", |_, e| e.pid.is_some()).await;
    ward.site.switch.unplug(HUB);
    kill(pump.status.pid.unwrap()).await;
    // The manager's side of the cable cannot tell, so it is looked at where the agent is.
    sleep(Duration::from_secs(3)).await;
    ward.site.switch.plug(HUB);
    let again = ward
        .site
        .element("pump", |_, e| e.restarts > 0 && e.pid.is_some())
        .await;
    assert_ne!(again.status.pid, pump.status.pid);
    let failure = again.status.last_failure.expect("it failed");
    assert_eq!(failure.decided_by, Some(Decider::Agent), "{failure:?}");
    ward.is_exact().await;
}
