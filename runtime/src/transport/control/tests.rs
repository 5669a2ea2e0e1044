use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::control::FromAgent;
use tempfile::TempDir;
use tokio::task::LocalSet;

use super::*;
use crate::transport::tls::{Authority, Identity, Validity};

#[tokio::test]
async fn a_token_admits_on_loopback_and_another_does_not() {
    let own = Admission::Token(Token::from_text("secret"));
    let guess = Admission::Token(Token::from_text("guess"));
    let outcomes = outcomes(own.clone(), vec![(own, operator()), (guess, operator())]);
    assert_eq!(
        outcomes.await,
        [
            "welcome",
            "the token is not that of this application; use its token file"
        ]
    );
}

#[tokio::test]
async fn off_loopback_a_token_is_not_enough() {
    let token = Admission::Token(Token::from_text("secret"));
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = serve(listener, token.clone(), |_| async {}).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("nothing goes there without TLS"),
        "{refused}"
    );
    let address = SocketAddr::from(([192, 0, 2, 1], 7));
    let refused = connect(address, &token, Peer::Operator).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
}

#[tokio::test]
async fn who_a_peer_is_stands_in_its_certificate_and_not_in_what_it_says() {
    let home = Home::new();
    let rpi1 = || home.certified(Role::Agent(id("rpi1")));
    let tries = vec![
        (rpi1(), agent("rpi1")),
        (rpi1(), agent("rpi2")),
        (rpi1(), operator()),
        (home.certified(Role::Operator), operator()),
        (home.certified(Role::Operator), agent("rpi1")),
    ];
    let as_another = |name: &str, other: &str| {
        format!(
            "the certificate is that of lamplighter://villa/{name}, and so it cannot speak for \
             {other}; start it with the identity that was made for it"
        )
    };
    let welcome = || "welcome".to_owned();
    assert_eq!(
        outcomes(home.certified(Role::Manager), tries).await,
        [
            welcome(),
            as_another("agent/rpi1", "the agent of rpi2"),
            as_another("agent/rpi1", "an operator"),
            welcome(),
            as_another("operator", "the agent of rpi1"),
        ]
    );
}

#[tokio::test]
async fn ends_that_do_not_trust_each_other_say_so() {
    let (home, other) = (Home::new(), Home::new());
    let tries = vec![
        (other.certified(Role::Agent(id("rpi1"))), agent("rpi1")),
        (home.ended(Role::Agent(id("rpi1"))), agent("rpi1")),
        (Admission::Token(Token::from_text("secret")), agent("rpi1")),
    ];
    assert_eq!(
        outcomes(home.certified(Role::Manager), tries).await,
        [
            format!("distrust: {}", Fault::TheirsForeign),
            format!("distrust: {}", Fault::OursEnded),
            "away".to_owned(),
        ]
    );
}

#[tokio::test]
async fn messages_go_both_ways_and_the_last_one_arrives_before_the_end() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let manager = home.certified(Role::Manager);
    let serving = async move {
        serve(listener, manager, |mut admitted| async move {
            let heard = admitted.receiver.next().await.unwrap();
            assert!(matches!(heard, Some(ToManager::Agent(_))), "{heard:?}");
            let reason = "enough".to_owned();
            assert!(admitted.outbox.send(FromManager::Refused { reason }));
        })
        .await
    };
    let certified = home.certified(Role::Agent(id("rpi1")));
    let talking = async move {
        let mut link = connect(address, &certified, agent("rpi1")).await.unwrap();
        assert!(link.outbox.send(ToManager::Agent(FromAgent::Stopped)));
        let answer = link.receiver.next().await.unwrap();
        assert!(matches!(answer, Some(FromManager::Refused { .. })));
        assert_eq!(link.receiver.next().await.unwrap(), None);
    };
    LocalSet::new()
        .run_until(async {
            tokio::select! {
                ended = serving => panic!("{ended:?}"),
                () = talking => {}
            }
        })
        .await;
}

/// Connects one after the other to a manager; what becomes of each.
async fn outcomes(manager: Admission, tries: Vec<(Admission, Peer)>) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = serve(listener, manager, |admitted| async move {
        receive_all(admitted.receiver, drop).await;
    });
    let trying = async {
        let mut outcomes = Vec::new();
        for (admission, peer) in tries {
            outcomes.push(match connect(address, &admission, peer).await {
                Ok(_) => "welcome".to_owned(),
                Err(ConnectError::Refused { reason, .. }) => reason,
                Err(ConnectError::Untrusted { fault, .. }) => format!("distrust: {fault}"),
                Err(ConnectError::Away { .. }) => "away".to_owned(),
            });
        }
        outcomes
    };
    LocalSet::new()
        .run_until(async {
            tokio::select! {
                ended = serving => panic!("{ended:?}"),
                outcomes = trying => outcomes,
            }
        })
        .await
}

/// An application with an authority.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn certified(&self, role: Role) -> Admission {
        self.made(role, Validity::of_days(crate::clock::wall(), 1))
    }

    fn ended(&self, role: Role) -> Admission {
        let day = Duration::from_secs(86_400);
        let until = crate::clock::wall() - day;
        let from = until - day;
        self.made(role, Validity { from, until })
    }

    fn made(&self, role: Role, validity: Validity) -> Admission {
        let authority = Authority::keep(&self.0.path().join("authority"), &id("villa")).unwrap();
        let place = self.0.path().join(role.kind().to_string());
        let made = authority.issue(role, validity).unwrap();
        Identity::write(&place, &made).unwrap();
        Admission::Certificate(Identity::open(&place).unwrap())
    }
}

fn operator() -> Peer {
    Peer::Operator
}

fn agent(server: &str) -> Peer {
    Peer::Agent {
        server: id(server),
        pid: 7,
    }
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}
