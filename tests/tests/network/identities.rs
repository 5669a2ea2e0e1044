//! Who is who between machines.

use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::control::Peer;
use lamplighter_runtime::clock;
use lamplighter_runtime::transport::control::{Admission, ConnectError, connect};
use lamplighter_runtime::transport::tls::{Authority, Fault, Identity, Role};
use lamplighter_tests::application::PATIENCE;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::site::{HUB, Site};
use super::ward::Ward;

pub(crate) async fn an_identity_is_replaced_while_its_agent_runs() {
    let mut ward = Ward::start().await;
    ward.hurt();
    let day = Duration::from_secs(86_400);
    assert!(certified_for(&ward.site, |left| left > day * 300).await);
    ward.site.certify("rpi3", 7);
    // Those that are connected stay so; at the next connection the new one is shown.
    ward.site.kill("manager");
    ward.site.start_manager();
    assert!(certified_for(&ward.site, |left| left < day * 7).await);
    ward.is_exact().await;
}

/// Waits until the agent of `rpi3` is connected by a certificate with so much time left.
async fn certified_for(site: &Site, wanted: impl Fn(Duration) -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let (servers, _) = site.operator().await.status().await.unwrap();
        let server = servers.iter().find(|found| found.server.as_str() == "rpi3");
        let until = server.and_then(|server| server.certificate_until);
        if until.is_some_and(|until| wanted(until.since(clock::wall()))) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

pub(crate) async fn who_does_not_belong_is_refused_on_every_port() {
    let mut ward = Ward::start().await;
    ward.hurt();
    let site = &ward.site;
    let rpi2 = EntityId::new("rpi2").unwrap();
    let as_agent = || Peer::Agent {
        server: rpi2.clone(),
        pid: 1,
    };
    let of = |directory: &str| Identity::open(&site.path(directory)).unwrap();
    let rpi1 = Admission::Certificate(of("rpi1/identity"));
    let refused = connect(site.manager(), &rpi1, as_agent()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("cannot speak for the agent of rpi2"),
        "{refused}"
    );

    // Another authority that calls itself that of this application.
    let application = EntityId::new("ward").unwrap();
    let authority = Authority::keep(&site.path("forged"), &application).unwrap();
    Identity::keep(
        &site.path("forged"),
        &authority,
        &Role::Agent(rpi2.clone()),
        1,
    )
    .unwrap();
    let forged = Admission::Certificate(of("forged"));
    let refused = connect(site.manager(), &forged, as_agent())
        .await
        .unwrap_err();
    let ConnectError::Untrusted { fault, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(fault, Fault::TheirsForeign);

    // What speaks no TLS, on each port that anybody can reach.
    let mut ports = Vec::new();
    for node in [HUB, "rpi1", "rpi2", "rpi3"] {
        ports.extend(site.listening(node));
    }
    assert!(
        ports.len() >= 3,
        "manager, store and pump listen: {ports:?}"
    );
    for address in ports {
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 600],
            &[22, 3, 1, 0, 9],
        ] {
            let mut stranger = TcpStream::connect(address).await.unwrap();
            stranger.write_all(garbage).await.unwrap();
        }
    }
    ward.is_exact().await;
}
