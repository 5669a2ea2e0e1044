//! What the element of these tests asks of its store, with answers that may be lost.

use lamplighter_policies::protocol::cell::{Cause, Input, Meta};
use lamplighter_policies::state_saving::{Record, delta};
use lamplighter_runtime::store::{Delta, StableStore, codec};
use serde_bytes::ByteBuf;

use super::element::{cause, fields_of};
use super::{Hazard, World, Write};

impl<S: StableStore + 'static, H: Hazard> World<S, H> {
    pub(super) fn start_append(&mut self, first: u64, records: &[Record]) {
        let last = first + records.len() as u64 - 1;
        let lost = move || Input::AppendFailed {
            last,
            cause: Cause::Unavailable("no answer".into()),
        };
        let roll = self.hazard.roll();
        let fence = self.process().fence.clone();
        let write: Write = match roll {
            2..=4 => Box::pin(std::future::ready((lost(), None))),
            _ => {
                let appending = self.append(&fence, first, records);
                Box::pin(async move {
                    let answer = match appending.await {
                        _ if (5..=7).contains(&roll) => lost(),
                        Ok(logged_at) => Input::Appended { last, logged_at },
                        Err(error) => Input::AppendFailed {
                            last,
                            cause: cause(error),
                        },
                    };
                    (answer, None)
                })
            }
        };
        self.process().writes.push(write);
    }

    pub(super) fn start_flush(&mut self) {
        let roll = self.hazard.roll();
        let fence = self.process().fence.clone();
        let lost = || Input::FlushFailed {
            cause: Cause::Unavailable("no answer".into()),
        };
        let flushing = match roll {
            2..=20 => None,
            _ => Some(self.store.flush(&fence)),
        };
        let write: Write = match flushing {
            None => Box::pin(std::future::ready((lost(), None))),
            Some(flushing) => Box::pin(async move {
                let answer = match flushing.await {
                    _ if (21..=30).contains(&roll) => lost(),
                    Ok(flushed) => Input::Flushed { upto: flushed.upto },
                    Err(error) => Input::FlushFailed {
                        cause: cause(error),
                    },
                };
                (answer, None)
            }),
        };
        self.process().writes.push(write);
    }

    pub(super) fn start_checkpoint(&mut self, upto: u64, meta: &Meta) {
        let process = self.process.as_mut().expect("called by a process");
        let mut current = process.state.clone().expect("an instance");
        current.extend(fields_of(meta));
        let changes = delta(&process.committed, &current);
        let seal = |(name, body): (String, Vec<u8>)| {
            let sealed = codec::encode_field(&self.element, &name, &body);
            (name, ByteBuf::from(sealed))
        };
        let change = Delta {
            upto,
            set: changes.set.into_iter().map(seal).collect(),
            delete: changes.delete,
        };
        let checkpointing = self.store.checkpoint(&process.fence, change);
        process.writes.push(Box::pin(async move {
            match checkpointing.await {
                Ok(()) => (Input::Checkpointed { upto }, Some(current)),
                Err(error) => {
                    let cause = cause(error);
                    (Input::CheckpointFailed { cause }, None)
                }
            }
        }));
    }
}
