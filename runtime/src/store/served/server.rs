//! The serving side.

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_bytes::ByteBuf;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Answer, Ask, FRAME_BYTES_MAX, FRAME_MARGIN_BYTES, FromStore, IN_FLIGHT_MAX, Listener, Page,
    Rest, Stream, ToStore, Token,
};
use crate::store::embedded::Embedded;
use crate::store::{Saved, StableStore, StoreError};
use crate::transport::frame::{FrameError, FrameReceiver, FrameSender, Frames};

/// How many processes may be connected.
const CONNECTIONS_MAX: usize = 1_024;

/// How long a stranger may take to say who he is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait when the system has no more connections to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// From how many bytes on a page is sent.
const PAGE_BYTES: usize = 4 << 20;

/// A store being served; dropping it ends all connections. The store itself stays open.
#[derive(Debug)]
pub struct Server {
    _accepting: AbortOnDropHandle<()>,
}

/// Serves `store` to all who know `token`. Must be called within a tokio runtime.
#[must_use]
pub fn serve(store: Embedded, listener: Listener, token: Token) -> Server {
    let accepting = tokio::spawn(accept_all(store, listener, token));
    Server {
        _accepting: AbortOnDropHandle::new(accepting),
    }
}

async fn accept_all(store: Embedded, listener: Listener, token: Token) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        match accepted {
            Ok(greeting) => {
                let (store, token) = (store.clone(), token.clone());
                connections.spawn(async move {
                    // The door has said why it lets somebody not in.
                    let Ok(stream) = greeting.await else { return };
                    if let Err(error) = converse(&store, stream, &token).await {
                        tracing::warn!(%error, "a connection to the store ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the store cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Every answer is one or more messages, the last of which ends it.
type Replies = Vec<FromStore>;

async fn converse(
    store: &Embedded,
    stream: Box<dyn Stream>,
    token: &Token,
) -> Result<(), FrameError> {
    let mut frames: Frames<_, FromStore, ToStore> =
        Frames::new(stream, FRAME_BYTES_MAX + FRAME_MARGIN_BYTES);
    let hello = tokio::time::timeout(HELLO_TIMEOUT, frames.next());
    let hello = hello
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match hello {
        Some(ToStore::Hello { token: shown }) if token.admits(&shown) => {}
        Some(ToStore::Hello { .. } | ToStore::Ask { .. }) => {
            tracing::warn!("a process without the right token asked for the store");
            return frames.send(&FromStore::Stranger).await;
        }
        None => return Ok(()),
    }
    frames.send(&FromStore::Welcome).await?;
    let (mut sender, mut receiver) = frames.split();
    let mut running: FuturesUnordered<BoxFuture<'static, Replies>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(replies) = running.next() => {
                reply(&mut sender, replies).await?;
                while let Some(Some(replies)) = running.next().now_or_never() {
                    reply(&mut sender, replies).await?;
                }
                sender.flush().await?;
            }
            asked = receive(&mut receiver), if running.len() < IN_FLIGHT_MAX => {
                match asked? {
                    // Calling starts the request, so requests start in the order they arrive.
                    Some((id, ask)) => running.push(start(store, id, ask)),
                    None => return Ok(()),
                }
            }
        }
    }
}

async fn receive<R: tokio::io::AsyncRead + Unpin>(
    receiver: &mut FrameReceiver<R, ToStore>,
) -> Result<Option<(u64, Ask)>, FrameError> {
    match receiver.next().await? {
        Some(ToStore::Ask { id, ask }) => Ok(Some((id, ask))),
        Some(ToStore::Hello { .. }) => Err(FrameError::Undecodable("a second hello".into())),
        None => Ok(None),
    }
}

async fn reply<W: tokio::io::AsyncWrite + Unpin>(
    sender: &mut FrameSender<W, FromStore>,
    replies: Replies,
) -> Result<(), FrameError> {
    for message in replies {
        let id = match &message {
            FromStore::Page { id, .. } | FromStore::Answer { id, .. } => *id,
            FromStore::Welcome | FromStore::Stranger => 0,
        };
        match sender.feed(&message).await {
            Err(FrameError::TooLong { frame_bytes_max }) => {
                let answer = Err(StoreError::Refused {
                    attempted: "sending what the store holds".into(),
                    reason: format!("one item of it is longer than {frame_bytes_max} bytes"),
                    cure: "read it in the process that has opened the store".into(),
                });
                return sender.feed(&FromStore::Answer { id, answer }).await;
            }
            fed => fed?,
        }
    }
    Ok(())
}

/// Starts a request; its future only waits.
fn start(store: &Embedded, id: u64, ask: Ask) -> BoxFuture<'static, Replies> {
    let answered = move |answer: Result<Answer, StoreError>| vec![FromStore::Answer { id, answer }];
    match ask {
        Ask::Append {
            fence,
            expected_head,
            last,
            bytes,
        } => store
            .append(&fence, expected_head, last, bytes)
            .map(move |taken| answered(taken.map(Answer::Appended)))
            .boxed(),
        Ask::Checkpoint { fence, delta } => store
            .checkpoint(&fence, delta)
            .map(move |done| answered(done.map(|()| Answer::Done)))
            .boxed(),
        Ask::Claim {
            element,
            nonce,
            floor,
        } => {
            let store = store.clone();
            let claim = async move { store.claim(&element, nonce, floor).await };
            claim
                .map(move |claimed| match claimed {
                    Ok((fence, saved)) => paged(id, saved, |rest| Answer::Claimed { fence, rest }),
                    Err(error) => answered(Err(error)),
                })
                .boxed()
        }
        Ask::Load { fence } => {
            let store = store.clone();
            let load = async move { store.load(&fence).await };
            load.map(move |loaded| match loaded {
                Ok(saved) => paged(id, saved, Answer::Loaded),
                Err(error) => answered(Err(error)),
            })
            .boxed()
        }
        Ask::Peek { element } => {
            let store = store.clone();
            async move {
                match store.peek(&element).await {
                    Ok(Some(saved)) => paged(id, saved, |rest| Answer::Peeked(Some(rest))),
                    Ok(None) => answered(Ok(Answer::Peeked(None))),
                    Err(error) => answered(Err(error)),
                }
            }
            .boxed()
        }
        Ask::Prove { .. } | Ask::Summary { .. } | Ask::Bury { .. } => {
            let store = store.clone();
            async move { answered(in_one_piece(&store, ask).await) }.boxed()
        }
        Ask::DeadLetters { element } => {
            let store = store.clone();
            async move {
                match store.dead_letters(&element).await {
                    Ok(letters) => paged_letters(id, letters),
                    Err(error) => answered(Err(error)),
                }
            }
            .boxed()
        }
    }
}

/// Answers what needs no pages and keeps no order.
async fn in_one_piece(store: &Embedded, ask: Ask) -> Result<Answer, StoreError> {
    match ask {
        Ask::Prove { fence } => store.prove(&fence).await.map(Answer::Proven),
        Ask::Summary { element } => store.summary(&element).await.map(Answer::Summary),
        Ask::Bury { fence, letter } => store
            .bury(&fence, letter.into_vec())
            .await
            .map(|()| Answer::Done),
        Ask::Claim { .. }
        | Ask::Append { .. }
        | Ask::Checkpoint { .. }
        | Ask::Load { .. }
        | Ask::Peek { .. }
        | Ask::DeadLetters { .. } => Err(StoreError::Refused {
            attempted: "answering a request".into(),
            reason: "its answer comes another way".into(),
            cure: "this is a fault of the program".into(),
        }),
    }
}

fn paged_letters(id: u64, letters: Vec<ByteBuf>) -> Replies {
    let mut pages = Pages::new(id);
    for letter in letters {
        let size = letter.len();
        pages.add(size, |page| page.letters.push(letter));
    }
    pages.end(Answer::Letters)
}

fn paged(id: u64, saved: Saved, answer: impl FnOnce(Rest) -> Answer) -> Replies {
    let Saved {
        head,
        checkpoint,
        fields,
        log,
        read_at,
    } = saved;
    let mut pages = Pages::new(id);
    for (name, value) in fields {
        pages.add(name.len() + value.len(), |page| {
            page.fields.push((name, value))
        });
    }
    for batch in log {
        pages.add(batch.bytes.len(), |page| page.log.push(batch));
    }
    pages.end(answer(Rest {
        head,
        checkpoint,
        read_at,
    }))
}

/// Collects what may be long into messages of a limited size.
struct Pages {
    id: u64,
    replies: Replies,
    page: Page,
    page_bytes: usize,
}

impl Pages {
    fn new(id: u64) -> Self {
        Self {
            id,
            replies: Vec::new(),
            page: Page::default(),
            page_bytes: 0,
        }
    }

    fn add(&mut self, size: usize, add: impl FnOnce(&mut Page)) {
        if self.page_bytes + size > PAGE_BYTES {
            self.turn();
        }
        add(&mut self.page);
        // What surrounds an item counts as well, or many small ones would make a large page.
        self.page_bytes += size + 100;
    }

    fn turn(&mut self) {
        if self.page_bytes > 0 {
            let page = std::mem::take(&mut self.page);
            self.replies.push(FromStore::Page { id: self.id, page });
            self.page_bytes = 0;
        }
    }

    fn end(mut self, answer: Answer) -> Replies {
        self.turn();
        self.replies.push(FromStore::Answer {
            id: self.id,
            answer: Ok(answer),
        });
        self.replies
    }
}
