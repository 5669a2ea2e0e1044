//! The Redis store keeps every promise of a stable store, on a real server.

#![allow(
    clippy::unwrap_used,
    reason = "a test may; helpers of a test are not seen as one"
)]

use lamplighter_policies::ids::EntityId;
use lamplighter_runtime::managed::{Fsync, ManagedRedis, ManagedRedisSettings};
use lamplighter_runtime::store::redis::{RedisSettings, RedisStore};
use lamplighter_tests::stable_store_suite;
use lamplighter_tests::store_suite::Harness;
use tempfile::TempDir;

stable_store_suite!(Server::start());

/// A server of one test.
struct Server {
    _directory: TempDir,
    settings: ManagedRedisSettings,
    redis: Option<ManagedRedis>,
}

impl Server {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = ManagedRedisSettings::new(directory.path());
        settings.fsync = Fsync::Always;
        Self {
            redis: Some(ManagedRedis::start(&settings).await.unwrap()),
            settings,
            _directory: directory,
        }
    }
}

impl Harness for Server {
    type Store = RedisStore;

    async fn connect(&mut self) -> RedisStore {
        let url = self.redis.as_ref().unwrap().url();
        let application = EntityId::new("suite").unwrap();
        RedisStore::connect(RedisSettings::new(&url, application))
            .await
            .unwrap()
    }

    async fn restart(&mut self) {
        self.redis.take().unwrap().stop().await.unwrap();
        self.redis = Some(ManagedRedis::start(&self.settings).await.unwrap());
    }
}
