//! Performs what a cell asks of the stable store.

use std::cell::RefCell;
use std::rc::Rc;

use lamplighter_policies::physical_world::EventId;
use lamplighter_policies::protocol::cell::{Cause, Input, Meta};
use lamplighter_policies::state_saving::{Lost, Orphaned, Record, Timing, delta};
use lamplighter_runtime::clock;
use lamplighter_runtime::store::local::Flushed;
use lamplighter_runtime::store::{Delta, StableStore, StoreError, codec};
use serde_bytes::ByteBuf;

use super::body::{Body, Surroundings};
use super::performer::Performer;
use super::saved;
use crate::dead_letter::DeadLetter;
use crate::shell::Role;

/// How often the store is asked for its clock in a row, when its answers contradict each other.
const MEASURES_MAX: usize = 3;

impl Performer {
    pub(super) fn append(&self, first: u64, records: &[Record], role: &Role<Input>) {
        let last = first + records.len() as u64 - 1;
        let bytes = codec::encode_batch(self.id(), first, records);
        let appending = self
            .around
            .store
            .append(&self.fence(), first - 1, last, bytes);
        let asked_at = clock::monotonic();
        let (role, body, around) = (role.clone(), Rc::clone(&self.body), self.around.clone());
        actix_rt::spawn(async move {
            let answer = match appending.await {
                Ok(logged_at) => {
                    // The stamp of a local log is our own.
                    let of_the_store = around.spec.saving == Timing::Pessimistic;
                    let first_try = of_the_store && body.borrow().tried_upto < last;
                    if first_try && around.clock.logged(asked_at, logged_at) {
                        measure(&body, &around, &role);
                    }
                    body.borrow_mut().trouble = None;
                    // A local log proves nothing.
                    if of_the_store {
                        Self::proven(&body, &around, asked_at, &role);
                    }
                    Input::Appended { last, logged_at }
                }
                Err(error) => {
                    let mut body = body.borrow_mut();
                    body.tried_upto = body.tried_upto.max(last);
                    body.trouble = Some(error.to_string());
                    Input::AppendFailed {
                        last,
                        cause: cause(error),
                    }
                }
            };
            role.tell(answer);
        });
    }

    pub(super) fn checkpoint(&self, upto: u64, meta: &Meta, role: &Role<Input>) {
        let began = clock::monotonic();
        let state = self.body.borrow_mut().hosted.save();
        let current = match state {
            Ok(state) => saved::fields(state, meta),
            Err(fault) => {
                let cause = Cause::Refused(fault.to_string());
                return role.tell(Input::CheckpointFailed { cause });
            }
        };
        let changes = delta(&self.body.borrow().committed, &current);
        let seal = |(name, bytes): (String, Vec<u8>)| {
            let sealed = codec::encode_field(self.id(), &name, &bytes);
            (name, ByteBuf::from(sealed))
        };
        let set = changes.set.into_iter().map(seal).collect();
        let change = Delta {
            upto,
            set,
            delete: changes.delete,
        };
        let asked_at = clock::monotonic();
        let checkpointing = self.around.store.checkpoint(&self.fence(), change);
        let (role, body, around) = (role.clone(), Rc::clone(&self.body), self.around.clone());
        actix_rt::spawn(async move {
            let answer = match checkpointing.await {
                Ok(()) => {
                    if around.spec.saving == Timing::Pessimistic {
                        Self::proven(&body, &around, asked_at, &role);
                    }
                    let mut body = body.borrow_mut();
                    body.committed = current;
                    body.checkpoint = upto;
                    body.checkpoint_took = Some(clock::monotonic() - began);
                    Input::Checkpointed { upto }
                }
                Err(error) => Input::CheckpointFailed {
                    cause: cause(error),
                },
            };
            role.tell(answer);
        });
    }

    /// Makes what is only local stable.
    pub(super) fn flush(&self, role: &Role<Input>) {
        let flushing = self.around.store.flush(&self.fence());
        let asked_at = clock::monotonic();
        let (role, body, around) = (role.clone(), Rc::clone(&self.body), self.around.clone());
        actix_rt::spawn(async move {
            role.tell(match flushing.await {
                Ok(Flushed { upto, logged_at }) => {
                    if logged_at.is_some_and(|at| around.clock.logged(asked_at, at)) {
                        measure(&body, &around, &role);
                    }
                    // Where nothing was written, nothing was asked either.
                    if logged_at.is_some() {
                        Self::proven(&body, &around, asked_at, &role);
                    }
                    body.borrow_mut().trouble = None;
                    Input::Flushed { upto }
                }
                Err(error) => {
                    body.borrow_mut().trouble = Some(error.to_string());
                    Input::FlushFailed {
                        cause: cause(error),
                    }
                }
            });
        });
    }

    pub(super) fn lost(&self, lost: &Lost) {
        let Lost {
            lineage,
            from,
            reason,
            ..
        } = lost;
        let what = format!("records from {from} on, of the lineage before {lineage}");
        self.bury(*from, &what, &format!("they may be lost: {reason}"));
    }

    pub(super) fn orphaned(&self, orphaned: &Orphaned) {
        let Orphaned {
            binding,
            source,
            after,
            upto,
        } = orphaned;
        let id = |position| EventId {
            source: source.clone(),
            position,
        };
        let what = format!(
            "events on {binding} after {}, up to {}",
            id(*after),
            id(*upto)
        );
        let cause = format!(
            "they are orphans: {source} lost what led to them with its server, and does not know of \
             them; what followed from them here stays"
        );
        self.bury(upto.index, &what, &cause);
    }

    pub(super) fn bury(&self, index: u64, what: &str, cause: &str) {
        tracing::error!(element = %self.id(), index, what, cause, "given up; it is among the dead letters");
        let bytes = letter(index, what, cause);
        let (store, fence) = (self.around.store.clone(), self.fence());
        actix_rt::spawn(async move {
            if let Err(error) = store.bury(&fence, bytes).await {
                tracing::error!(%error, "a dead letter is only in this trace");
            }
        });
    }
}

/// Asks the store what its clock reads, until nothing contradicts the answer.
pub(super) fn measure(body: &Rc<RefCell<Body>>, around: &Surroundings, role: &Role<Input>) {
    let Some(fence) = body.borrow().fence.clone() else {
        return;
    };
    let (around, role) = (around.clone(), role.clone());
    actix_rt::spawn(async move {
        for _ in 0..MEASURES_MAX {
            let asked_at = clock::monotonic();
            match around.store.prove(&fence).await {
                Ok(store) if around.clock.measured(asked_at, store) => {}
                // What waited because nothing was sure is looked at again.
                Ok(_) => return role.tell(Input::Proven { asked_at }),
                // The next answer of the store tells as well.
                Err(error) => {
                    return tracing::debug!(%error, "the store's clock is not known now");
                }
            }
        }
    });
}

pub(super) fn letter(index: u64, what: &str, cause: &str) -> Vec<u8> {
    let (what, cause) = (what.to_owned(), cause.to_owned());
    let at = clock::wall().0;
    DeadLetter {
        index,
        what,
        cause,
        at,
    }
    .encode()
}

/// What the cell must know of a store's error.
pub(super) fn cause(error: StoreError) -> Cause {
    match error {
        StoreError::Gap { head, .. } => Cause::Gap { head },
        StoreError::Unavailable { .. } => Cause::Unavailable(error.to_string()),
        StoreError::Fenced { .. } => Cause::Fenced(error.to_string()),
        StoreError::Refused { .. } | StoreError::Damaged { .. } => {
            Cause::Refused(error.to_string())
        }
    }
}
