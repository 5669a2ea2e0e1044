//! The thread that does all of the embedded store's writing, and the queue before it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use serde_bytes::ByteBuf;
use tokio::sync::{mpsc, oneshot};

use super::keeper::{Failure, Fault, Keeper};
use crate::store::{Delta, Fence, Nonce, Saved, StoreError, Summary};

/// How many requests may wait.
const QUEUE_MAX: usize = 65_536;

/// How many bytes may wait.
const QUEUE_BYTES_MAX: usize = 128 << 20;

/// How many bytes one round writes to the log, so that the first in it does not wait for ever.
const ROUND_BYTES_MAX: usize = 8 << 20;

/// How many requests one round takes.
const ROUND_MAX: usize = 4_096;

/// Where an answer goes.
type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// One request.
pub(super) enum Work {
    Claim {
        element: EntityId,
        nonce: Nonce,
        floor: u64,
        answer: Answer<(Fence, Saved)>,
    },
    Append {
        fence: Fence,
        expected_head: u64,
        last: u64,
        bytes: Vec<u8>,
        answer: Answer<WallClock>,
    },
    Checkpoint {
        fence: Fence,
        delta: Delta,
        answer: Answer<()>,
    },
    Load {
        fence: Fence,
        answer: Answer<Saved>,
    },
    Prove {
        fence: Fence,
        answer: Answer<WallClock>,
    },
    Peek {
        element: EntityId,
        answer: Answer<Option<Saved>>,
    },
    Salvage {
        element: EntityId,
        answer: Answer<(Saved, Option<String>)>,
    },
    Summary {
        element: EntityId,
        answer: Answer<Option<Summary>>,
    },
    Bury {
        fence: Fence,
        letter: Vec<u8>,
        answer: Answer<()>,
    },
    DeadLetters {
        element: EntityId,
        answer: Answer<Vec<ByteBuf>>,
    },
    Close {
        closed: oneshot::Sender<()>,
    },
}

/// The sending end.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<(Work, Waiting)>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// Counts the bytes of one request for as long as it waits.
#[derive(Debug)]
struct Waiting {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Writer {
    /// Starts the thread, which keeps `lock` until it ends.
    pub(super) fn start(directory: &Path, keeper: Keeper, lock: Box<dyn Send>) -> io::Result<Self> {
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let place = directory.display().to_string();
        thread::Builder::new().name("store".into()).spawn(move || {
            let rounds = Rounds {
                keeper,
                requests,
                place,
                fault: None,
            };
            let closed = rounds.run();
            drop(lock);
            if closed.is_some_and(|closed| closed.send(()).is_err()) {
                tracing::debug!("the store closed, and nobody waited for it");
            }
        })?;
        Ok(Self {
            queue,
            waiting_bytes: Arc::default(),
        })
    }

    /// Queues a request at once; the answer comes with the future.
    pub(super) fn submit<T: 'static, W: FnOnce(Answer<T>) -> Work>(
        &self,
        attempted: &str,
        element: &EntityId,
        bytes: usize,
        work: W,
    ) -> impl Future<Output = Result<T, StoreError>> + use<T, W> {
        let (answer, answered) = oneshot::channel();
        let queued = self.queue(work(answer), bytes);
        let attempted = format!("{attempted} {element}");
        async move {
            let unavailable = |reason: &str| StoreError::Unavailable {
                attempted: attempted.clone(),
                reason: reason.into(),
            };
            queued.map_err(unavailable)?;
            answered
                .await
                .unwrap_or_else(|_| Err(unavailable("the store is closed")))
        }
    }

    fn queue(&self, work: Work, bytes: usize) -> Result<(), &'static str> {
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let waiting = Waiting {
            all: self.waiting_bytes.clone(),
            bytes,
        };
        if before + bytes > QUEUE_BYTES_MAX && before > 0 {
            return Err("too many bytes wait for the store");
        }
        self.queue
            .try_send((work, waiting))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => "too many requests wait for the store",
                mpsc::error::TrySendError::Closed(_) => "the store is closed",
            })
    }

    /// Ends the thread after what is queued; returns when the files are closed.
    pub(super) async fn close(&self) {
        let (closed, done) = oneshot::channel();
        let waiting = Waiting {
            all: self.waiting_bytes.clone(),
            bytes: 0,
        };
        if self
            .queue
            .send((Work::Close { closed }, waiting))
            .await
            .is_ok()
        {
            // An error means that the thread has ended without saying so, which is as good.
            drop(done.await);
        }
    }
}

/// An answer that waits until the round is durable; it may read what is kept then.
type Deferred = Box<dyn FnOnce(Result<&mut Keeper, &StoreError>) -> Result<(), Fault>>;

/// What the thread has.
struct Rounds {
    keeper: Keeper,
    requests: mpsc::Receiver<(Work, Waiting)>,
    place: String,
    /// Why nothing is done any more.
    fault: Option<StoreError>,
}

/// What comes after a request.
enum Next {
    /// More may join the round.
    More,
    /// The round ends with it.
    Ended,
    /// The store closes after the round.
    Close(oneshot::Sender<()>),
}

impl Rounds {
    /// Does one round after the other until the store closes or nobody has a handle any more.
    fn run(mut self) -> Option<oneshot::Sender<()>> {
        let mut closing = None;
        while closing.is_none()
            && let Some(first) = self.requests.blocking_recv()
        {
            closing = self.round(first);
        }
        if self.fault.is_none()
            && let Err(fault) = self.keeper.mark()
        {
            tracing::error!(%fault, place = self.place, "the store did not close in order");
        }
        closing
    }

    fn round(&mut self, first: (Work, Waiting)) -> Option<oneshot::Sender<()>> {
        let mut answers = Vec::new();
        let mut next = Some(first);
        let mut closing = None;
        while let Some((work, _waiting)) = next {
            match self.decide(work, &mut answers) {
                Next::More => {}
                Next::Ended => break,
                Next::Close(closed) => {
                    closing = Some(closed);
                    break;
                }
            }
            if answers.len() >= ROUND_MAX || self.keeper.staged_bytes() >= ROUND_BYTES_MAX {
                break;
            }
            next = self.requests.try_recv().ok();
        }
        if self.fault.is_none() {
            let committed = self.keeper.commit();
            self.stop_on(committed);
        }
        for answer in answers {
            let told = match &self.fault {
                None => answer(Ok(&mut self.keeper)),
                Some(fault) => answer(Err(fault)),
            };
            self.stop_on(told);
        }
        closing
    }

    /// Decides one request on what is in memory, and defers its answer.
    fn decide(&mut self, work: Work, answers: &mut Vec<Deferred>) -> Next {
        let keeper = &mut self.keeper;
        match work {
            Work::Append {
                fence,
                expected_head,
                last,
                bytes,
                answer,
            } => {
                let taken = match keeper.append(&fence, expected_head, last, &bytes) {
                    Ok(at) => Ok(at),
                    Err(Failure::Refused(error)) => Err(error),
                    Err(Failure::Fault(fault)) => Err(self.stop(&fault)),
                };
                answers.push(settle(answer, taken));
                Next::More
            }
            Work::Checkpoint {
                fence,
                delta,
                answer,
            } => {
                answers.push(settle(answer, keeper.checkpoint(&fence, delta)));
                Next::More
            }
            Work::Bury {
                fence,
                letter,
                answer,
            } => {
                answers.push(settle(answer, keeper.bury(&fence, letter)));
                Next::More
            }
            Work::Claim {
                element,
                nonce,
                floor,
                answer,
            } => {
                let claimed = keeper.claim(&element, nonce, floor);
                answers.push(read(answer, move |keeper| {
                    let fence = claimed?;
                    let saved = keeper.saved(&fence.element)?;
                    Ok((fence, saved))
                }));
                Next::Ended
            }
            Work::Load { fence, answer } => {
                let admitted = keeper.admitted(&fence).map(|_| ());
                answers.push(read(answer, move |keeper| {
                    admitted?;
                    keeper.saved(&fence.element)
                }));
                Next::Ended
            }
            Work::Peek { element, answer } => {
                answers.push(read(answer, move |keeper| keeper.peek(&element)));
                Next::Ended
            }
            Work::Salvage { element, answer } => {
                answers.push(read(answer, move |keeper| keeper.salvaged(&element)));
                Next::Ended
            }
            Work::Prove { .. } | Work::Summary { .. } | Work::DeadLetters { .. } => {
                answers.extend(look(keeper, work));
                Next::More
            }
            Work::Close { closed } => Next::Close(closed),
        }
    }

    fn stop_on(&mut self, done: Result<(), Fault>) {
        if let Err(fault) = done {
            self.stop(&fault);
        }
    }

    /// From here on nothing is written: what the last write left on the disk is unknown, and a
    /// second fsync would not tell.
    fn stop(&mut self, fault: &Fault) -> StoreError {
        let error = StoreError::Refused {
            attempted: format!("writing to the store in {}", self.place),
            reason: fault.to_string(),
            cure: "what reached the disk is unknown: cure the disk, then start the store again, \
                   which checks all that is there"
                .into(),
        };
        tracing::error!(%error, "the store stops");
        self.fault.get_or_insert(error).clone()
    }
}

/// Answers what changes nothing and needs no round of its own; `None` for all else.
fn look(keeper: &mut Keeper, work: Work) -> Option<Deferred> {
    match work {
        Work::Prove { fence, answer } => Some(settle(answer, keeper.prove(&fence))),
        Work::Summary { element, answer } => Some(settle(answer, Ok(keeper.summary(&element)))),
        Work::DeadLetters { element, answer } => {
            Some(read(answer, move |keeper| keeper.dead_letters(&element)))
        }
        Work::Claim { .. }
        | Work::Append { .. }
        | Work::Checkpoint { .. }
        | Work::Load { .. }
        | Work::Peek { .. }
        | Work::Salvage { .. }
        | Work::Bury { .. }
        | Work::Close { .. } => None,
    }
}

/// An answer that is known, unless the round does not become durable.
fn settle<T: 'static>(answer: Answer<T>, decided: Result<T, StoreError>) -> Deferred {
    Box::new(move |round| {
        // Whoever asked may have gone away; what was done stays done.
        drop(answer.send(round.map_err(Clone::clone).and(decided)));
        Ok(())
    })
}

/// An answer that is read once the round is durable.
fn read<T: 'static>(
    answer: Answer<T>,
    read: impl FnOnce(&mut Keeper) -> Result<T, Failure> + 'static,
) -> Deferred {
    Box::new(move |round| {
        let (told, outcome) = match round.map(read) {
            Ok(Ok(value)) => (Ok(value), Ok(())),
            Ok(Err(Failure::Refused(error))) => (Err(error), Ok(())),
            Ok(Err(Failure::Fault(fault))) => {
                let error = StoreError::Unavailable {
                    attempted: "reading from the store".into(),
                    reason: fault.to_string(),
                };
                (Err(error), Err(fault))
            }
            Err(stopped) => (Err(stopped.clone()), Ok(())),
        };
        drop(answer.send(told));
        outcome
    })
}
