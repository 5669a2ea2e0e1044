//! A stable store behind the log of the server on which an element runs (paper, 4.2.1, Figure 4:
//! optimistic saving on persistent local storage).
//!
//! An append is done when it is durable on this server; [`LocalFirst::flush`] brings what is only
//! here to the stable store, in order and under the same fence. Before the first such record the
//! stable store keeps a mark that names the local log; a claim that finds the mark appends what the
//! local log has more, or, when that cannot be read, logs from which index on records may be
//! missing. For an element that is saved pessimistically every call goes to the stable store, and a
//! claim does the same with a mark that an earlier, optimistic run left behind.

mod directory;
mod opening;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::state_saving::{Mark, Timing};
use lamplighter_policies::time::WallClock;
use serde_bytes::ByteBuf;

use self::directory::LocalLog;
use super::embedded::Durability;
use super::{
    BATCH_BYTES_MAX, Delta, Fence, Nonce, Saved, StableStore, StoreError, StoredBatch, Summary,
    codec,
};
use crate::clock::Clock;

/// The field in which the stable store keeps the mark; no field of an element begins like it.
const MARK_FIELD: &str = "!local";

/// How many stamps of flushed batches are remembered: more than may be on their way.
const RECENT_MAX: usize = 64;

/// Where an element's local log is, and what of it must survive.
#[derive(Clone, Debug)]
pub struct LocalPlace {
    /// The server whose storage it is, for people.
    pub server: EntityId,
    /// The directory, of this element alone.
    pub directory: PathBuf,
    /// What its records must survive.
    pub durability: Durability,
    /// What stamps them: the stable store's clock, as well as it is known here.
    pub clock: Clock,
}

/// What a flush has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// The index of the last record that the stable store has.
    pub upto: u64,
    /// The stable store's own stamp of the last batch; `None` if it was sent before.
    pub logged_at: Option<WallClock>,
}

/// One element's way to a stable store. All clones share one local log.
#[derive(Clone, Debug)]
pub struct LocalFirst<S> {
    stable: S,
    place: LocalPlace,
    timing: Timing,
    /// Open while an optimistic incarnation writes.
    local: Arc<Mutex<Option<Local>>>,
}

/// What one incarnation has on this server.
#[derive(Debug)]
struct Local {
    /// The fence in the stable store.
    fence: Fence,
    log: LocalLog,
    lineage: u32,
    /// The index of the last record that the stable store has.
    flushed: u64,
    /// The index up to which the stable checkpoint covers the log.
    checkpoint: u64,
    /// The newest stamp: time in a log does not go back.
    latest: WallClock,
    /// The batches after `flushed`, by their first index.
    tail: BTreeMap<u64, Held>,
    /// The last and the stamp of the batches that were flushed most recently: an answer may have been
    /// lost, and the same batch has the same stamp for ever.
    recent: BTreeMap<u64, (u64, WallClock)>,
}

/// A batch that the stable store is not known to have.
#[derive(Clone, Debug)]
struct Held {
    /// As the element knows it.
    batch: StoredBatch,
    /// Whether it is durable here.
    durable: bool,
    /// Whether the stable store was asked to take it.
    tried: bool,
}

/// A write that was started in one of two places, or not at all.
enum Started<A, B> {
    Stable(A),
    Local(B),
    Refused(StoreError),
}

impl<S: StableStore> LocalFirst<S> {
    /// Nothing is opened before the element is claimed.
    pub fn new(stable: S, place: LocalPlace, timing: Timing) -> Self {
        Self {
            stable,
            place,
            timing,
            local: Arc::default(),
        }
    }

    /// The stable store itself.
    pub fn stable(&self) -> &S {
        &self.stable
    }

    /// The index of the last record that is known to be in the stable store. Without a local log
    /// every record is.
    #[must_use]
    pub fn flushed(&self) -> u64 {
        self.lock().as_ref().map_or(u64::MAX, |local| local.flushed)
    }

    /// Appends to the stable store what is only here, and returns the index of the last record that it
    /// has. The writes are started when this is called.
    ///
    /// # Errors
    /// As [`StableStore::append`]. What was written before the error stays.
    pub fn flush(
        &self,
        fence: &Fence,
    ) -> impl Future<Output = Result<Flushed, StoreError>> + 'static {
        let next = self.lock().as_mut().map(Local::next).unwrap_or_default();
        let append = |Held { batch, tried, .. }: Held| {
            let bytes = codec::stamp(&fence.element, &batch);
            let appending = self
                .stable
                .append(fence, batch.first - 1, batch.last, bytes);
            (batch.last, tried, appending)
        };
        let writes: Vec<_> = next.into_iter().map(append).collect();
        let store = Arc::clone(&self.local);
        let mut flushed = Flushed {
            upto: self.flushed(),
            logged_at: None,
        };
        async move {
            for (last, tried, appending) in writes {
                flushed.logged_at = match appending.await {
                    Ok(logged_at) => (!tried).then_some(logged_at),
                    // Nobody else may write: it was taken before, and a checkpoint covers it.
                    Err(StoreError::Gap { head, .. }) if head >= last => None,
                    Err(error) => return Err(error),
                };
                flushed.upto = last;
                if let Some(local) = &mut *lock(&store) {
                    local.flushed(last);
                }
            }
            Ok(flushed)
        }
    }

    /// Ends an incarnation in order: brings everything to the stable store and takes the mark back, so
    /// that the element may go on anywhere.
    ///
    /// # Errors
    /// As [`StableStore::checkpoint`]. The mark stays then, and the next claim here reads the log.
    pub async fn close(&self, fence: &Fence) -> Result<(), StoreError> {
        self.flush(fence).await?;
        let closed = self.lock().as_ref().map(|local| {
            let mark = Mark {
                lineage: local.lineage,
                ahead: None,
            };
            opening::write(&fence.element, local.checkpoint, &mark)
        });
        if let Some(delta) = closed {
            self.stable.checkpoint(fence, delta).await?;
        }
        self.release().await;
        Ok(())
    }

    /// Closes the local log without a word to the stable store, as the end of a process would.
    pub async fn release(&self) {
        let local = self.lock().take();
        if let Some(local) = local {
            local.log.close().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Local>> {
        lock(&self.local)
    }

    /// Whether this incarnation has claimed the element already.
    fn is_open(&self, fence: &Fence) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|local| local.fence == *fence)
    }

    /// The log of this incarnation, if `fence` is its own.
    fn writable(&self, fence: &Fence) -> Result<LocalLog, StoreError> {
        let epoch = match &*self.lock() {
            Some(local) if local.fence == *fence => return Ok(local.log.clone()),
            Some(local) => local.fence.epoch,
            None => 0,
        };
        Err(StoreError::Fenced {
            element: fence.element.clone(),
            epoch,
        })
    }

    /// What the stable store has and what is only here, without what the element must not see. What was
    /// read before a flush has a gap before what is only here, and is to be read again.
    fn whole(&self, element: &EntityId, mut saved: Saved) -> Result<Saved, StoreError> {
        saved.fields.remove(MARK_FIELD);
        let unstamped = |batch| codec::unstamped(element, batch);
        saved.log = saved
            .log
            .into_iter()
            .map(unstamped)
            .collect::<Result<_, _>>()?;
        if let Some(local) = &*self.lock() {
            if local.flushed > saved.head {
                let (head, flushed) = (saved.head, local.flushed);
                return Err(StoreError::Unavailable {
                    attempted: format!("reading the log of {element}"),
                    reason: format!("it was read up to {head} while it grew to {flushed}"),
                });
            }
            while let Some(held) = local.tail.get(&(saved.head + 1))
                && held.durable
            {
                saved.head = held.batch.last;
                saved.log.push(held.batch.clone());
            }
        }
        Ok(saved)
    }
}

impl Local {
    /// The batches that the stable store is to have next.
    fn next(&mut self) -> Vec<Held> {
        let mut next = Vec::new();
        let mut head = self.flushed;
        while let Some(held) = self.tail.get_mut(&(head + 1)).filter(|held| held.durable) {
            head = held.batch.last;
            next.push(held.clone());
            held.tried = true;
        }
        next
    }

    /// Keeps a batch under a stamp, the same if it is sent again, and returns what is to be durable.
    fn hold(&mut self, now: WallClock, first: u64, last: u64, bytes: Vec<u8>) -> Vec<u8> {
        let logged_at = self.stamp(first, last).unwrap_or(self.latest.max(now));
        self.latest = self.latest.max(logged_at);
        let batch = StoredBatch {
            first,
            last,
            logged_at,
            bytes,
        };
        let stamped = codec::stamp(&self.fence.element, &batch);
        let held = self.tail.entry(first).or_insert_with(|| Held {
            batch: batch.clone(),
            durable: false,
            tried: false,
        });
        held.batch = batch;
        stamped
    }

    /// The batch that begins at `first` is durable here; returns its stamp.
    fn taken(&mut self, first: u64) -> Option<WallClock> {
        match self.tail.get_mut(&first) {
            Some(held) => {
                held.durable = true;
                Some(held.batch.logged_at)
            }
            None => self.recent.get(&first).map(|(_, stamp)| *stamp),
        }
    }

    /// What a batch that was appended before is stamped with.
    fn stamp(&self, first: u64, last: u64) -> Option<WallClock> {
        let recent = self.recent.get(&first).copied();
        let held = self.tail.get(&first).map(|held| &held.batch);
        let known = recent.or(held.map(|batch| (batch.last, batch.logged_at)));
        known
            .filter(|(end, _)| *end == last)
            .map(|(_, stamp)| stamp)
    }

    /// The stable store has a checkpoint up to here, and so all of the batch that holds this record.
    fn checkpointed(&mut self, upto: u64) {
        self.checkpoint = self.checkpoint.max(upto);
        let covered = self.tail.range(..=upto).next_back();
        let upto = covered.map_or(upto, |(_, held)| held.batch.last.max(upto));
        self.flushed(upto);
    }

    fn flushed(&mut self, upto: u64) {
        self.flushed = self.flushed.max(upto);
        let later = self.tail.split_off(&(self.flushed + 1));
        for (first, held) in std::mem::replace(&mut self.tail, later) {
            let known = (held.batch.last, held.batch.logged_at);
            self.recent.entry(first).or_insert(known);
        }
        while self.recent.len() > RECENT_MAX {
            self.recent.pop_first();
        }
    }
}

fn lock(local: &Mutex<Option<Local>>) -> MutexGuard<'_, Option<Local>> {
    local.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: StableStore + 'static> StableStore for LocalFirst<S> {
    async fn claim(
        &self,
        element: &EntityId,
        nonce: Nonce,
        floor: u64,
    ) -> Result<(Fence, Saved), StoreError> {
        let (fence, saved) = self.stable.claim(element, nonce, floor).await?;
        let saved = match self.is_open(&fence) {
            true => saved,
            false => self.reconcile(&fence, saved).await?,
        };
        let saved = self.whole(element, saved)?;
        Ok((fence, saved))
    }

    fn append(
        &self,
        fence: &Fence,
        expected_head: u64,
        last: u64,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<WallClock, StoreError>> + 'static {
        let started = match self.timing {
            Timing::Pessimistic => {
                Started::Stable(self.stable.append(fence, expected_head, last, bytes))
            }
            Timing::Optimistic => match self.writable(fence) {
                Ok(_) if !fits(&bytes) => Started::Refused(too_long(fence, &bytes)),
                Ok(log) => {
                    let now = self.place.clock.now().wall;
                    let hold = |local: &mut Local| local.hold(now, expected_head + 1, last, bytes);
                    let bytes = self.lock().as_mut().map(hold).unwrap_or_default();
                    Started::Local(log.append(expected_head, last, bytes))
                }
                Err(error) => Started::Refused(error),
            },
        };
        let store = Arc::clone(&self.local);
        let first = expected_head + 1;
        async move {
            match started {
                Started::Stable(appending) => appending.await,
                Started::Refused(error) => Err(error),
                Started::Local(appending) => {
                    appending.await?;
                    let mut local = lock(&store);
                    let taken = local.as_mut().and_then(|local| local.taken(first));
                    taken.ok_or_else(|| StoreError::Unavailable {
                        attempted: "appending to the local log".into(),
                        reason: "it was closed meanwhile".into(),
                    })
                }
            }
        }
    }

    /// What is only here is appended first. Both are started when this is called, so that checkpoints
    /// keep their order.
    fn checkpoint(
        &self,
        fence: &Fence,
        delta: Delta,
    ) -> impl Future<Output = Result<(), StoreError>> + 'static {
        let upto = delta.upto;
        // The futures of some stores are large, and one of them is enough here.
        let flushing = Box::pin(self.flush(fence));
        let checkpointing = Box::pin(self.stable.checkpoint(fence, delta));
        let store = Arc::clone(&self.local);
        // On the heap: what it holds of two stores would make every caller's future large.
        Box::pin(async move {
            match (flushing.await, checkpointing.await) {
                (_, Ok(())) => {}
                // It was refused for the lack of what could not be appended.
                (Err(error), Err(StoreError::Gap { .. })) => return Err(error),
                (_, Err(error)) => return Err(error),
            }
            let trimming = lock(&store).as_mut().map(|local| {
                local.checkpointed(upto);
                local.log.trim(upto)
            });
            if let Some(trimming) = trimming
                && let Err(error) = trimming.await
            {
                // What stays too long only takes room.
                tracing::warn!(%error, "the local log is not trimmed");
            }
            Ok(())
        })
    }

    async fn load(&self, fence: &Fence) -> Result<Saved, StoreError> {
        let saved = self.stable.load(fence).await?;
        self.whole(&fence.element, saved)
    }

    async fn prove(&self, fence: &Fence) -> Result<WallClock, StoreError> {
        self.stable.prove(fence).await
    }

    async fn peek(&self, element: &EntityId) -> Result<Option<Saved>, StoreError> {
        let saved = self.stable.peek(element).await?;
        saved.map(|saved| self.whole(element, saved)).transpose()
    }

    async fn summary(&self, element: &EntityId) -> Result<Option<Summary>, StoreError> {
        self.stable.summary(element).await
    }

    async fn bury(&self, fence: &Fence, letter: Vec<u8>) -> Result<(), StoreError> {
        self.stable.bury(fence, letter).await
    }

    async fn dead_letters(&self, element: &EntityId) -> Result<Vec<ByteBuf>, StoreError> {
        self.stable.dead_letters(element).await
    }
}

fn fits(bytes: &[u8]) -> bool {
    bytes.len() + codec::STAMP_BYTES <= BATCH_BYTES_MAX
}

fn too_long(fence: &Fence, bytes: &[u8]) -> StoreError {
    let max = BATCH_BYTES_MAX - codec::STAMP_BYTES;
    StoreError::Refused {
        attempted: format!(
            "appending {} bytes to the local log of {}",
            bytes.len(),
            fence.element
        ),
        reason: format!("a batch holds at most {max} bytes"),
        cure: "send smaller events".into(),
    }
}

#[cfg(test)]
mod tests;
