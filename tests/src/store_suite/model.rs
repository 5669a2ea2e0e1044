//! Random operations, with duplicates and retries, against a store that is too simple to be wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::store::{
    Delta, Fence, Nonce, Saved, StableStore, StoreError, StoredBatch, Summary,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::{Harness, delta, element};

/// How many random histories are tried.
const CASES: u32 = 150;

/// How many simpler histories are tried once one has failed.
const SIMPLER_MAX: u32 = 400;

/// What happens in a history. Small numbers, so that the histories collide often.
#[derive(Clone, Debug)]
enum Operation {
    /// Claims, as one of few owners.
    Claim { nonce: u128, floor: u64 },
    /// Appends as the owner of the `owner`-th newest claim, `off` the head.
    Append {
        owner: usize,
        off: i64,
        count: u64,
        byte: u8,
    },
    /// Checkpoints as the owner of the `owner`-th newest claim, `back` before the head.
    Checkpoint {
        owner: usize,
        back: i64,
        set: Vec<(u8, u8)>,
        delete: Vec<u8>,
    },
    /// Sends the `back`-th newest append or checkpoint again.
    Again { back: usize },
    /// Adds a dead letter as the owner of the `owner`-th newest claim.
    Bury { owner: usize, byte: u8 },
    /// Reads as the owner of the `owner`-th newest claim.
    Load { owner: usize },
    /// Asks over another connection from here on.
    Reconnect,
}

/// A write that can be sent again.
#[derive(Clone, Debug)]
enum Write {
    Append {
        fence: Fence,
        expected_head: u64,
        last: u64,
        bytes: Vec<u8>,
    },
    Checkpoint {
        fence: Fence,
        delta: Delta,
    },
}

/// After any history, every answer and all that is kept are those of the naive model.
pub async fn any_operations_leave_what_a_naive_model_leaves(harness: &mut impl Harness) {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let histories = vec(operation(), 1..30);
    for _ in 0..CASES {
        let mut tree = histories
            .new_tree(&mut runner)
            .expect("the strategy rejects nothing");
        let Err(mut difference) = run(harness, &tree.current()).await else {
            continue;
        };
        let mut simplest = tree.current();
        let mut simpler = tree.simplify();
        for _ in 0..SIMPLER_MAX {
            if !simpler {
                break;
            }
            simpler = match run(harness, &tree.current()).await {
                Err(also) => {
                    (difference, simplest) = (also, tree.current());
                    tree.simplify()
                }
                Ok(()) => tree.complicate(),
            };
        }
        panic!("{difference}\nafter {simplest:#?}");
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let owner = prop_oneof![6 => Just(0_usize), 1 => 1..3_usize];
    let off = prop_oneof![6 => Just(0_i64), 1 => -4..=2_i64];
    prop_oneof![
        2 => (0..3_u128, 0..6_u64).prop_map(|(nonce, floor)| Operation::Claim { nonce, floor }),
        8 => (owner.clone(), off, 1..4_u64, any::<u8>())
            .prop_map(|(owner, off, count, byte)| Operation::Append { owner, off, count, byte }),
        4 => (owner.clone(), -1..6_i64, vec((0..4_u8, any::<u8>()), 0..3), vec(0..4_u8, 0..2))
            .prop_map(|(owner, back, set, delete)| {
                // A field is either set or deleted, and once.
                let set: BTreeMap<u8, u8> = set.into_iter().collect();
                let delete = delete.into_iter().filter(|name| !set.contains_key(name)).collect();
                Operation::Checkpoint { owner, back, set: set.into_iter().collect(), delete }
            }),
        3 => (0..6_usize).prop_map(|back| Operation::Again { back }),
        1 => (owner.clone(), any::<u8>()).prop_map(|(owner, byte)| Operation::Bury { owner, byte }),
        1 => owner.prop_map(|owner| Operation::Load { owner }),
        1 => Just(Operation::Reconnect),
    ]
}

/// Runs one history on an element of its own, and says where store and model differ.
async fn run(harness: &mut impl Harness, history: &[Operation]) -> Result<(), String> {
    static HISTORY: AtomicU64 = AtomicU64::new(0);
    let number = HISTORY.fetch_add(1, Ordering::Relaxed);
    let mut store = harness.connect().await;
    let mut past = Past::new(element(&format!("model.{}.{number}", std::process::id())));
    for (step, operation) in history.iter().enumerate() {
        if matches!(operation, Operation::Reconnect) {
            store = harness.connect().await;
        }
        if let Some(write) = past.write(operation) {
            perform(step, &store, &mut past.model, write.clone()).await?;
            past.writes.push(write);
        } else {
            past.ask(step, &store, operation).await?;
        }
    }
    finish(&store, &mut past.model).await
}

/// What has happened in a history so far.
struct Past {
    model: Model,
    fences: Vec<Fence>,
    writes: Vec<Write>,
}

impl Past {
    fn new(element: EntityId) -> Self {
        let stranger = Fence {
            element: element.clone(),
            epoch: 0,
            nonce: Nonce(77),
        };
        Self {
            model: Model::new(element),
            fences: vec![stranger],
            writes: Vec::new(),
        }
    }

    /// The fence of the `owner`-th newest claim.
    fn fence(&self, owner: usize) -> Fence {
        self.fences[self.fences.len().saturating_sub(1 + owner)].clone()
    }

    /// The write that `operation` means, if it means one that can be sent again.
    fn write(&self, operation: &Operation) -> Option<Write> {
        match operation {
            Operation::Append {
                owner,
                off,
                count,
                byte,
            } => {
                let expected_head = self.model.head.saturating_add_signed(*off);
                Some(Write::Append {
                    fence: self.fence(*owner),
                    expected_head,
                    last: expected_head + count,
                    bytes: vec![*byte; usize::from(*byte)],
                })
            }
            Operation::Checkpoint {
                owner,
                back,
                set,
                delete,
            } => Some(Write::Checkpoint {
                fence: self.fence(*owner),
                delta: changes(self.model.head.saturating_add_signed(-back), set, delete),
            }),
            Operation::Again { back } => self.writes.iter().rev().nth(*back).cloned(),
            Operation::Claim { .. }
            | Operation::Bury { .. }
            | Operation::Load { .. }
            | Operation::Reconnect => None,
        }
    }

    /// Performs what is not a write that can be sent again.
    async fn ask(
        &mut self,
        step: usize,
        store: &impl StableStore,
        operation: &Operation,
    ) -> Result<(), String> {
        match operation {
            Operation::Claim { nonce, floor } => {
                let claimed = store
                    .claim(&self.model.element, Nonce(*nonce), *floor)
                    .await;
                let (fence, saved) = claimed.map_err(|error| format!("step {step}: {error}"))?;
                same(step, &fence, &self.model.claim(Nonce(*nonce), *floor))?;
                self.fences.push(fence);
                same(step, &unread(saved), &self.model.saved())
            }
            Operation::Bury { owner, byte } => {
                let fence = self.fence(*owner);
                let answer = store.bury(&fence, vec![*byte]).await;
                same(step, &answer, &self.model.bury(&fence, vec![*byte]))
            }
            Operation::Load { owner } => {
                let fence = self.fence(*owner);
                let answer = store.load(&fence).await.map(unread);
                same(
                    step,
                    &answer,
                    &self.model.owned(&fence).map(|()| self.model.saved()),
                )
            }
            Operation::Append { .. }
            | Operation::Checkpoint { .. }
            | Operation::Again { .. }
            | Operation::Reconnect => Ok(()),
        }
    }
}

async fn perform(
    step: usize,
    store: &impl StableStore,
    model: &mut Model,
    write: Write,
) -> Result<(), String> {
    match write {
        Write::Append {
            fence,
            expected_head,
            last,
            bytes,
        } => {
            let answer = store
                .append(&fence, expected_head, last, bytes.clone())
                .await;
            match (model.append(&fence, expected_head, last, bytes), answer) {
                (Taken::First, Ok(at)) => {
                    model.stamp(at);
                    Ok(())
                }
                // The owner knows that it is done, for it has checkpointed past it.
                (Taken::Trimmed, Ok(_) | Err(StoreError::Gap { .. })) => Ok(()),
                (Taken::Before(at), answer) => same(step, &answer, &Ok(at)),
                (Taken::Not(error), answer) => same(step, &answer, &Err(error)),
                (Taken::First | Taken::Trimmed, Err(error)) => Err(format!("step {step}: {error}")),
            }
        }
        Write::Checkpoint { fence, delta } => {
            let answer = store.checkpoint(&fence, delta.clone()).await;
            same(step, &answer, &model.checkpoint(&fence, delta))
        }
    }
}

/// Compares all that is kept.
async fn finish(store: &impl StableStore, model: &mut Model) -> Result<(), String> {
    let end = usize::MAX;
    let summary = store.summary(&model.element).await;
    let seen = summary.map(|seen| {
        seen.map(|seen| Summary {
            checkpoint_at: None,
            ..seen
        })
    });
    same(end, &seen, &Ok(model.summary()))?;
    let letters = store.dead_letters(&model.element).await;
    let letters = letters.map(|all| all.into_iter().map(|one| one.into_vec()).collect());
    same(end, &letters, &Ok(model.letters.clone()))?;
    let (_, saved) = store
        .claim(&model.element, Nonce(99), 0)
        .await
        .map_err(|error| error.to_string())?;
    same(end, &unread(saved), &model.saved())
}

fn same<T: PartialEq + std::fmt::Debug>(step: usize, got: &T, expected: &T) -> Result<(), String> {
    if got == expected {
        return Ok(());
    }
    Err(format!(
        "step {step}: the store answers {got:?}, the model {expected:?}"
    ))
}

fn changes(upto: u64, set: &[(u8, u8)], delete: &[u8]) -> Delta {
    let named: Vec<_> = set
        .iter()
        .map(|(name, value)| (name.to_string(), [*value; 3]))
        .collect();
    let pairs: Vec<_> = named
        .iter()
        .map(|(name, value)| (name.as_str(), &value[..]))
        .collect();
    let names: Vec<_> = delete.iter().map(ToString::to_string).collect();
    delta(
        upto,
        &pairs,
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

/// `saved` without the instant at which it was read, which the model cannot know.
fn unread(saved: Saved) -> Saved {
    Saved {
        read_at: WallClock(0),
        ..saved
    }
}

/// What the model says of an append.
enum Taken {
    /// It is new; the store gives it its time.
    First,
    /// It is there since then.
    Before(WallClock),
    /// It may have been there; a checkpoint has covered it.
    Trimmed,
    /// It is refused.
    Not(StoreError),
}

/// One element's share of the store, as plainly as possible.
struct Model {
    element: EntityId,
    owner: Option<(u64, Nonce)>,
    head: u64,
    checkpoint: u64,
    fields: BTreeMap<String, serde_bytes::ByteBuf>,
    log: Vec<StoredBatch>,
    letters: Vec<Vec<u8>>,
}

impl Model {
    fn new(element: EntityId) -> Self {
        Self {
            element,
            owner: None,
            head: 0,
            checkpoint: 0,
            fields: BTreeMap::new(),
            log: Vec::new(),
            letters: Vec::new(),
        }
    }

    fn claim(&mut self, nonce: Nonce, floor: u64) -> Fence {
        let epoch = match self.owner {
            Some((epoch, owner)) if owner == nonce => epoch,
            Some((epoch, _)) => epoch.max(floor) + 1,
            None => floor + 1,
        };
        self.owner = Some((epoch, nonce));
        Fence {
            element: self.element.clone(),
            epoch,
            nonce,
        }
    }

    fn owned(&self, fence: &Fence) -> Result<(), StoreError> {
        if self.owner == Some((fence.epoch, fence.nonce)) {
            return Ok(());
        }
        let epoch = self.owner.map_or(0, |(epoch, _)| epoch);
        Err(StoreError::Fenced {
            element: self.element.clone(),
            epoch,
        })
    }

    fn gap(&self) -> StoreError {
        StoreError::Gap {
            element: self.element.clone(),
            head: self.head,
        }
    }

    fn append(&mut self, fence: &Fence, expected_head: u64, last: u64, bytes: Vec<u8>) -> Taken {
        if let Err(error) = self.owned(fence) {
            return Taken::Not(error);
        }
        let first = expected_head + 1;
        if let Some(there) = self
            .log
            .iter()
            .find(|one| (one.first, one.last) == (first, last))
        {
            return Taken::Before(there.logged_at);
        }
        if last <= self.checkpoint {
            return Taken::Trimmed;
        }
        if expected_head != self.head {
            return Taken::Not(self.gap());
        }
        self.log.push(StoredBatch {
            first,
            last,
            logged_at: WallClock(0),
            bytes,
        });
        self.head = last;
        Taken::First
    }

    /// Gives the newest batch the time that the store gave it.
    fn stamp(&mut self, at: WallClock) {
        if let Some(newest) = self.log.last_mut() {
            newest.logged_at = at;
        }
    }

    fn checkpoint(&mut self, fence: &Fence, delta: Delta) -> Result<(), StoreError> {
        self.owned(fence)?;
        if delta.upto < self.checkpoint || delta.upto > self.head {
            return Err(self.gap());
        }
        self.checkpoint = delta.upto;
        self.fields.extend(delta.set);
        for name in delta.delete {
            self.fields.remove(&name);
        }
        self.log.retain(|one| one.last > delta.upto);
        Ok(())
    }

    fn bury(&mut self, fence: &Fence, letter: Vec<u8>) -> Result<(), StoreError> {
        self.owned(fence)?;
        self.letters.push(letter);
        Ok(())
    }

    fn saved(&self) -> Saved {
        Saved {
            head: self.head,
            checkpoint: self.checkpoint,
            fields: self.fields.clone(),
            log: self.log.clone(),
            read_at: WallClock(0),
        }
    }

    fn summary(&self) -> Option<Summary> {
        self.owner.map(|(epoch, _)| Summary {
            epoch,
            head: self.head,
            checkpoint: self.checkpoint,
            checkpoint_at: None,
        })
    }
}
