//! A stable store of which a process sees no more after some point: it ended there.

use std::cell::Cell;
use std::rc::Rc;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::store::{Delta, Fence, Nonce, Saved, StableStore, StoreError, Summary};
use serde_bytes::ByteBuf;

/// How many requests are still answered; all, if nothing is set. Of the one after, it is done or not,
/// and nobody hears of it.
pub(super) type Countdown = Rc<Cell<Option<(u8, bool)>>>;

/// The store as a process sees it that may end while it waits for an answer.
#[derive(Clone)]
pub(super) struct Interrupted<S> {
    store: S,
    countdown: Countdown,
}

/// What becomes of one request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    DoneInSilence,
    NotDone,
}

impl<S> Interrupted<S> {
    pub(super) fn new(store: S, countdown: Countdown) -> Self {
        Self { store, countdown }
    }

    fn fate(&self) -> Fate {
        match self.countdown.get() {
            None => Fate::Answered,
            Some((0, done)) => {
                // Nothing is done after the last one.
                self.countdown.set(Some((0, false)));
                if done {
                    Fate::DoneInSilence
                } else {
                    Fate::NotDone
                }
            }
            Some((left, done)) => {
                self.countdown.set(Some((left - 1, done)));
                Fate::Answered
            }
        }
    }
}

fn silence<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable {
        attempted: "waiting for an answer".into(),
        reason: "the process ended".into(),
    })
}

/// Finishes a request that was started unless its fate is not to be done.
async fn finish<T>(
    fate: Fate,
    started: Option<impl Future<Output = Result<T, StoreError>>>,
) -> Result<T, StoreError> {
    let Some(running) = started else {
        return silence();
    };
    let outcome = running.await;
    match fate {
        Fate::Answered => outcome,
        Fate::DoneInSilence | Fate::NotDone => silence(),
    }
}

impl<S: StableStore + 'static> StableStore for Interrupted<S> {
    async fn claim(
        &self,
        element: &EntityId,
        nonce: Nonce,
        floor: u64,
    ) -> Result<(Fence, Saved), StoreError> {
        let fate = self.fate();
        let started = (fate != Fate::NotDone).then(|| self.store.claim(element, nonce, floor));
        finish(fate, started).await
    }

    fn append(
        &self,
        fence: &Fence,
        expected_head: u64,
        last: u64,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<WallClock, StoreError>> + 'static {
        let fate = self.fate();
        let append = || self.store.append(fence, expected_head, last, bytes);
        finish(fate, (fate != Fate::NotDone).then(append))
    }

    fn checkpoint(
        &self,
        fence: &Fence,
        delta: Delta,
    ) -> impl Future<Output = Result<(), StoreError>> + 'static {
        let fate = self.fate();
        let checkpoint = || self.store.checkpoint(fence, delta);
        finish(fate, (fate != Fate::NotDone).then(checkpoint))
    }

    async fn load(&self, fence: &Fence) -> Result<Saved, StoreError> {
        let fate = self.fate();
        let started = (fate != Fate::NotDone).then(|| self.store.load(fence));
        finish(fate, started).await
    }

    async fn prove(&self, fence: &Fence) -> Result<WallClock, StoreError> {
        self.store.prove(fence).await
    }

    async fn peek(&self, element: &EntityId) -> Result<Option<Saved>, StoreError> {
        self.store.peek(element).await
    }

    async fn summary(&self, element: &EntityId) -> Result<Option<Summary>, StoreError> {
        self.store.summary(element).await
    }

    async fn bury(&self, fence: &Fence, letter: Vec<u8>) -> Result<(), StoreError> {
        self.store.bury(fence, letter).await
    }

    async fn dead_letters(&self, element: &EntityId) -> Result<Vec<ByteBuf>, StoreError> {
        self.store.dead_letters(element).await
    }
}
