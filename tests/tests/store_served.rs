//! The embedded store keeps every promise of the shared suite also when another process serves it,
//! and a connection that ends costs nothing that was acknowledged.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its files has failed"
)]

use std::path::Path;

use lamplighter_policies::ids::EntityId;
use lamplighter_runtime::store::embedded::{Embedded, Options};
use lamplighter_runtime::store::served::{Address, Listener, Served, Server, Token, serve};
use lamplighter_runtime::store::{Nonce, StableStore, StoreError};
use lamplighter_runtime::transport::tls::{Authority, Identity, Role, Security};
use lamplighter_tests::store_suite::Harness;

mod over_tcp {
    use super::{Address, OverSocket};

    lamplighter_tests::stable_store_suite!(OverSocket::new(|_| {
        Address::Tcp(([127, 0, 0, 1], 0).into())
    }));
}

mod over_tls {
    use super::OverSocket;

    lamplighter_tests::stable_store_suite!(OverSocket::over_tls());
}

mod over_unix {
    use super::{Address, OverSocket};

    lamplighter_tests::stable_store_suite!(OverSocket::new(|directory| {
        Address::Unix(directory.join("socket"))
    }));
}

#[tokio::test]
async fn a_stranger_is_refused() {
    let harness = OverSocket::new(|directory| Address::Unix(directory.join("socket"))).await;
    let security = Security::LoopbackOnly;
    let refused = Served::connect(harness.address.clone(), Token::random(), security)
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        StoreError::Refused {
            attempted: format!("connecting to the store at {}", harness.address),
            reason: "it does not know the token".into(),
            cure: "start this process through the one that serves the store".into(),
        }
    );
}

#[tokio::test]
async fn a_store_is_not_served_to_other_machines() {
    let everywhere = Address::Tcp(([0, 0, 0, 0], 0).into());
    let refused = Listener::bind(&everywhere, &Security::LoopbackOnly).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_client_comes_back_by_itself_and_sends_again_what_was_unanswered() {
    comes_back(OverSocket::new(|_| Address::Tcp(([127, 0, 0, 1], 0).into())).await).await;
}

#[tokio::test]
async fn between_machines_a_client_comes_back_just_so() {
    comes_back(OverSocket::over_tls().await).await;
}

#[tokio::test]
async fn between_machines_a_store_is_used_by_its_application_only() {
    let harness = OverSocket::over_tls().await;
    let connect = |security: Security| {
        let (address, token) = (harness.address.clone(), harness.token.clone());
        async move { Served::connect(address, token, security).await }
    };
    let other = tempfile::tempdir().unwrap();
    let manager = Security::MutualTls(identity(other.path(), Role::Manager));
    let refused = connect(manager).await.unwrap_err().to_string();
    assert!(
        refused.contains("is not of this application's authority"),
        "{refused}"
    );
    let token = Token::random();
    let (address, own) = (harness.address.clone(), harness.security.1.clone());
    let refused = Served::connect(address, token, own).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    connect(harness.security.1.clone()).await.unwrap();
}

async fn comes_back(mut harness: OverSocket) {
    let store = harness.connect().await;
    let element = EntityId::new("lamp").unwrap();
    let (fence, _) = retried(|| store.claim(&element, Nonce(1), 0)).await;
    for round in 0..5_u64 {
        let writes: Vec<_> = (0..20)
            .map(|n| store.append(&fence, round * 20 + n, round * 20 + n + 1, vec![7; 64]))
            .collect();
        harness.restart().await;
        for (n, write) in (0..20).zip(writes) {
            let head = round * 20 + n;
            // The same arguments again, until there is an answer: done, whether now or before.
            if let Err(error) = write.await {
                assert!(is_passing(&error), "{error}");
                retried(|| store.append(&fence, head, head + 1, vec![7; 64])).await;
            }
        }
    }
    let saved = retried(|| store.load(&fence)).await;
    let kept: Vec<_> = saved
        .log
        .iter()
        .map(|batch| (batch.first, batch.last))
        .collect();
    assert_eq!(
        kept,
        (1..=100).map(|index| (index, index)).collect::<Vec<_>>()
    );
}

/// Asks until the answer is not passing.
async fn retried<T, F: Future<Output = Result<T, StoreError>>>(ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(is_passing(&error), "{error}"),
        }
    }
}

/// Whether asking again will help. A gap is passing here: the batch before it is sent again first.
fn is_passing(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable { .. } | StoreError::Gap { .. }
    )
}

struct OverSocket {
    directory: tempfile::TempDir,
    store: Embedded,
    address: Address,
    token: Token,
    server: Option<Server>,
    /// How the serving side is protected, and how the asking side.
    security: (Security, Security),
}

impl OverSocket {
    async fn new(address: impl FnOnce(&Path) -> Address) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = address(directory.path());
        let plain = (Security::LoopbackOnly, Security::LoopbackOnly);
        Self::with(directory, address, plain).await
    }

    /// As if the store were on another machine.
    async fn over_tls() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let of = |role| Security::MutualTls(identity(directory.path(), role));
        let agent = Role::Agent(EntityId::new("rpi1").unwrap());
        let security = (of(Role::Manager), of(agent));
        let address = Address::Tcp(([127, 0, 0, 1], 0).into());
        Self::with(directory, address, security).await
    }

    async fn with(
        directory: tempfile::TempDir,
        address: Address,
        security: (Security, Security),
    ) -> Self {
        let store = open(directory.path());
        let token = Token::random();
        let listener = Listener::bind(&address, &security.0).await.unwrap();
        let address = listener.address().unwrap();
        let server = Some(serve(store.clone(), listener, token.clone()));
        Self {
            directory,
            store,
            address,
            token,
            server,
            security,
        }
    }
}

impl Harness for OverSocket {
    type Store = Served;

    async fn connect(&mut self) -> Served {
        let (address, token) = (self.address.clone(), self.token.clone());
        Served::connect(address, token, self.security.1.clone())
            .await
            .unwrap()
    }

    async fn restart(&mut self) {
        self.server = None;
        self.store.close().await;
        self.store = open(self.directory.path());
        let listener = loop {
            // The old socket closes when its task has been dropped, which is not at once.
            match Listener::bind(&self.address, &self.security.0).await {
                Ok(listener) => break listener,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
            }
            tokio::task::yield_now().await;
        };
        self.server = Some(serve(self.store.clone(), listener, self.token.clone()));
    }
}

/// What the authority of `home` has made for a role.
fn identity(directory: &Path, role: Role) -> Identity {
    let home = EntityId::new("home").unwrap();
    let authority = Authority::keep(&directory.join("authority"), &home).unwrap();
    let place = directory.join(role.kind().to_string());
    Identity::keep(&place, &authority, &role, 1).unwrap();
    Identity::open(&place).unwrap()
}

fn open(directory: &Path) -> Embedded {
    let options = Options {
        segment_bytes: 64 << 10,
        ..Options::default()
    };
    Embedded::open(&directory.join("store"), options).unwrap()
}
