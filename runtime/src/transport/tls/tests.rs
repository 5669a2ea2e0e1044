use std::path::PathBuf;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Who a control plane believes, to have some.
const ADMITTED: &[Kind] = &[Kind::Agent, Kind::Operator];

#[tokio::test]
async fn both_ends_learn_who_the_other_is_and_what_is_sent_arrives_both_ways() {
    let home = Home::new("villa");
    let manager = home.identity("manager", Role::Manager, days(-1, 30));
    let agent = home.identity("rpi1", agent_of("rpi1"), days(-1, 30));
    let (near, far) = meet(&agent, &manager).await;
    let (near, far) = (near.unwrap(), far.unwrap());
    assert_eq!(near.peer, Some(manager.certified()));
    assert_eq!(far.peer, Some(agent.certified()));
    assert_eq!(
        agent.certified().name.to_string(),
        "lamplighter://villa/agent/rpi1"
    );
    let ((mut hear, mut say), (mut heard, mut said)) =
        (near.stream.into_halves(), far.stream.into_halves());
    say.write_all(b"ping").await.unwrap();
    say.shutdown().await.unwrap();
    let mut all = Vec::new();
    heard.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"ping");
    said.write_all(b"pong").await.unwrap();
    said.shutdown().await.unwrap();
    let mut all = Vec::new();
    hear.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"pong");
}

#[tokio::test]
async fn whoever_is_not_to_be_believed_is_refused_with_reason_and_cure_at_both_ends() {
    let home = Home::new("villa");
    let manager = home.identity("manager", Role::Manager, days(-1, 30));
    let cases = [
        (
            home.identity("ended", agent_of("rpi1"), days(-9, -1)),
            "its certificate ended on",
            "ended or does not hold yet",
        ),
        (
            home.identity("early", agent_of("rpi1"), days(2, 30)),
            "set the clock of this machine",
            "set the clock that is wrong",
        ),
        (
            home.identity("manager2", Role::Manager, days(-1, 30)),
            "it is lamplighter://villa/manager, and only the agent or operator of villa is spoken with",
            "for another role or application",
        ),
    ];
    for (shown, at_listener, at_caller) in cases {
        let (near, far) = meet(&shown, &manager).await;
        let refusal = far.unwrap_err().to_string();
        assert!(refusal.contains(at_listener), "{refusal}");
        // The caller learns of it by its first read.
        let (mut hear, _say) = near.unwrap().stream.into_halves();
        let told = Fault::of(&hear.read_u8().await.unwrap_err()).to_string();
        assert!(told.contains(at_caller), "{told}");
    }
}

#[tokio::test]
async fn those_of_another_authority_refuse_each_other() {
    // One is that of the same application, before its authority was made anew.
    let (home, other, before) = (Home::new("villa"), Home::new("other"), Home::new("villa"));
    let manager = home.identity("manager", Role::Manager, days(-1, 30));
    for foreign in [other, before] {
        let agent = foreign.identity("rpi1", agent_of("rpi1"), days(-1, 30));
        let (near, far) = meet(&agent, &manager).await;
        let (near, far) = (near.unwrap_err().to_string(), far.unwrap_err().to_string());
        assert!(
            near.contains("is not of this application's authority"),
            "{near}"
        );
        assert!(
            far.contains("is of another authority; copy the identity"),
            "{far}"
        );
    }
    // A caller that believes everybody is not let in either.
    let before = Home::new("villa");
    let agent = before.identity("rpi1", agent_of("rpi1"), days(-1, 30));
    let mixed = home.believing(&agent, &manager);
    let (near, far) = meet(&mixed, &manager).await;
    let refusal = far.unwrap_err().to_string();
    assert!(
        refusal.contains("is not of this application's authority"),
        "{refusal}"
    );
    let (mut hear, _say) = near.unwrap().stream.into_halves();
    let told = Fault::of(&hear.read_u8().await.unwrap_err());
    assert_eq!(told, Fault::OursForeign);
}

#[tokio::test]
async fn a_listener_that_is_not_to_be_believed_is_told_nothing() {
    let (home, other) = (Home::new("villa"), Home::new("other"));
    let agent = home.identity("rpi1", agent_of("rpi1"), days(-1, 30));
    let cases = [
        (
            home.identity("ended", Role::Manager, days(-9, -1)),
            "its certificate ended on",
        ),
        (
            home.identity("early", Role::Manager, days(2, 30)),
            "its certificate holds from",
        ),
        (
            other.identity("manager", Role::Manager, days(-1, 30)),
            "is not of this application's authority",
        ),
        // An agent that was broken into must not pass for the manager.
        (
            home.identity("rpi2", agent_of("rpi2"), days(-1, 30)),
            "it is lamplighter://villa/agent/rpi2, and only the manager of villa is spoken with",
        ),
    ];
    for (shown, expected) in cases {
        let (near, far) = meet(&agent, &shown).await;
        let refusal = near.unwrap_err().to_string();
        assert!(refusal.contains(expected), "{refusal}");
        assert!(far.is_err());
    }
}

#[tokio::test]
async fn a_peer_without_tls_is_recognised_at_either_end() {
    let home = Home::new("villa");
    let manager = home.identity("manager", Role::Manager, days(-1, 30));
    let (listener, address) = listening().await;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"\0\0\0\x05hello").await.unwrap();
    let (arrived, _) = listener.accept().await.unwrap();
    let door = Security::MutualTls(manager.clone()).door(ADMITTED);
    let refusal = door.admit(arrived).await.unwrap_err().to_string();
    assert!(refusal.contains("it does not speak TLS"), "{refusal}");

    let agent = home.identity("rpi1", agent_of("rpi1"), days(-1, 30));
    let security = Security::MutualTls(agent);
    let (refused, ()) = tokio::join!(security.connect(address, &[Kind::Manager]), async {
        let (mut arrived, _) = listener.accept().await.unwrap();
        arrived.write_all(b"220 mail.example\r\n").await.unwrap();
    });
    let refusal = refused.unwrap_err().to_string();
    assert!(refusal.contains("does not speak TLS"), "{refusal}");
}

#[tokio::test]
async fn without_a_certificate_nobody_gets_in() {
    let home = Home::new("villa");
    let manager = home.identity("manager", Role::Manager, days(-1, 30));
    let (listener, address) = listening().await;
    let papers = manager.papers();
    let config = ClientConfig::builder_with_details(papers.provider.clone(), Arc::new(OurClock))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(papers.verifier(&[Kind::Manager]))
        .with_no_client_auth();
    let stranger = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::IpAddress(address.ip().into());
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        connecting.await.unwrap().read_u8().await.unwrap_err()
    };
    let door = Security::MutualTls(manager.clone()).door(ADMITTED);
    let admitted = async {
        let (arrived, _) = listener.accept().await.unwrap();
        door.admit(arrived).await.unwrap_err()
    };
    let (told, refusal) = tokio::join!(stranger, admitted);
    assert!(
        refusal.to_string().contains("it showed no certificate"),
        "{refusal}"
    );
    assert!(told.to_string().contains("CertificateRequired"), "{told}");
}

#[tokio::test]
async fn off_loopback_nothing_is_done_without_an_identity() {
    let refused = Security::LoopbackOnly
        .connect(([192, 0, 2, 1], 7_000).into(), &[Kind::Manager])
        .await
        .unwrap_err();
    let address = [192, 0, 2, 1].into();
    assert_eq!(refused, SecurityError::Unprotected(Unprotected { address }));
    assert!(refused.to_string().contains("certificate SERVER --out"));
    assert_eq!(Security::LoopbackOnly.allows([127, 0, 0, 1].into()), Ok(()));
}

#[tokio::test]
async fn a_silent_peer_does_not_keep_the_door() {
    let home = Home::new("villa");
    let manager = home.identity("manager", Role::Manager, days(-1, 30));
    let (listener, address) = listening().await;
    let door = Security::MutualTls(manager).door(ADMITTED);
    let mut silent = Vec::new();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..HANDSHAKES_OF_ADDRESS_MAX {
        silent.push(TcpStream::connect(address).await.unwrap());
        let (arrived, _) = listener.accept().await.unwrap();
        let door = door.clone();
        waiting.spawn(async move { door.admit(arrived).await });
    }
    tokio::task::yield_now().await;
    let _one_more = TcpStream::connect(address).await.unwrap();
    let (arrived, _) = listener.accept().await.unwrap();
    let crowded = door.admit(arrived).await.unwrap_err();
    assert!(
        crowded.to_string().contains("too many handshakes"),
        "{crowded}"
    );
    while let Some(outcome) = waiting.join_next().await {
        let late = outcome.unwrap().unwrap_err();
        assert!(late.to_string().contains("in time"), "{late}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_used_from_the_next_connection_on() {
    let home = Home::new("villa");
    let manager = home.identity("manager", Role::Manager, days(-1, 30));
    let agent = home.identity("rpi1", agent_of("rpi1"), days(-9, -1));
    let (_, far) = meet(&agent, &manager).await;
    assert!(far.is_err());
    let directory = home.write("rpi1", agent_of("rpi1"), days(-1, 30));
    let (_, far) = meet(&agent, &manager).await;
    let renewed = Identity::open(&directory).unwrap().certified();
    assert_eq!(far.unwrap().peer, Some(renewed.clone()));
    // Half a file is no identity: the one before is used on.
    let file = directory.join(IDENTITY_FILE);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    let (_, far) = meet(&agent, &manager).await;
    assert_eq!(far.unwrap().peer, Some(renewed));
}

#[test]
fn an_identity_that_cannot_be_used_says_why() {
    use std::os::unix::fs::PermissionsExt;
    let (home, other) = (Home::new("villa"), Home::new("other"));
    let directory = home.write("rpi1", agent_of("rpi1"), days(-1, 30));
    let file = directory.join(IDENTITY_FILE);
    let whole = std::fs::read_to_string(&file).unwrap();
    let foreign = other.authority().issue(agent_of("rpi1"), days(-1, 30));
    let foreign = foreign.unwrap();
    let (certificate, rest) = whole.split_at(whole.find("-----END").unwrap() + 25);
    let (foreign_certificate, _) = foreign.split_at(foreign.find("-----END").unwrap() + 25);
    let (certificates, key) = whole.split_at(whole.find("-----BEGIN PRIVATE").unwrap());
    let (_, foreign_key) = foreign.split_at(foreign.find("-----BEGIN PRIVATE").unwrap());
    let cases = [
        (String::new(), "it has 0 certificates"),
        (format!("{certificate}\n{key}"), "it has 1 certificates"),
        (certificates.to_owned(), "no items found"),
        (format!("{certificates}{foreign_key}"), "keys"),
        (
            format!("{foreign_certificate}{rest}"),
            "is not of this application's authority",
        ),
        ("x".repeat(70_000), "it is 70000 bytes long"),
    ];
    for (text, expected) in cases {
        std::fs::write(&file, text).unwrap();
        let error = Identity::open(&directory).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} should say {expected}");
    }
    std::fs::write(&file, whole).unwrap();
    Identity::open(&directory).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = Identity::open(&directory).unwrap_err().to_string();
    assert!(exposed.contains("run: chmod 600"), "{exposed}");
}

#[test]
fn an_authority_is_kept_and_its_key_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("tls");
    let (home, other) = (id("villa"), id("other"));
    let absent = Authority::open(&place).unwrap_err().to_string();
    assert!(absent.contains("--listen off loopback"), "{absent}");
    let made = Authority::keep(&place, &home).unwrap();
    let kept = Authority::keep(&place, &home).unwrap();
    assert_eq!(made.certificate(), kept.certificate());
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place), 0o700);
    assert_eq!(mode(&place.join(AUTHORITY_KEY_FILE)), 0o600);
    let foreign = Authority::keep(&place, &other).unwrap_err().to_string();
    assert!(
        foreign.contains("authority of villa, not of other"),
        "{foreign}"
    );
    std::fs::write(place.join(AUTHORITY_KEY_FILE), "lost").unwrap();
    let damaged = Authority::open(&place).unwrap_err().to_string();
    assert!(damaged.contains("make all certificates again"), "{damaged}");
}

#[test]
fn the_managers_own_certificate_is_made_anew_when_a_third_of_it_is_left() {
    let home = Home::new("villa");
    let directory = home.directory.path().join("manager");
    let keep = || Identity::keep(&directory, &home.authority(), &Role::Manager, 90).unwrap();
    let shown = || Identity::open(&directory).unwrap().certified();
    let due = keep();
    let first = shown();
    assert_eq!(first.validity.renew_at(), due);
    assert_eq!((keep(), shown()), (due, first));
    let old = days(-70, 20);
    home.write("manager", Role::Manager, old);
    keep();
    assert!(shown().validity.until > old.until);
    // One of an authority before is of no use, however new.
    let other = Home::new("villa");
    let foreign = other
        .authority()
        .issue(Role::Manager, days(-1, 89))
        .unwrap();
    Identity::write(&directory, &foreign).unwrap();
    keep();
    let (manager, agent) = (
        Identity::open(&directory).unwrap(),
        home.identity("rpi1", agent_of("rpi1"), days(-1, 30)),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (near, _) = runtime.block_on(meet(&agent, &manager));
    assert_eq!(near.unwrap().peer, Some(manager.certified()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_get_in_or_keep_out_who_comes_after_them(
        garbage in proptest::collection::vec(any::<u8>(), 0..600),
        as_handshake in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let home = Home::shared();
            let manager = home.opened("manager");
            let (listener, address) = listening().await;
            let door = Security::MutualTls(manager).door(ADMITTED);
            let mut bytes = Vec::new();
            if as_handshake {
                // It looks like the first record of a handshake, and so is looked into.
                let length = u16::try_from(garbage.len() + 4).unwrap();
                bytes.extend([22, 3, 1]);
                bytes.extend(length.to_be_bytes());
                bytes.extend([1, 0]);
                bytes.extend((length - 4).to_be_bytes());
            }
            bytes.extend(garbage);
            let mut stranger = TcpStream::connect(address).await.unwrap();
            stranger.write_all(&bytes).await.unwrap();
            stranger.shutdown().await.unwrap();
            let (arrived, _) = listener.accept().await.unwrap();
            assert!(door.admit(arrived).await.is_err());
            let agent = Security::MutualTls(home.opened("rpi1"));
            let (near, far) = tokio::join!(agent.connect(address, &[Kind::Manager]), async {
                let (arrived, _) = listener.accept().await.unwrap();
                door.admit(arrived).await
            });
            assert!(near.is_ok() && far.is_ok());
        });
    }
}

/// A caller with `from` connects to a listener with `to`; what each end finds.
async fn meet(
    from: &Identity,
    to: &Identity,
) -> (
    Result<Secured, SecurityError>,
    Result<Secured, SecurityError>,
) {
    let (listener, address) = listening().await;
    let door = Security::MutualTls(to.clone()).door(ADMITTED);
    let from = Security::MutualTls(from.clone());
    tokio::join!(from.connect(address, &[Kind::Manager]), async {
        let (arrived, _) = listener.accept().await.unwrap();
        door.admit(arrived).await
    })
}

async fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An application with an authority, and a directory for what it makes.
struct Home {
    directory: TempDir,
    application: EntityId,
}

impl Home {
    fn new(application: &str) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            application: id(application),
        }
    }

    /// One with the identities of a manager and an agent, made once.
    fn shared() -> &'static Self {
        static HOME: std::sync::OnceLock<Home> = std::sync::OnceLock::new();
        HOME.get_or_init(|| {
            let home = Self::new("villa");
            home.write("manager", Role::Manager, days(-1, 30));
            home.write("rpi1", agent_of("rpi1"), days(-1, 30));
            home
        })
    }

    fn authority(&self) -> Authority {
        Authority::keep(&self.directory.path().join("authority"), &self.application).unwrap()
    }

    fn write(&self, place: &str, role: Role, validity: Validity) -> PathBuf {
        let directory = self.directory.path().join(place);
        let made = self.authority().issue(role, validity).unwrap();
        Identity::write(&directory, &made).unwrap();
        directory
    }

    /// An identity that believes also the authority of another.
    fn believing(&self, own: &Identity, other: &Identity) -> Identity {
        let read = |identity: &Identity| std::fs::read_to_string(identity.path()).unwrap();
        let (own, other) = (read(own), read(other));
        let certificates = &other[..other.find("-----BEGIN PRIVATE").unwrap()];
        let (_, authority) = certificates.split_at(certificates.rfind("-----BEGIN").unwrap());
        let directory = self.directory.path().join("believing");
        let key = own.find("-----BEGIN PRIVATE").unwrap();
        let (certificates, key) = own.split_at(key);
        Identity::write(&directory, &format!("{certificates}{authority}{key}")).unwrap();
        Identity::open(&directory).unwrap()
    }

    fn opened(&self, place: &str) -> Identity {
        Identity::open(&self.directory.path().join(place)).unwrap()
    }

    fn identity(&self, place: &str, role: Role, validity: Validity) -> Identity {
        Identity::open(&self.write(place, role, validity)).unwrap()
    }
}

/// From so many days after now until so many.
fn days(from: i32, until: i32) -> Validity {
    let now = clock::wall();
    let at = |days: i32| -> WallClock {
        let span = DAY * days.unsigned_abs();
        if days < 0 { now - span } else { now + span }
    };
    Validity {
        from: at(from),
        until: at(until),
    }
}

fn agent_of(server: &str) -> Role {
    Role::Agent(id(server))
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}
