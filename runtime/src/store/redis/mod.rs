//! The stable store on a Redis server (paper, 5.1.2: the prototype's own choice).
//!
//! Of an element it keeps one hash (owner, head, checkpoint, fields), one stream whose entries are
//! batches, and one list of dead letters, under one hash tag. Every step is one script that
//! compares the fence first. An entry's id is the index of its last record, so that trimming needs
//! no search, and a batch that is sent again is found by its place.

mod answers;
mod check;
mod checkpoint;
mod connection;
mod dial;
mod keys;
mod reading;
mod replies;
mod scripts;
mod settings;
mod time;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use redis::{Cmd, Value, cmd};
use serde_bytes::ByteBuf;

use self::answers::Answer;
pub use self::check::{Finding, Severity};
use self::connection::{Connection, Fault};
use self::reading::Reader;
use self::replies::{Action, Reply, words};
use self::scripts::Script;
pub use self::settings::{Durability, RedisSettings, StoreIdentity};
use super::{
    BATCH_BYTES_MAX, DEAD_LETTERS_MAX, Delta, Fence, Nonce, Saved, StableStore, StoreError, Summary,
};

/// How much of a log or of the dead letters one answer may hold, give or take one entry.
const PAGE_BYTES: usize = 1 << 20;

/// The largest index and epoch: scripts count in double precision.
const INDEX_MAX: u64 = 1 << 53;

/// The store on one Redis server, cheap to clone. All clones share one connection.
#[derive(Clone)]
pub struct RedisStore {
    connection: Connection,
}

/// What is attempted on what, for people.
#[derive(Clone, Debug)]
struct Attempt(&'static str, EntityId);

impl RedisStore {
    /// Connects and checks that the server keeps what stable storage promises.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the cure if the server must not be used, and
    /// [`StoreError::Unavailable`] if it does not answer within the settings' patience.
    pub async fn connect(settings: RedisSettings) -> Result<Self, StoreError> {
        match Connection::open(settings).await {
            Ok(connection) => Ok(Self { connection }),
            Err(fault) => Err(failed(&"connecting to the Redis server", fault)),
        }
    }

    /// What a person should know about the server, what rules it out included. Writes nothing, and
    /// takes a second, because it looks how fast the server's clock runs.
    ///
    /// # Errors
    /// Why the server cannot be asked.
    pub async fn check(settings: &RedisSettings) -> Result<Vec<Finding>, StoreError> {
        let outcome = dial::look(settings).await;
        outcome.map_err(|fault| failed(&"checking the Redis server", fault))
    }

    /// What a person should know about the server, as of the last connection.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.connection.known().findings.clone()
    }

    /// The store's identity, which is made if this is its first use. Who keeps it, and gives it
    /// back in [`RedisSettings::identity`] next time, cannot be deceived by an emptied server.
    ///
    /// # Errors
    /// As [`StableStore::summary`].
    pub async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        let known = self.connection.known().identity;
        if let Some(identity) = known {
            return Ok(identity);
        }
        let attempt = "naming the Redis store";
        let key = self.connection.keys().identity();
        let proposed = format!("{:032x}", rand::random::<u128>());
        let mut name = cmd("SET");
        name.arg(&key).arg(proposed).arg("NX");
        self.plain(&attempt, name).await?;
        let mut ask = cmd("GET");
        ask.arg(&key);
        let found: String = read(&attempt, self.plain(&attempt, ask).await?)?;
        let identity = u128::from_str_radix(&found, 16)
            .map(Nonce)
            .map_err(|fault| unreadable(&attempt, &fault))?;
        self.connection.known().identity = Some(identity);
        Ok(identity)
    }

    /// Runs a script. It is on its way when this returns.
    fn run(
        &self,
        script: Script,
        attempt: Attempt,
        command: Cmd,
    ) -> impl Future<Output = Result<Answer, StoreError>> + Send + 'static {
        let command = Arc::new(command);
        let first = self.connection.send(Arc::clone(&command));
        let connection = self.connection.clone();
        async move {
            let outcome = match first.await {
                Err(Fault::Redis(error)) if Reply::of(&error).action() == Action::LoadScripts => {
                    // Nothing ran, so sending once more repeats nothing.
                    match connection.send(Arc::new(script.load())).await {
                        Ok(_) => connection.send(command).await,
                        Err(fault) => Err(fault),
                    }
                }
                outcome => outcome,
            };
            let value = outcome.map_err(|fault| failed(&attempt, fault))?;
            answers::answer(value).map_err(|fault| unreadable(&attempt, &fault))
        }
    }

    /// Runs a command that is no script.
    async fn plain(&self, attempt: &impl fmt::Display, command: Cmd) -> Result<Value, StoreError> {
        let outcome = self.connection.send(Arc::new(command)).await;
        outcome.map_err(|fault| failed(attempt, fault))
    }
}

impl StableStore for RedisStore {
    async fn claim(
        &self,
        element: &EntityId,
        nonce: Nonce,
        floor: u64,
    ) -> Result<(Fence, Saved), StoreError> {
        let attempt = Attempt("claiming", element.clone());
        within_limit(&attempt, floor)?;
        let keys = self.connection.keys();
        let mut command = Script::Claim.call(&[
            keys.state(element),
            keys.log(element),
            keys.staging(element),
        ]);
        command.arg(text(nonce)).arg(floor).arg(PAGE_BYTES);
        let answer = self.run(Script::Claim, attempt.clone(), command).await?;
        let mut fence = Fence {
            element: element.clone(),
            epoch: 0,
            nonce,
        };
        let page = answers::page(done(answer, &attempt, &fence)?)
            .map_err(|fault| unreadable(&attempt, &fault))?;
        fence.epoch = page.epoch;
        let saved = Reader::owner(self, &fence).rest(page).await?;
        Ok((fence, saved))
    }

    fn append(
        &self,
        fence: &Fence,
        expected_head: u64,
        last: u64,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<WallClock, StoreError>> + 'static {
        let attempt = Attempt("appending to the log of", fence.element.clone());
        let fence = fence.clone();
        let sent = within_limit(&attempt, last)
            .and_then(|()| fits(&attempt, expected_head, last, &bytes))
            .map(|()| {
                let keys = self.connection.keys();
                let mut command =
                    Script::Append.call(&[keys.state(&fence.element), keys.log(&fence.element)]);
                own(&mut command, &fence)
                    .arg(expected_head)
                    .arg(expected_head + 1)
                    .arg(last)
                    .arg(bytes);
                self.run(Script::Append, attempt.clone(), command)
            });
        async move {
            let parts = done(sent?.await?, &attempt, &fence)?;
            answers::instant(parts).map_err(|fault| unreadable(&attempt, &fault))
        }
    }

    fn checkpoint(
        &self,
        fence: &Fence,
        delta: Delta,
    ) -> impl Future<Output = Result<(), StoreError>> + 'static {
        self.fold(fence, delta)
    }

    async fn load(&self, fence: &Fence) -> Result<Saved, StoreError> {
        Reader::owner(self, fence).read().await
    }

    async fn prove(&self, fence: &Fence) -> Result<WallClock, StoreError> {
        let attempt = Attempt("proving the ownership of", fence.element.clone());
        let mut command = Script::Prove.call(&[self.connection.keys().state(&fence.element)]);
        own(&mut command, fence);
        let answer = self.run(Script::Prove, attempt.clone(), command).await?;
        let parts = done(answer, &attempt, fence)?;
        answers::instant(parts).map_err(|fault| unreadable(&attempt, &fault))
    }

    async fn peek(&self, element: &EntityId) -> Result<Option<Saved>, StoreError> {
        Reader::anybody(self, element).peek().await
    }

    async fn summary(&self, element: &EntityId) -> Result<Option<Summary>, StoreError> {
        let attempt = Attempt("looking at", element.clone());
        let mut command = cmd("HMGET");
        command.arg(self.connection.keys().state(element)).arg(&[
            "epoch",
            "head",
            "checkpoint",
            "checkpoint_at",
        ]);
        let value = self.plain(&attempt, command).await?;
        let (epoch, head, checkpoint, at): (Option<u64>, Option<u64>, Option<u64>, Option<i64>) =
            read(&attempt, value)?;
        Ok(epoch.map(|epoch| Summary {
            epoch,
            head: head.unwrap_or(0),
            checkpoint: checkpoint.unwrap_or(0),
            checkpoint_at: at.map(WallClock),
        }))
    }

    async fn bury(&self, fence: &Fence, letter: Vec<u8>) -> Result<(), StoreError> {
        let attempt = Attempt("keeping a dead letter of", fence.element.clone());
        let keys = self.connection.keys();
        let mut command =
            Script::Bury.call(&[keys.state(&fence.element), keys.letters(&fence.element)]);
        own(&mut command, fence).arg(DEAD_LETTERS_MAX).arg(letter);
        let answer = self.run(Script::Bury, attempt.clone(), command).await?;
        done(answer, &attempt, fence).map(drop)
    }

    async fn dead_letters(&self, element: &EntityId) -> Result<Vec<ByteBuf>, StoreError> {
        let attempt = Attempt("reading the dead letters of", element.clone());
        let keys = [
            self.connection.keys().state(element),
            self.connection.keys().letters(element),
        ];
        let (mut next, mut letters) = (0, Vec::new());
        loop {
            let mut command = Script::Letters.call(&keys);
            command.arg(next).arg(PAGE_BYTES);
            let answer = self.run(Script::Letters, attempt.clone(), command).await?;
            let Answer::Done(parts) = answer else {
                return Err(unreadable(&attempt, &"it speaks of a fence"));
            };
            let page = answers::letters(parts).map_err(|fault| unreadable(&attempt, &fault))?;
            letters.extend(page.letters);
            next = page.next;
            if next >= page.buried {
                return Ok(letters);
            }
        }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("settings", self.connection.settings())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// Names the fence in a call.
fn own<'a>(command: &'a mut Cmd, fence: &Fence) -> &'a mut Cmd {
    command.arg(fence.epoch).arg(text(fence.nonce))
}

fn text(nonce: Nonce) -> String {
    format!("{:032x}", nonce.0)
}

/// What a script returned, unless it refused.
fn done(answer: Answer, attempt: &Attempt, fence: &Fence) -> Result<Vec<Value>, StoreError> {
    let element = fence.element.clone();
    match answer {
        Answer::Done(parts) => Ok(parts),
        Answer::Fenced(epoch) => {
            if epoch < fence.epoch {
                // Epochs only rise, so the server was emptied or went back to an older copy.
                tracing::error!(%attempt, known = epoch, own = fence.epoch, "Redis forgot an epoch");
            }
            Err(StoreError::Fenced { element, epoch })
        }
        Answer::Gap(head) => Err(StoreError::Gap { element, head }),
        Answer::Unstaged => Err(StoreError::Unavailable {
            attempted: attempt.to_string(),
            reason: "part of it is missing at the server".to_owned(),
        }),
    }
}

/// The next step after a fault.
fn failed(attempt: &impl fmt::Display, fault: Fault) -> StoreError {
    let error = match fault {
        Fault::Refused(refusal) => return refusal,
        Fault::Away(reason) => {
            return StoreError::Unavailable {
                attempted: attempt.to_string(),
                reason,
            };
        }
        Fault::Redis(error) => error,
    };
    let (attempted, reason) = (attempt.to_string(), words(&error));
    match Reply::of(&error).action() {
        Action::Wait | Action::Reconnect | Action::LoadScripts => {
            StoreError::Unavailable { attempted, reason }
        }
        Action::WaitAndAlarm => {
            tracing::error!(attempted, reason, "the Redis server takes no more");
            StoreError::Unavailable { attempted, reason }
        }
        Action::Stop { cure } => StoreError::Refused {
            attempted,
            reason,
            cure: cure.to_owned(),
        },
    }
}

fn read<T: redis::FromRedisValue>(
    attempt: &impl fmt::Display,
    value: Value,
) -> Result<T, StoreError> {
    T::from_redis_value(value).map_err(|fault| unreadable(attempt, &fault))
}

/// The error for an answer that makes no sense: the keys hold something that is not ours.
fn unreadable(attempt: &impl fmt::Display, fault: &impl fmt::Display) -> StoreError {
    StoreError::Refused {
        attempted: attempt.to_string(),
        reason: fault.to_string(),
        cure: "another program may have written to keys that begin with `lamplighter:`: give \
               Lamplighter a server or database number of its own and restore the data"
            .to_owned(),
    }
}

fn within_limit(attempt: &Attempt, number: u64) -> Result<(), StoreError> {
    if number < INDEX_MAX {
        return Ok(());
    }
    Err(StoreError::Refused {
        attempted: attempt.to_string(),
        reason: format!("{number} is more than this store can count"),
        cure: "use the embedded store".to_owned(),
    })
}

fn fits(attempt: &Attempt, head: u64, last: u64, bytes: &[u8]) -> Result<(), StoreError> {
    assert!(head < last, "a batch holds at least one record");
    if bytes.len() <= BATCH_BYTES_MAX {
        return Ok(());
    }
    Err(StoreError::Refused {
        attempted: attempt.to_string(),
        reason: format!("a batch of {} bytes", bytes.len()),
        cure: format!("send at most {BATCH_BYTES_MAX} bytes at once"),
    })
}
