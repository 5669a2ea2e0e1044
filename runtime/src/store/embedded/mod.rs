//! The stable store without a server: files in one directory, for one process (paper, 4.1).
//!
//! One thread does all writing. It takes every request that waits, decides them in order, makes
//! what they changed durable with one write and one fdatasync, and answers them all: the more
//! there is to do, the larger the groups, without any timer. The log is our own, in segments;
//! owners, checkpointed fields and dead letters are in redb.

#[doc(hidden)]
pub mod disk;
mod element;
mod keeper;
mod log;
mod metadata;
mod record;
mod room;
mod scan;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;

use self::disk::{Directory, Disk};
use self::keeper::{Fault, Keeper};
use self::metadata::Metadata;
use self::writer::{Work, Writer};
use super::{Delta, Fence, Nonce, Saved, StableStore, StoreError, Summary};

/// What must survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// All that was acknowledged survives the loss of power.
    #[default]
    Required,
    /// All that was acknowledged survives the end of the process, and not that of the machine.
    Process,
}

/// How an embedded store works.
#[derive(Clone, Debug)]
pub struct Options {
    /// What must survive.
    pub durability: Durability,
    /// How long a segment of the log is, in bytes. Longer ones are made for batches that need it.
    pub segment_bytes: u64,
    /// How many bytes the log may hold that no checkpoint covers. Beyond it, appends are
    /// [`StoreError::Unavailable`] until a checkpoint makes room.
    pub log_bytes_max: u64,
    /// Stands in for the directory, in tests that lose power.
    #[doc(hidden)]
    pub disk: Option<Arc<dyn Disk>>,
    /// Tells the time, in microseconds since 1970.
    #[doc(hidden)]
    pub clock: fn() -> WallClock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Required,
            segment_bytes: 8 << 20,
            log_bytes_max: 1 << 30,
            disk: None,
            clock: crate::clock::wall,
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process; stop that one, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// A program of another version wrote it.
    #[error("{} was written in form {found}, which this program does not know; run the version that wrote it", directory.display())]
    Foreign {
        /// Which store.
        directory: PathBuf,
        /// The form's number.
        found: u64,
    },
    /// The disk, or what is on it, cannot be used.
    #[error("the store in {} cannot be opened: {reason}; cure the disk, or restore the directory", directory.display())]
    Unusable {
        /// Which store.
        directory: PathBuf,
        /// The system's or redb's words.
        reason: String,
    },
}

/// A handle on the store; all its clones are the same store. It closes when the last is dropped.
#[derive(Clone, Debug)]
pub struct Embedded(Arc<Writer>);

impl Embedded {
    /// Opens the store in `directory`, or begins one there. Blocks while the log is checked.
    ///
    /// # Errors
    /// Nothing was changed, except that what was cut off by an earlier stop may have been erased.
    pub fn open(directory: &Path, mut options: Options) -> Result<Self, OpenError> {
        let unusable = |reason: String| OpenError::Unusable {
            directory: directory.into(),
            reason,
        };
        let disk = match options.disk.take() {
            Some(disk) => disk,
            None => {
                let durable = options.durability == Durability::Required;
                let opened = Directory::create(directory, durable);
                Arc::new(opened.map_err(|error| unusable(error.to_string()))?)
            }
        };
        let lock = disk.lock().map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                return OpenError::InUse(directory.into());
            }
            unusable(error.to_string())
        })?;
        let metadata =
            Metadata::open(disk.as_ref()).map_err(|error| unusable(error.to_string()))?;
        let foreign = metadata
            .foreign_version()
            .map_err(|error| unusable(error.to_string()))?;
        if let Some(found) = foreign {
            return Err(OpenError::Foreign {
                directory: directory.into(),
                found,
            });
        }
        options.disk = Some(disk);
        let keeper =
            Keeper::open(options, metadata).map_err(|fault: Fault| unusable(fault.to_string()))?;
        let writer = Writer::start(directory, keeper, lock);
        Ok(Self(Arc::new(
            writer.map_err(|error| unusable(error.to_string()))?,
        )))
    }

    /// Reads what can be read of an element, without owning it: all that is kept up to the first damage,
    /// and what is damaged. `head` may lie behind the damage.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the disk cannot be read.
    pub async fn salvage(&self, element: &EntityId) -> Result<(Saved, Option<String>), StoreError> {
        let named = element.clone();
        self.0
            .submit("salvaging", element, 0, |answer| Work::Salvage {
                element: named,
                answer,
            })
            .await
    }

    /// Does what is queued, closes the files and gives up the directory. All handles answer
    /// [`StoreError::Unavailable`] afterwards.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

impl StableStore for Embedded {
    async fn claim(
        &self,
        element: &EntityId,
        nonce: Nonce,
        floor: u64,
    ) -> Result<(Fence, Saved), StoreError> {
        let named = element.clone();
        self.0
            .submit("claiming", element, 0, |answer| Work::Claim {
                element: named,
                nonce,
                floor,
                answer,
            })
            .await
    }

    fn append(
        &self,
        fence: &Fence,
        expected_head: u64,
        last: u64,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<WallClock, StoreError>> + 'static {
        let fence = fence.clone();
        let element = fence.element.clone();
        self.0.submit(
            "appending to the log of",
            &element,
            bytes.len(),
            move |answer| Work::Append {
                fence,
                expected_head,
                last,
                bytes,
                answer,
            },
        )
    }

    fn checkpoint(
        &self,
        fence: &Fence,
        delta: Delta,
    ) -> impl Future<Output = Result<(), StoreError>> + 'static {
        let fence = fence.clone();
        let element = fence.element.clone();
        let bytes = delta
            .set
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.0
            .submit("saving a checkpoint of", &element, bytes, |answer| {
                Work::Checkpoint {
                    fence,
                    delta,
                    answer,
                }
            })
    }

    async fn load(&self, fence: &Fence) -> Result<Saved, StoreError> {
        let owned = fence.clone();
        self.0
            .submit("loading", &fence.element, 0, |answer| Work::Load {
                fence: owned,
                answer,
            })
            .await
    }

    async fn prove(&self, fence: &Fence) -> Result<WallClock, StoreError> {
        let owned = fence.clone();
        self.0
            .submit("proving the ownership of", &fence.element, 0, |answer| {
                Work::Prove {
                    fence: owned,
                    answer,
                }
            })
            .await
    }

    async fn peek(&self, element: &EntityId) -> Result<Option<Saved>, StoreError> {
        let named = element.clone();
        self.0
            .submit("peeking at", element, 0, |answer| Work::Peek {
                element: named,
                answer,
            })
            .await
    }

    async fn summary(&self, element: &EntityId) -> Result<Option<Summary>, StoreError> {
        let named = element.clone();
        self.0
            .submit("looking at", element, 0, |answer| Work::Summary {
                element: named,
                answer,
            })
            .await
    }

    async fn bury(&self, fence: &Fence, letter: Vec<u8>) -> Result<(), StoreError> {
        let owned = fence.clone();
        let bytes = letter.len();
        self.0
            .submit("adding a dead letter of", &fence.element, bytes, |answer| {
                Work::Bury {
                    fence: owned,
                    letter,
                    answer,
                }
            })
            .await
    }

    async fn dead_letters(
        &self,
        element: &EntityId,
    ) -> Result<Vec<serde_bytes::ByteBuf>, StoreError> {
        let named = element.clone();
        self.0
            .submit("reading the dead letters of", element, 0, |answer| {
                Work::DeadLetters {
                    element: named,
                    answer,
                }
            })
            .await
    }
}
