//! The asking side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use serde_bytes::ByteBuf;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::flight::{Flight, settle};
use super::way::{Connection, Way};
use super::{Address, Answer, Ask, FRAME_BYTES_MAX, FromStore, Page, Rest, Stream, ToStore, Token};
use crate::store::{Delta, Fence, Nonce, Saved, StableStore, StoreError, Summary};
use crate::transport::frame::{FrameError, FrameReceiver, FrameSender};
use crate::transport::tls::Security;

/// How many requests may wait to be sent.
const QUEUE_MAX: usize = 16_384;

/// How many bytes may wait to be sent.
const QUEUE_BYTES_MAX: usize = 128 << 20;

/// How long an answer may take before the connection is given up.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The first and the longest pause before connecting again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// A store that another process serves. All clones share one connection, which is made again
/// whenever it ends.
///
/// What was in flight when the connection ended is answered with [`StoreError::Unavailable`]: it
/// may or may not have been done, and is safe to send again.
#[derive(Clone, Debug)]
pub struct Served(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    requests: mpsc::Sender<Request>,
    waiting_bytes: Arc<AtomicUsize>,
}

pub(super) type Replied = Result<(Answer, Page), StoreError>;

/// A request, and where its answer goes.
#[derive(Debug)]
struct Request {
    ask: Ask,
    attempted: String,
    answer: oneshot::Sender<Replied>,
    _waiting: Waiting,
}

/// Counts the bytes of one request for as long as it waits to be sent.
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

impl Served {
    /// Connects to the store at `address`. Must be called within a tokio runtime, which keeps the
    /// connection.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if nobody serves there at present; [`StoreError::Refused`] if
    /// the token is not the right one, or the address is off loopback and there is no identity.
    pub async fn connect(
        address: Address,
        token: Token,
        security: Security,
    ) -> Result<Self, StoreError> {
        let (requests, queued) = mpsc::channel(QUEUE_MAX);
        let way = Way {
            address,
            token,
            security,
        };
        let first = way.open().await?;
        tokio::spawn(keep_connected(way, first, queued));
        Ok(Self(Arc::new(Queue {
            requests,
            waiting_bytes: Arc::default(),
        })))
    }

    /// Queues a request at once; the answer comes with the future.
    fn submit<T>(
        &self,
        attempted: &str,
        element: &EntityId,
        bytes: usize,
        ask: Ask,
        read: fn(Answer, Page) -> Option<T>,
    ) -> impl Future<Output = Result<T, StoreError>> + use<T> {
        let attempted = format!("{attempted} {element}");
        let (answer, answered) = oneshot::channel();
        let queued = self.queue(ask, &attempted, bytes, answer);
        async move {
            queued?;
            match answered.await {
                Ok(Ok((answer, page))) => read(answer, page)
                    .ok_or_else(|| unavailable(&attempted, "the store answers something else")),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(unavailable(&attempted, "the connection was given up")),
            }
        }
    }

    fn queue(
        &self,
        ask: Ask,
        attempted: &str,
        bytes: usize,
        answer: oneshot::Sender<Replied>,
    ) -> Result<(), StoreError> {
        if bytes > FRAME_BYTES_MAX {
            return Err(StoreError::Refused {
                attempted: attempted.into(),
                reason: format!("{bytes} bytes do not fit in one message of {FRAME_BYTES_MAX}"),
                cure: "make the state's fields smaller, or checkpoint more often".into(),
            });
        }
        let before = self.0.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let waiting = Waiting {
            all: self.0.waiting_bytes.clone(),
            bytes,
        };
        if before + bytes > QUEUE_BYTES_MAX {
            return Err(unavailable(attempted, "too many bytes wait for the store"));
        }
        let attempted = attempted.to_owned();
        let request = Request {
            ask,
            attempted,
            answer,
            _waiting: waiting,
        };
        self.0
            .requests
            .try_send(request)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(request) => {
                    unavailable(&request.attempted, "too many requests wait for the store")
                }
                mpsc::error::TrySendError::Closed(request) => {
                    unavailable(&request.attempted, "the connection was given up")
                }
            })
    }
}

pub(super) fn unavailable(attempted: &str, reason: &str) -> StoreError {
    StoreError::Unavailable {
        attempted: attempted.into(),
        reason: reason.into(),
    }
}

impl StableStore for Served {
    async fn claim(
        &self,
        element: &EntityId,
        nonce: Nonce,
        floor: u64,
    ) -> Result<(Fence, Saved), StoreError> {
        let ask = Ask::Claim {
            element: element.clone(),
            nonce,
            floor,
        };
        self.submit("claiming", element, 0, ask, |answer, page| match answer {
            Answer::Claimed { fence, rest } => Some((fence, saved(rest, page))),
            Answer::Appended(_)
            | Answer::Done
            | Answer::Loaded(_)
            | Answer::Proven(_)
            | Answer::Peeked(_)
            | Answer::Summary(_)
            | Answer::Letters => None,
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
        let length = bytes.len();
        let ask = Ask::Append {
            fence: fence.clone(),
            expected_head,
            last,
            bytes,
        };
        self.submit(
            "appending to the log of",
            &fence.element,
            length,
            ask,
            |answer, _| {
                if let Answer::Appended(at) = answer {
                    Some(at)
                } else {
                    None
                }
            },
        )
    }

    fn checkpoint(
        &self,
        fence: &Fence,
        delta: Delta,
    ) -> impl Future<Output = Result<(), StoreError>> + 'static {
        let set: usize = delta
            .set
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let deleted: usize = delta.delete.iter().map(String::len).sum();
        let ask = Ask::Checkpoint {
            fence: fence.clone(),
            delta,
        };
        self.submit(
            "saving a checkpoint of",
            &fence.element,
            set + deleted,
            ask,
            done,
        )
    }

    async fn load(&self, fence: &Fence) -> Result<Saved, StoreError> {
        let ask = Ask::Load {
            fence: fence.clone(),
        };
        self.submit("loading", &fence.element, 0, ask, |answer, page| {
            if let Answer::Loaded(rest) = answer {
                Some(saved(rest, page))
            } else {
                None
            }
        })
        .await
    }

    async fn prove(&self, fence: &Fence) -> Result<WallClock, StoreError> {
        let ask = Ask::Prove {
            fence: fence.clone(),
        };
        let attempted = "proving the ownership of";
        self.submit(attempted, &fence.element, 0, ask, |answer, _| {
            if let Answer::Proven(at) = answer {
                Some(at)
            } else {
                None
            }
        })
        .await
    }

    async fn peek(&self, element: &EntityId) -> Result<Option<Saved>, StoreError> {
        let ask = Ask::Peek {
            element: element.clone(),
        };
        self.submit("peeking at", element, 0, ask, |answer, page| {
            if let Answer::Peeked(rest) = answer {
                Some(rest.map(|rest| saved(rest, page)))
            } else {
                None
            }
        })
        .await
    }

    async fn summary(&self, element: &EntityId) -> Result<Option<Summary>, StoreError> {
        let ask = Ask::Summary {
            element: element.clone(),
        };
        self.submit("looking at", element, 0, ask, |answer, _| {
            if let Answer::Summary(seen) = answer {
                Some(seen)
            } else {
                None
            }
        })
        .await
    }

    async fn bury(&self, fence: &Fence, letter: Vec<u8>) -> Result<(), StoreError> {
        let length = letter.len();
        let ask = Ask::Bury {
            fence: fence.clone(),
            letter: ByteBuf::from(letter),
        };
        self.submit("adding a dead letter of", &fence.element, length, ask, done)
            .await
    }

    async fn dead_letters(&self, element: &EntityId) -> Result<Vec<ByteBuf>, StoreError> {
        let ask = Ask::DeadLetters {
            element: element.clone(),
        };
        self.submit(
            "reading the dead letters of",
            element,
            0,
            ask,
            |answer, page| matches!(answer, Answer::Letters).then_some(page.letters),
        )
        .await
    }
}

fn done(answer: Answer, _: Page) -> Option<()> {
    matches!(answer, Answer::Done).then_some(())
}

fn saved(rest: Rest, page: Page) -> Saved {
    Saved {
        head: rest.head,
        checkpoint: rest.checkpoint,
        fields: page.fields.into_iter().collect(),
        log: page.log,
        read_at: rest.read_at,
    }
}

/// Serves the queue over one connection after the other, until nobody has a handle any more.
async fn keep_connected(way: Way, first: Connection, mut queued: mpsc::Receiver<Request>) {
    let mut connection = first;
    loop {
        let flight = Flight::default();
        let reason = tokio::select! {
            written = send_all(&mut connection.sender, &flight, &mut queued) => match written {
                Ok(()) => return,
                Err(error) => error.to_string(),
            },
            reason = receive_all(&mut connection.receiver, &flight) => reason,
        };
        tracing::warn!(address = %way.address, reason, "the connection to the store ended");
        flight.give_up(&reason);
        connection = match connect_again(&way, &mut queued).await {
            Some(connection) => connection,
            None => return,
        };
    }
}

/// Tries until a connection is made; `None` if nobody has a handle any more. What waits is
/// answered after each failure: whoever asked decides whether to try again.
async fn connect_again(way: &Way, queued: &mut mpsc::Receiver<Request>) -> Option<Connection> {
    let mut pause = PAUSE.0;
    loop {
        let error = match way.open().await {
            Ok(connection) => return Some(connection),
            Err(error) => error,
        };
        while let Ok(request) = queued.try_recv() {
            let refused = unavailable(&request.attempted, &error.to_string());
            settle(request.answer, Err(refused));
        }
        if queued.is_closed() {
            return None;
        }
        // Processes that lost the same store must not come back in step.
        sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Sends what is queued; `Ok` if nobody has a handle any more.
async fn send_all(
    sender: &mut FrameSender<WriteHalf<Box<dyn Stream>>, ToStore>,
    flight: &Flight,
    queued: &mut mpsc::Receiver<Request>,
) -> Result<(), FrameError> {
    let mut id = 0;
    loop {
        if flight.room.available_permits() == 0 {
            // Only answers make room, and only to what has left.
            sender.flush().await?;
        }
        let Ok(permit) = flight.room.clone().acquire_owned().await else {
            return Ok(());
        };
        let request = match queued.try_recv() {
            Ok(request) => request,
            Err(_) => {
                sender.flush().await?;
                match queued.recv().await {
                    Some(request) => request,
                    None => return Ok(()),
                }
            }
        };
        id += 1;
        let Request {
            ask,
            attempted,
            answer,
            _waiting,
        } = request;
        flight.depart(id, attempted, answer, permit);
        sender.feed(&ToStore::Ask { id, ask }).await?;
    }
}

/// Hands out answers until the connection ends, and says why it did.
async fn receive_all(
    receiver: &mut FrameReceiver<ReadHalf<Box<dyn Stream>>, FromStore>,
    flight: &Flight,
) -> String {
    loop {
        let message = match timeout(ANSWER_TIMEOUT, receiver.next()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return "the store's process closed it".into(),
            Ok(Err(error)) => return error.to_string(),
            Err(_) if flight.is_overdue() => return "the store does not answer".into(),
            Err(_) => continue,
        };
        match message {
            FromStore::Page { id, page } => flight.add(id, page),
            FromStore::Answer { id, answer } => flight.arrive(id, answer),
            FromStore::Welcome | FromStore::Stranger => return "it repeats its greeting".into(),
        }
    }
}
