//! Whichever stable store the topology chose, as one type.

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use serde_bytes::ByteBuf;

use super::embedded::Embedded;
use super::redis::RedisStore;
use super::served::Served;
use super::{Delta, Fence, Nonce, Saved, StableStore, StoreError, Summary};

/// One of the stable stores.
#[derive(Clone)]
pub enum AnyStore {
    /// A Redis server.
    Redis(RedisStore),
    /// Files of this process.
    Embedded(Embedded),
    /// Files of another process.
    Served(Served),
}

impl std::fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Redis(_) => "AnyStore::Redis",
            Self::Embedded(_) => "AnyStore::Embedded",
            Self::Served(_) => "AnyStore::Served",
        })
    }
}

/// A future that is one of three, for the writes that start when they are called.
enum OneOf<A, B, C> {
    Redis(A),
    Embedded(B),
    Served(C),
}

impl<T, A, B, C> OneOf<A, B, C>
where
    A: Future<Output = T>,
    B: Future<Output = T>,
    C: Future<Output = T>,
{
    async fn finish(self) -> T {
        match self {
            Self::Redis(running) => running.await,
            Self::Embedded(running) => running.await,
            Self::Served(running) => running.await,
        }
    }
}

impl StableStore for AnyStore {
    async fn claim(
        &self,
        element: &EntityId,
        nonce: Nonce,
        floor: u64,
    ) -> Result<(Fence, Saved), StoreError> {
        match self {
            Self::Redis(store) => store.claim(element, nonce, floor).await,
            Self::Embedded(store) => store.claim(element, nonce, floor).await,
            Self::Served(store) => store.claim(element, nonce, floor).await,
        }
    }

    fn append(
        &self,
        fence: &Fence,
        expected_head: u64,
        last: u64,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<WallClock, StoreError>> + 'static {
        match self {
            Self::Redis(store) => OneOf::Redis(store.append(fence, expected_head, last, bytes)),
            Self::Embedded(store) => {
                OneOf::Embedded(store.append(fence, expected_head, last, bytes))
            }
            Self::Served(store) => OneOf::Served(store.append(fence, expected_head, last, bytes)),
        }
        .finish()
    }

    fn checkpoint(
        &self,
        fence: &Fence,
        delta: Delta,
    ) -> impl Future<Output = Result<(), StoreError>> + 'static {
        match self {
            Self::Redis(store) => OneOf::Redis(store.checkpoint(fence, delta)),
            Self::Embedded(store) => OneOf::Embedded(store.checkpoint(fence, delta)),
            Self::Served(store) => OneOf::Served(store.checkpoint(fence, delta)),
        }
        .finish()
    }

    async fn load(&self, fence: &Fence) -> Result<Saved, StoreError> {
        match self {
            Self::Redis(store) => store.load(fence).await,
            Self::Embedded(store) => store.load(fence).await,
            Self::Served(store) => store.load(fence).await,
        }
    }

    async fn prove(&self, fence: &Fence) -> Result<WallClock, StoreError> {
        match self {
            Self::Redis(store) => store.prove(fence).await,
            Self::Embedded(store) => store.prove(fence).await,
            Self::Served(store) => store.prove(fence).await,
        }
    }

    async fn peek(&self, element: &EntityId) -> Result<Option<Saved>, StoreError> {
        match self {
            Self::Redis(store) => store.peek(element).await,
            Self::Embedded(store) => store.peek(element).await,
            Self::Served(store) => store.peek(element).await,
        }
    }

    async fn summary(&self, element: &EntityId) -> Result<Option<Summary>, StoreError> {
        match self {
            Self::Redis(store) => store.summary(element).await,
            Self::Embedded(store) => store.summary(element).await,
            Self::Served(store) => store.summary(element).await,
        }
    }

    async fn bury(&self, fence: &Fence, letter: Vec<u8>) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.bury(fence, letter).await,
            Self::Embedded(store) => store.bury(fence, letter).await,
            Self::Served(store) => store.bury(fence, letter).await,
        }
    }

    async fn dead_letters(&self, element: &EntityId) -> Result<Vec<ByteBuf>, StoreError> {
        match self {
            Self::Redis(store) => store.dead_letters(element).await,
            Self::Embedded(store) => store.dead_letters(element).await,
            Self::Served(store) => store.dead_letters(element).await,
        }
    }
}
