//! The stable store: what survives every failure in the model (paper, 4.1).
//!
//! Per element it keeps an owner (epoch and nonce), a map of checkpointed fields, and a log of
//! batches after the checkpoint. Every write names its fence and is refused once somebody else has
//! claimed the element. Every write may be sent again after a lost answer.

pub mod any;
pub mod codec;
pub mod embedded;
pub mod local;
pub mod redis;
pub mod served;

use std::collections::BTreeMap;
use std::future::Future;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use serde::{Deserialize, Serialize};

/// The most bytes one batch may hold, encoded.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// A random number that tells two owners apart even if a wiped store gave both the same epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nonce(pub u128);

/// Proof of ownership, compared for equality by the store in the same step as each write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Whose data.
    pub element: EntityId,
    /// Raised at each claim, never reused.
    pub epoch: u64,
    /// Who claimed.
    pub nonce: Nonce,
}

/// A batch as the store keeps it: opaque bytes (see `codec`) at their place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBatch {
    /// The index of its first record.
    pub first: u64,
    /// The index of its last record.
    pub last: u64,
    /// The store's clock when it was taken; never earlier than that of the batch before.
    pub logged_at: WallClock,
    /// The encoded records.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// All that is kept of an element, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The index of the last record ever logged; 0 before the first.
    pub head: u64,
    /// The index up to which `fields` covers the log.
    pub checkpoint: u64,
    /// The checkpointed fields, complete.
    pub fields: BTreeMap<String, serde_bytes::ByteBuf>,
    /// The batches that hold records after `checkpoint`, in order. The first may begin before it.
    pub log: Vec<StoredBatch>,
    /// The store's clock at this instant.
    pub read_at: WallClock,
}

/// What one checkpoint changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The index up to which the state covers the log; the log is trimmed up to here.
    pub upto: u64,
    /// Fields that are new or changed.
    pub set: Vec<(String, serde_bytes::ByteBuf)>,
    /// Fields that are gone.
    pub delete: Vec<String>,
}

/// What can be seen of an element without owning it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The present owner's epoch.
    pub epoch: u64,
    /// The index of the last record ever logged.
    pub head: u64,
    /// The index up to which the checkpoint covers the log.
    pub checkpoint: u64,
    /// When the last checkpoint was taken.
    pub checkpoint_at: Option<WallClock>,
}

/// Why the store did not do what it was asked; each variant is a different next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StoreError {
    /// Somebody else owns the element: this incarnation is over. Nothing was written. Stop, and do
    /// not try again.
    #[error("{element} is owned by epoch {epoch} now; this incarnation is over")]
    Fenced {
        /// Whose data.
        element: EntityId,
        /// The owner's epoch.
        epoch: u64,
    },
    /// The log does not end where the batch or checkpoint assumes. Nothing was written.
    #[error("the log of {element} ends at {head}, not where the write expects it")]
    Gap {
        /// Whose log.
        element: EntityId,
        /// Where it ends.
        head: u64,
    },
    /// The store cannot at present. It may or may not have done it: send the same write again after
    /// a while; it will be recognised.
    #[error("{attempted}: {reason}; it will be tried again")]
    Unavailable {
        /// What was attempted, on what.
        attempted: String,
        /// The store's own words.
        reason: String,
    },
    /// The store refuses and will go on refusing until somebody cures the cause. What was written is
    /// unknown: the element must stop, and not retry.
    #[error("{attempted}: {reason}; {cure}")]
    Refused {
        /// What was attempted, on what.
        attempted: String,
        /// The store's own words.
        reason: String,
        /// What a person can do about it.
        cure: String,
    },
    /// Stored data is damaged. The element must not run on it.
    #[error("stored data of {element} is damaged at {place}: {reason}")]
    Damaged {
        /// Whose data.
        element: EntityId,
        /// Which index or field.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Stable storage. Implementations pass one shared suite.
///
/// Writes of one owner that are started in order are taken in order, or refused with
/// [`StoreError::Gap`]; several may be in flight. Answers come in this order of precedence: fenced,
/// already done, gap, done.
pub trait StableStore: Clone {
    /// Makes `nonce` the owner of `element`, with an epoch above both `floor` and every epoch the
    /// store knows, and returns the epoch with all that is kept. Claiming again with the present
    /// owner's nonce returns the same epoch.
    fn claim(
        &self,
        element: &EntityId,
        nonce: Nonce,
        floor: u64,
    ) -> impl Future<Output = Result<(Fence, Saved), StoreError>>;

    /// Adds records `expected_head + 1 ..= last` as one batch, durable when this returns. Sending a
    /// batch again returns the instant at which it was first taken.
    ///
    /// The write is started when this is called, not when the future is first polled, so that
    /// several appends keep their order.
    fn append(
        &self,
        fence: &Fence,
        expected_head: u64,
        last: u64,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<WallClock, StoreError>> + 'static;

    /// Folds `delta` into the fields and trims the log up to `delta.upto`, in one atomic step.
    /// Refused with [`StoreError::Gap`] if `upto` is before the present checkpoint or after the head;
    /// `upto` equal to the present checkpoint is allowed.
    fn checkpoint(
        &self,
        fence: &Fence,
        delta: Delta,
    ) -> impl Future<Output = Result<(), StoreError>> + 'static;

    /// Reads all that is kept, for the present owner only.
    fn load(&self, fence: &Fence) -> impl Future<Output = Result<Saved, StoreError>>;

    /// Says whether `fence` still owns its element, and what the store's own clock reads, which may
    /// be behind the log's if it was set back. Writes nothing.
    fn prove(&self, fence: &Fence) -> impl Future<Output = Result<WallClock, StoreError>>;

    /// Reads all that is kept, without owning the element and without any effect on who does: what
    /// [`StableStore::load`] would give the owner at this instant. `None` if nobody ever claimed it.
    fn peek(&self, element: &EntityId) -> impl Future<Output = Result<Option<Saved>, StoreError>>;

    /// Reads what can be seen without owning the element; `None` if nobody ever claimed it.
    fn summary(
        &self,
        element: &EntityId,
    ) -> impl Future<Output = Result<Option<Summary>, StoreError>>;

    /// Adds a dead letter (opaque bytes) to the element's list, which keeps the newest
    /// [`DEAD_LETTERS_MAX`].
    fn bury(&self, fence: &Fence, letter: Vec<u8>) -> impl Future<Output = Result<(), StoreError>>;

    /// The element's dead letters, oldest first.
    fn dead_letters(
        &self,
        element: &EntityId,
    ) -> impl Future<Output = Result<Vec<serde_bytes::ByteBuf>, StoreError>>;
}

/// How many dead letters are kept for an element; older ones make room.
pub const DEAD_LETTERS_MAX: usize = 1_000;
