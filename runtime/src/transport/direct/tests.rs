use lamplighter_policies::physical_world::{Causes, Position};
use lamplighter_policies::protocol::messages::{Callee, DirectAddress, PROTOCOL_VERSION};
use lamplighter_policies::time::WallClock;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::super::control::Token;
use super::super::frame::Frames;
use super::super::tls::{Authority, Identity, Role, Security};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn caller_and_callee_reach_each_other_over_a_private_socket_and_speak_both_ways() {
    let mut both = Both::start().await;
    let path = both.address().unix.clone().unwrap();
    let mode = std::fs::metadata(&path).unwrap();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    both.dial(both.callee(4));
    let links = || vec![id("doses"), id("doses.reply")];
    assert_eq!(both.at_caller.next().await, Heard::Reached(links()));
    assert_eq!(both.at_callee.next().await, Heard::Reached(links()));
    both.caller.send(&id("pump"), &id("doses"), event(1));
    assert_eq!(
        both.at_callee.next().await,
        Heard::Said(id("doses"), event(1))
    );
    both.callee.send(&id("nurse"), &id("doses.reply"), event(2));
    let said = Heard::Said(id("doses.reply"), event(2));
    assert_eq!(both.at_caller.next().await, said);
}

#[tokio::test]
async fn over_tcp_it_is_the_same() {
    over_tcp(Both::start().await).await;
}

#[tokio::test]
async fn between_machines_it_is_the_same() {
    over_tcp(Both::protected().await).await;
}

#[tokio::test]
async fn between_machines_nobody_gets_in_who_is_no_agent_of_the_application() {
    let both = Both::protected().await;
    let tcp: std::net::SocketAddr = both.address().tcp.as_ref().unwrap().parse().unwrap();
    let certified = |role| Security::MutualTls(identity(&both.directory, role));
    let manager = certified(Role::Manager);
    let refused = manager.connect(tcp, PEERS).await.unwrap();
    let mut hear = refused.stream;
    let told = hear.read_u8().await.unwrap_err().to_string();
    assert!(told.contains("for another role"), "{told}");
    // One that is an agent's still has to say what an element would.
    let agent = certified(Role::Agent(id("rpi2")));
    let stream = agent.connect(tcp, PEERS).await.unwrap().stream;
    let mut frames: Frames<_, Direct, Direct> = Frames::new(stream, DIRECT_FRAME_BYTES_MAX);
    let stranger = hello(|hello| hello.token = "guess".into());
    frames.send(&stranger).await.unwrap();
    let answer = frames.next().await.unwrap();
    assert!(matches!(answer, Some(Direct::Refused { .. })), "{answer:?}");
    // Without TLS nothing is understood.
    let mut plain = TcpStream::connect(tcp).await.unwrap();
    plain.write_all(&[0, 0, 0, 2, 9, 9]).await.unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).await.unwrap();
    assert_eq!(said.first(), Some(&21), "it is an alert: {said:?}");
}

async fn over_tcp(mut both: Both) {
    let mut callee = both.callee(4);
    callee.address.unix = None;
    both.dial(callee);
    both.at_caller.next().await;
    both.caller.send(&id("pump"), &id("doses"), event(1));
    both.at_callee.next().await;
    assert_eq!(
        both.at_callee.next().await,
        Heard::Said(id("doses"), event(1))
    );
}

#[tokio::test]
async fn a_callee_that_is_back_elsewhere_is_found_there() {
    let mut both = Both::start().await;
    both.dial(both.callee(4));
    both.at_caller.next().await;
    both.at_callee.next().await;
    both.listen(5).await;
    let callee = both.callee(5);
    both.found.send_replace(Some(callee));
    assert!(matches!(both.at_caller.next().await, Heard::Reached(_)));
    assert!(matches!(both.at_callee.next().await, Heard::Reached(_)));
    both.caller.send(&id("pump"), &id("doses"), event(1));
    assert_eq!(
        both.at_callee.next().await,
        Heard::Said(id("doses"), event(1))
    );
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let mut both = Both::start().await;
    both.dial(both.callee(4));
    both.at_caller.next().await;
    both.at_callee.next().await;
    both.listen(4).await;
    assert!(matches!(both.at_caller.next().await, Heard::Reached(_)));
}

#[tokio::test]
async fn whoever_is_not_a_caller_of_this_application_is_refused_with_the_reason() {
    let both = Both::start().await;
    type Change = fn(&mut Hello);
    let cases: [(Change, &str); 5] = [
        (|hello| hello.version += 1, "run the same build everywhere"),
        (
            |hello| hello.token = "guess".into(),
            "the token is not that",
        ),
        (|hello| hello.to = id("door"), "this is pump of home"),
        (
            |hello| hello.application = id("other"),
            "this is pump of home",
        ),
        (
            |hello| hello.from = id("thief"),
            "does not let thief call pump",
        ),
    ];
    for (change, expected) in cases {
        let mut frames = greeted(&both, hello(change)).await;
        let answer = frames.next().await.unwrap();
        let Some(Direct::Refused { reason }) = answer else {
            panic!("{answer:?}");
        };
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(frames.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn garbage_on_a_socket_does_no_harm() {
    let mut both = Both::start().await;
    both.dial(both.callee(4));
    both.at_caller.next().await;
    both.at_callee.next().await;
    let address = both.address().clone();
    for garbage in [
        &[0xff; 64][..],
        &[0, 0, 0, 2, 9, 9],
        &[0, 0, 1, 0],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut unix = UnixStream::connect(address.unix.as_ref().unwrap())
            .await
            .unwrap();
        unix.write_all(garbage).await.unwrap();
        let mut tcp = TcpStream::connect(address.tcp.as_ref().unwrap())
            .await
            .unwrap();
        tcp.write_all(garbage).await.unwrap();
    }
    // A caller that was let in and then speaks of what is not its own is cut off.
    let mut frames = greeted(&both, hello(|hello| hello.from = id("doctor"))).await;
    frames.next().await.unwrap();
    both.at_callee.next().await;
    let link = id("doses");
    let message = event(9);
    frames.send(&Direct::Link { link, message }).await.unwrap();
    assert_eq!(frames.next().await.unwrap(), None);
    both.caller.send(&id("pump"), &id("doses"), event(1));
    assert_eq!(
        both.at_callee.next().await,
        Heard::Said(id("doses"), event(1))
    );
}

#[tokio::test]
async fn a_former_life_of_a_caller_does_not_take_the_place_of_the_present_one() {
    let both = Both::start().await;
    let mut present = greeted(&both, hello(|hello| hello.epoch = 7)).await;
    assert!(present.next().await.unwrap().is_some());
    let mut former = greeted(&both, hello(|hello| hello.epoch = 6)).await;
    assert!(former.next().await.unwrap().is_some());
    assert_eq!(former.next().await.unwrap(), None);
    both.callee.send(&id("nurse"), &id("doses.reply"), event(2));
    let link = id("doses.reply");
    let message = event(2);
    assert_eq!(
        present.next().await.unwrap(),
        Some(Direct::Link { link, message })
    );
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused() {
    let mut place = place(4, None);
    place.tcp = "0.0.0.0".parse().unwrap();
    let (told, _) = ear();
    let refused = Listener::start(place, &Peers::default(), &told).await;
    assert!(
        matches!(refused, Err(ListenError::Exposed(_))),
        "{refused:?}"
    );
}

#[test]
fn what_is_sent_is_cut_into_frames_that_fit() {
    let events = |count: u64, bytes: usize| {
        let events = (1..=count).map(|index| envelope(index, vec![0; bytes]));
        Link::Events(events.collect())
    };
    let counts = |link: Link| -> Vec<usize> {
        let count = |link: &Link| match link {
            Link::Events(events) => events.len(),
            Link::Acknowledged(_) | Link::Resume(_) => 0,
        };
        frames(link).iter().map(count).collect()
    };
    assert_eq!(counts(events(130, 1)), [64, 64, 2]);
    assert_eq!(counts(events(3, FRAME_PAYLOAD_BYTES)), [1, 1, 1]);
    assert_eq!(counts(events(3, FRAME_PAYLOAD_BYTES / 2)), [2, 1]);
    assert_eq!(counts(Link::Resume(Position::default())), [0]);
}

/// A caller and a callee, and what each is told.
struct Both {
    directory: TempDir,
    security: Security,
    listener: Option<Listener>,
    callee: Peers,
    caller: Peers,
    at_callee: Ear,
    at_caller: Ear,
    to_callee: Told,
    to_caller: Told,
    found: watch::Sender<Option<Callee>>,
}

struct Ear(mpsc::UnboundedReceiver<Heard>);

impl Ear {
    async fn next(&mut self) -> Heard {
        let heard = timeout(PATIENCE, self.0.recv()).await;
        heard.expect("it is told in time").unwrap()
    }
}

fn ear() -> (Told, Ear) {
    let (tell, told) = mpsc::unbounded_channel();
    let tell = move |heard| drop(tell.send(heard));
    (Arc::new(tell), Ear(told))
}

impl Both {
    async fn start() -> Self {
        Self::with(tempfile::tempdir().unwrap(), Security::LoopbackOnly).await
    }

    /// As if the two were on two machines.
    async fn protected() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let identity = identity(&directory, Role::Agent(id("rpi1")));
        Self::with(directory, Security::MutualTls(identity)).await
    }

    async fn with(directory: TempDir, security: Security) -> Self {
        let (callee, caller) = (Peers::default(), Peers::default());
        let ((to_callee, at_callee), (to_caller, at_caller)) = (ear(), ear());
        let place = Place {
            security: security.clone(),
            ..place(4, Some(&directory))
        };
        let listener = Listener::start(place, &callee, &to_callee).await.unwrap();
        Self {
            directory,
            security,
            listener: Some(listener),
            callee,
            caller,
            at_callee,
            at_caller,
            to_callee,
            to_caller,
            found: watch::channel(None).0,
        }
    }

    /// The callee starts again.
    async fn listen(&mut self, epoch: u64) {
        let place = place(epoch, Some(&self.directory));
        self.callee = Peers::default();
        self.listener = None;
        let listener = Listener::start(place, &self.callee, &self.to_callee).await;
        self.listener = Some(listener.unwrap());
    }

    fn address(&self) -> &DirectAddress {
        self.listener.as_ref().unwrap().address()
    }

    fn callee(&self, epoch: u64) -> Callee {
        Callee {
            element: id("pump"),
            epoch,
            address: self.address().clone(),
        }
    }

    fn dial(&self, callee: Callee) {
        self.found.send_replace(Some(callee));
        let dialer = Dialer {
            application: id("home"),
            from: id("nurse"),
            epoch: 2,
            to: id("pump"),
            token: Token::from_text(TOKEN),
            links: [id("doses"), id("doses.reply")].into(),
            directory: Some(self.directory.path().join("calls")),
            security: self.security.clone(),
        };
        let (found, peers) = (self.found.subscribe(), self.caller.clone());
        tokio::spawn(dial(dialer, found, peers, self.to_caller.clone()));
    }
}

/// What the authority of `home` has made for a role.
fn identity(directory: &TempDir, role: Role) -> Identity {
    let authority = Authority::keep(&directory.path().join("authority"), &id("home")).unwrap();
    let place = directory.path().join(role.kind().to_string());
    Identity::keep(&place, &authority, &role, 1).unwrap();
    Identity::open(&place).unwrap()
}

const TOKEN: &str = "secret";

fn place(epoch: u64, directory: Option<&TempDir>) -> Place {
    let links = |names: [&str; 2]| names.iter().map(|name| id(name)).collect();
    Place {
        application: id("home"),
        element: id("pump"),
        epoch,
        token: Token::from_text(TOKEN),
        directory: directory.map(|directory| directory.path().join("calls")),
        tcp: Place::LOOPBACK,
        security: Security::LoopbackOnly,
        callers: [
            (id("nurse"), links(["doses", "doses.reply"])),
            (id("doctor"), links(["orders", "orders.reply"])),
        ]
        .into(),
    }
}

struct Hello {
    version: u32,
    application: EntityId,
    from: EntityId,
    epoch: u64,
    to: EntityId,
    token: String,
}

fn hello(change: impl FnOnce(&mut Hello)) -> Direct {
    let mut hello = Hello {
        version: PROTOCOL_VERSION,
        application: id("home"),
        from: id("nurse"),
        epoch: 3,
        to: id("pump"),
        token: TOKEN.to_owned(),
    };
    change(&mut hello);
    let Hello {
        version,
        application,
        from,
        epoch,
        to,
        token,
    } = hello;
    Direct::Hello {
        version,
        application,
        from,
        epoch,
        to,
        token,
    }
}

async fn greeted(both: &Both, hello: Direct) -> Frames<UnixStream, Direct, Direct> {
    let DirectAddress { unix, .. } = both.address();
    let stream = UnixStream::connect(unix.as_ref().unwrap()).await.unwrap();
    let mut frames = Frames::new(stream, DIRECT_FRAME_BYTES_MAX);
    frames.send(&hello).await.unwrap();
    frames
}

fn event(index: u64) -> Link {
    Link::Events(vec![envelope(index, vec![7])])
}

fn envelope(index: u64, payload: Vec<u8>) -> Envelope {
    Envelope {
        position: Position::new(1, index, 0),
        after: Position::default(),
        occurred_at: WallClock(0),
        expires_at: None,
        causes: Causes::default(),
        payload,
    }
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}
