//! A Redis server of one test, and what a person could type into it.

#![expect(clippy::unwrap_used, reason = "these are parts of tests")]

use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::managed::{Fsync, ManagedRedis, ManagedRedisSettings};
use lamplighter_runtime::store::redis::{RedisSettings, RedisStore};
use lamplighter_runtime::store::{Fence, StableStore, StoreError};
use tempfile::TempDir;

/// A durable server in a directory of its own; both are gone when it is dropped.
pub struct RedisServer {
    /// The process, unless it is stopped at present.
    pub redis: Option<ManagedRedis>,
    /// How it is started; its port is fixed after the first start.
    pub settings: ManagedRedisSettings,
    /// Its data.
    pub directory: TempDir,
}

impl RedisServer {
    /// Starts a server that writes to disk before each reply.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with settings of redis.conf on top.
    pub async fn start_with(more: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = ManagedRedisSettings::new(directory.path());
        settings.fsync = Fsync::Always;
        settings.more = more
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let redis = ManagedRedis::start(&settings).await.unwrap();
        settings.port = Some(redis.port());
        Self {
            redis: Some(redis),
            settings,
            directory,
        }
    }

    /// Its port, also while it is stopped.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.settings.port.unwrap()
    }

    /// Settings of a store on it, with much patience.
    #[must_use]
    pub fn store_settings(&self) -> RedisSettings {
        store_settings_at(self.port())
    }

    /// A store on it that soon takes silence for an answer.
    pub async fn impatient_store(&self) -> RedisStore {
        let mut settings = self.store_settings();
        settings.patience = Duration::from_millis(500);
        loop {
            // On a busy machine it may need a second try.
            if let Ok(store) = RedisStore::connect(settings.clone()).await {
                return store;
            }
        }
    }

    /// A store on it.
    pub async fn store(&self) -> RedisStore {
        RedisStore::connect(self.store_settings()).await.unwrap()
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// The server's.
    pub async fn command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let url = format!("redis://127.0.0.1:{}/", self.port());
        let client = redis::Client::open(url)?;
        let timing =
            redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&timing)
            .await?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut connection).await
    }

    /// Kills it as a crash would.
    pub async fn kill(&mut self) {
        self.redis.take().unwrap().kill().await.unwrap();
    }

    /// Stops it in order.
    pub async fn stop(&mut self) {
        self.redis.take().unwrap().stop().await.unwrap();
    }

    /// Starts it again on the same port and data.
    pub async fn start_again(&mut self) {
        self.redis = Some(ManagedRedis::start(&self.settings).await.unwrap());
    }
}

/// Settings of a store at a port of the loopback, with much patience.
#[must_use]
pub fn store_settings_at(port: u16) -> RedisSettings {
    let url = format!("redis://127.0.0.1:{port}/");
    let application = EntityId::new("suite").unwrap();
    let mut settings = RedisSettings::new(&url, application);
    // A busy machine must not look like a server that stands still.
    settings.patience = Duration::from_secs(20);
    settings
}

/// Appends one batch as its owner does it: again and again until the store has answered.
///
/// # Errors
/// Whatever does not pass by itself.
pub async fn append_surely(
    store: &impl StableStore,
    fence: &Fence,
    head: u64,
    last: u64,
    bytes: &[u8],
) -> Result<WallClock, StoreError> {
    loop {
        match store.append(fence, head, last, bytes.to_vec()).await {
            // The store's own patience bounds each try, and the test runner all of them.
            Err(StoreError::Unavailable { .. }) => tokio::task::yield_now().await,
            outcome => return outcome,
        }
    }
}
