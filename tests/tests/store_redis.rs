//! The Redis store keeps every promise of a stable store, on a real server.

use lamplighter_runtime::store::redis::RedisStore;
use lamplighter_tests::redis_server::RedisServer;
use lamplighter_tests::stable_store_suite;
use lamplighter_tests::store_suite::Harness;

stable_store_suite!(Server::start());

/// A server of one test.
struct Server(RedisServer);

impl Server {
    async fn start() -> Self {
        Self(RedisServer::start().await)
    }
}

impl Harness for Server {
    type Store = RedisStore;

    async fn connect(&mut self) -> RedisStore {
        self.0.store().await
    }

    async fn restart(&mut self) {
        self.0.stop().await;
        self.0.start_again().await;
    }
}
