//! The one connection of a process to its Redis server, in order and renewed by itself.
//!
//! The redis crate's own manager neither starts a command when asked (only when polled), nor lets
//! the server be checked between a reconnect and the first write, nor leaves a connection that
//! answers nothing (paper, 4.1: a store that is slow is not a store that failed). So this keeps a
//! plain multiplexed connection, and these rules: commands reach the server in the order in which
//! [`Connection::send`] is called; the old socket is closed before a new one carries writes; and no
//! write passes before the server was checked.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ConnectionInfo, RedisError, Value};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::replies::{Action, Reply, words};
use super::settings::RedisSettings;
use super::{dial, keys::Keys};
use crate::store::StoreError;

/// After so many time-outs in a row the connection is given up: a half-open one answers nothing
/// for a quarter of an hour.
const TIMEOUTS_MAX: u32 = 3;

/// How many commands may wait for a connection before more are turned away.
const WAITING_MAX: usize = 1_024;

/// The first and the longest pause between two attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Why a command has no result.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The server's or the connection's own error.
    Redis(RedisError),
    /// There is no connection, for this reason; the command was not sent.
    Away(String),
    /// The server must not be used.
    Refused(StoreError),
}

/// A handle to the connection, cheap to clone.
#[derive(Clone)]
pub(super) struct Connection(Arc<Shared>);

pub(super) struct Shared {
    pub(super) settings: RedisSettings,
    pub(super) target: ConnectionInfo,
    pub(super) keys: Keys,
    /// What was seen of the server when it was last checked.
    known: Mutex<dial::Known>,
    state: Mutex<State>,
}

enum State {
    Up(Up),
    /// A task connects; commands wait for it in order.
    Down {
        waiting: VecDeque<Waiting>,
        reason: String,
    },
    /// The server must not be used; a task looks whether that is cured.
    Refusing(StoreError),
}

struct Up {
    connection: MultiplexedConnection,
    /// Time-outs since the last answer; also tells this connection from later ones.
    timeouts: Arc<AtomicU32>,
    _driver: AbortOnDropHandle<()>,
}

struct Waiting {
    command: Arc<Cmd>,
    begun: oneshot::Sender<Result<Begun, Fault>>,
}

/// A command that is on its way, also if nobody waits for its reply.
struct Begun {
    reply: BoxFuture<'static, Result<Value, RedisError>>,
    is_answered: bool,
    timeouts: Arc<AtomicU32>,
}

enum Start {
    Begun(Begun),
    Waits(oneshot::Receiver<Result<Begun, Fault>>),
    Failed(Fault),
}

impl Connection {
    /// Connects and checks the server.
    ///
    /// # Errors
    /// Why there is no connection within the settings' patience, or why the server is refused.
    pub(super) async fn open(settings: RedisSettings) -> Result<Self, Fault> {
        let target = settings.target().map_err(Fault::Refused)?;
        let known = dial::Known::before(&settings);
        let shared = Arc::new(Shared {
            keys: Keys::new(&settings.application),
            settings,
            target,
            known: Mutex::new(known),
            state: Mutex::new(State::Down {
                waiting: VecDeque::new(),
                reason: "no connection was made yet".to_owned(),
            }),
        });
        tokio::spawn(connect(Arc::downgrade(&shared)));
        let connection = Self(shared);
        connection.send(Arc::new(redis::cmd("PING"))).await?;
        Ok(connection)
    }

    /// Sends a command. It is on its way, or has its place among those that wait for a connection,
    /// when this returns; the future only awaits the reply.
    ///
    /// # Errors
    /// Why there is no result; unless it is [`Fault::Away`], it may have been carried out.
    pub(super) fn send(
        &self,
        command: Arc<Cmd>,
    ) -> impl Future<Output = Result<Value, Fault>> + Send + 'static {
        let start = self.0.start(command);
        let shared = Arc::clone(&self.0);
        async move {
            let mut begun = match start {
                Start::Begun(begun) => begun,
                Start::Failed(fault) => return Err(fault),
                Start::Waits(begun) => {
                    match tokio::time::timeout(shared.settings.patience, begun).await {
                        Ok(Ok(begun)) => begun?,
                        Ok(Err(_)) | Err(_) => return Err(shared.away()),
                    }
                }
            };
            let outcome = (&mut begun.reply).await;
            begun.is_answered = true;
            shared.learn(&begun.timeouts, &outcome);
            outcome.map_err(Fault::Redis)
        }
    }

    /// The settings it was opened with.
    pub(super) fn settings(&self) -> &RedisSettings {
        &self.0.settings
    }

    /// The keys of this application.
    pub(super) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// What was seen of the server when it was last checked.
    pub(super) fn known(&self) -> MutexGuard<'_, dial::Known> {
        self.0.known()
    }
}

impl Shared {
    pub(super) fn known(&self) -> MutexGuard<'_, dial::Known> {
        lock(&self.known)
    }

    fn start(&self, command: Arc<Cmd>) -> Start {
        match &mut *lock(&self.state) {
            State::Up(up) => Start::Begun(begin(up, command)),
            State::Down { waiting, reason } => {
                // Callers that no longer wait need no place.
                waiting.retain(|waiting| !waiting.begun.is_closed());
                if waiting.len() >= WAITING_MAX {
                    return Start::Failed(Fault::Away(format!(
                        "{WAITING_MAX} commands wait for a connection already ({reason})"
                    )));
                }
                let (begun, answer) = oneshot::channel();
                waiting.push_back(Waiting { command, begun });
                Start::Waits(answer)
            }
            State::Refusing(refusal) => Start::Failed(Fault::Refused(refusal.clone())),
        }
    }

    fn away(&self) -> Fault {
        match &*lock(&self.state) {
            State::Down { reason, .. } => Fault::Away(reason.clone()),
            State::Up(_) => Fault::Away("the connection was not made in time".to_owned()),
            State::Refusing(refusal) => Fault::Refused(refusal.clone()),
        }
    }

    /// Judges the connection by how a command fared on it.
    fn learn(self: &Arc<Self>, timeouts: &Arc<AtomicU32>, outcome: &Result<Value, RedisError>) {
        let Err(error) = outcome else {
            timeouts.store(0, Ordering::Relaxed);
            return;
        };
        let reply = Reply::of(error);
        let is_spent = if reply == Reply::TimedOut {
            timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX
        } else {
            timeouts.store(0, Ordering::Relaxed);
            reply.action() == Action::Reconnect
        };
        if is_spent {
            self.leave(timeouts, words(error));
        }
    }

    /// Closes a connection, unless that has happened already, and starts to make another.
    fn leave(self: &Arc<Self>, timeouts: &Arc<AtomicU32>, reason: String) {
        let mut state = lock(&self.state);
        let is_present = matches!(&*state, State::Up(up) if Arc::ptr_eq(&up.timeouts, timeouts));
        if is_present {
            tracing::warn!(reason, "the connection to Redis is replaced");
            // Dropping the old state ends its driver: its socket closes and what is in flight fails.
            *state = State::Down {
                waiting: VecDeque::new(),
                reason,
            };
            drop(state);
            tokio::spawn(connect(Arc::downgrade(self)));
        }
    }

    /// Takes a new connection into use: those who waited go first, in their order.
    fn put_up(self: &Arc<Self>, dialled: dial::Dialled) {
        let timeouts = Arc::new(AtomicU32::new(0));
        let (weak, ended) = (Arc::downgrade(self), Arc::clone(&timeouts));
        let driver = tokio::spawn(async move {
            dialled.driver.await;
            if let Some(shared) = weak.upgrade() {
                shared.leave(&ended, "the server closed the connection".to_owned());
            }
        });
        let up = Up {
            connection: dialled.connection,
            timeouts,
            _driver: AbortOnDropHandle::new(driver),
        };
        let mut state = lock(&self.state);
        if let State::Down { waiting, .. } = &mut *state {
            for Waiting { command, begun } in waiting.drain(..) {
                if !begun.is_closed() {
                    // A caller that stopped waiting just now has its command carried out
                    // unanswered, as with any reply that is lost.
                    drop(begun.send(Ok(begin(&up, command))));
                }
            }
        }
        *state = State::Up(up);
    }

    fn put_down(&self, fault: Fault) {
        let mut state = lock(&self.state);
        match fault {
            Fault::Refused(refusal) => {
                if let State::Down { waiting, .. } = &mut *state {
                    for waiting in waiting.drain(..) {
                        // Nobody has to hear it: the next command is refused as well.
                        drop(waiting.begun.send(Err(Fault::Refused(refusal.clone()))));
                    }
                    tracing::error!(%refusal, "the Redis server is refused");
                }
                *state = State::Refusing(refusal);
            }
            Fault::Redis(error) => state.explain(words(&error)),
            Fault::Away(reason) => state.explain(reason),
        }
    }
}

impl State {
    /// Notes why there is no connection at present.
    fn explain(&mut self, because: String) {
        match self {
            Self::Down { reason, .. } if *reason == because => {}
            Self::Down { reason, .. } => {
                tracing::warn!(because, "no connection to the Redis server");
                *reason = because;
            }
            Self::Up(_) | Self::Refusing(_) => {
                *self = Self::Down {
                    waiting: VecDeque::new(),
                    reason: because,
                }
            }
        }
    }
}

/// Connects until it succeeds or nobody needs the connection any more.
async fn connect(weak: Weak<Shared>) {
    let (mut pause, longest) = PAUSE;
    while let Some(shared) = weak.upgrade() {
        match dial::dial(&shared).await {
            Ok(dialled) => return shared.put_up(dialled),
            Err(fault) => shared.put_down(fault),
        }
        drop(shared);
        // Spread out, so that a thousand hosts do not come back in the same instant.
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = longest.min(pause * 2);
    }
}

/// Puts a command on its way at once: the first poll queues it for the socket.
fn begin(up: &Up, command: Arc<Cmd>) -> Begun {
    let mut connection = up.connection.clone();
    // Without the exemption a busy task could have its first poll put off, and its place lost.
    let mut reply = tokio::task::coop::unconstrained(async move {
        match connection.send_packed_command(&command).await {
            Ok(Value::ServerError(error)) => Err(error.into()),
            outcome => outcome,
        }
    })
    .boxed();
    // The waker is replaced when the caller polls; a reply that is here by then is returned then.
    if let Poll::Ready(outcome) = reply.poll_unpin(&mut Context::from_waker(Waker::noop())) {
        reply = std::future::ready(outcome).boxed();
    }
    Begun {
        reply,
        is_answered: false,
        timeouts: Arc::clone(&up.timeouts),
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // The redis crate leaves out commands whose caller went away before they reached the
        // socket; the time-out of the reply bounds the task.
        if !self.is_answered
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let nothing = std::future::pending().boxed();
            runtime.spawn(std::mem::replace(&mut self.reply, nothing));
        }
    }
}

/// Nothing panics while a lock is held, so what it guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
