use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lamplighter_policies::detection::{HeartbeatSecret, Judgement, Observation, Peer};
use lamplighter_policies::model::DetectionProfile;

use super::*;

/// Nothing waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn servers_hear_each_other_until_one_is_silent_and_again_when_it_is_back() {
    let (one, other) = (Node::start("one", 1), Node::start("other", 1));
    one.observes(&other);
    other.observes(&one);
    one.until(|counts| counts.received >= 5 && counts.sent >= 5);
    let address = other.heartbeats.address();
    drop(other);
    let suspected = one.next();
    assert!(
        matches!(suspected, Noticed::Suspected { .. }),
        "{suspected:?}"
    );
    let judge = |judgement| MonitorOrder::Judge(id("other"), judgement);
    one.heartbeats.order(judge(Judgement::Failed));
    // Its successor uses the same port, as one that is handed the socket does.
    let other = Node::on(UdpSocket::bind(address).unwrap(), "other", 2);
    other.observes(&one);
    assert_eq!(
        one.next(),
        Noticed::Heard {
            server: id("other")
        }
    );
}

#[test]
fn one_that_is_not_observed_answers_whoever_looks_and_one_that_is_gone_does_not() {
    let (one, other) = (Node::start("one", 1), Node::start("other", 1));
    one.observes_nobody();
    other.observes_nobody();
    one.heartbeats.order(MonitorOrder::Look(other.peer()));
    assert_eq!(
        one.next(),
        Noticed::Heard {
            server: id("other")
        }
    );
    let gone = other.peer();
    drop(other);
    one.heartbeats.order(MonitorOrder::Look(gone));
    let silent = one.next();
    assert!(matches!(silent, Noticed::Silent { .. }), "{silent:?}");
}

#[test]
fn garbage_is_counted_and_changes_nothing() {
    let (one, other) = (Node::start("one", 1), Node::start("other", 1));
    one.observes(&other);
    other.observes(&one);
    one.until(|counts| counts.received >= 2);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let forged = Codec::new(&id("home"), "guessed").encode(&Packet {
        from: Tag::of(&id("other")),
        to: Tag::of(&id("one")),
        content: Content::Heartbeat(lamplighter_policies::detection::Heartbeat {
            incarnation: u64::MAX,
            sequence: u64::MAX,
        }),
    });
    let garbage: [&[u8]; 5] = [b"", b"x", &[1; PACKET_BYTES], &[0xff; 1_400], &forged];
    for bytes in garbage {
        socket.send_to(bytes, one.heartbeats.address()).unwrap();
    }
    one.until(|counts| counts.rejected == 5);
    let received = one.heartbeats.counts().received;
    one.until(|counts| counts.received >= received + 3);
    assert_eq!(one.noticed.try_recv().ok(), None);
}

/// A server with its heartbeats.
struct Node {
    heartbeats: Heartbeats,
    noticed: Receiver<Noticed>,
    name: &'static str,
}

impl Node {
    fn start(name: &'static str, incarnation: u64) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self::on(socket, name, incarnation)
    }

    fn on(socket: UdpSocket, name: &'static str, incarnation: u64) -> Self {
        let plan = HeartbeatPlan {
            server: id(name),
            incarnation,
            socket,
        };
        let (notice, noticed) = channel();
        let heartbeats = Heartbeats::start(plan, move |it| notice.send(it).unwrap()).unwrap();
        Self {
            heartbeats,
            noticed,
            name,
        }
    }

    fn peer(&self) -> Peer {
        Peer {
            server: id(self.name),
            address: Some(self.heartbeats.address().to_string()),
            incarnation: None,
        }
    }

    fn observes(&self, other: &Self) {
        self.assigned(vec![other.peer()]);
    }

    fn observes_nobody(&self) {
        self.assigned(vec![]);
    }

    fn assigned(&self, peers: Vec<Peer>) {
        self.heartbeats.order(MonitorOrder::Observe(Observation {
            application: id("home"),
            secret: HeartbeatSecret::new("secret"),
            rules: DetectionProfile::Fast.heartbeats(),
            observed: peers.clone(),
            observers: peers,
        }));
    }

    fn next(&self) -> Noticed {
        self.noticed.recv_timeout(PATIENCE).unwrap()
    }

    fn until(&self, wanted: impl Fn(&HeartbeatCounts) -> bool) {
        let began = std::time::Instant::now();
        loop {
            let counts = self.heartbeats.counts();
            if wanted(&counts) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{counts:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}
