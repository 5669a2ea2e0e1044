//! The saved form of an element's fields, and how they are restored.

use std::cell::RefCell;
use std::rc::Rc;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::cell::{Input, Meta, Restored};
use lamplighter_policies::state_saving::wait_for_store;
use lamplighter_runtime::clock;
use lamplighter_runtime::message_pack;
use lamplighter_runtime::store::{Fence, Saved, StableStore, StoreError, codec};

use super::body::{Body, Surroundings};
use super::{direct, ending, leasing, storing};
use crate::encoding::{self, Encoded};
use crate::instance::SavedFields;
use crate::shell::Role;

/// Before the names of the element's own fields.
const STATE: char = '.';
/// Before the names of the cell's fields.
const META: char = '@';

/// All fields that a checkpoint holds.
pub(super) fn fields(state: SavedFields, meta: &Meta) -> SavedFields {
    let meta = Encoded::of(meta).expect("the cell's own values encode");
    let named =
        |prefix: char| move |(name, bytes): (String, Vec<u8>)| (format!("{prefix}{name}"), bytes);
    let meta = encoding::fields(meta.bytes()).into_iter().map(named(META));
    state.into_iter().map(named(STATE)).chain(meta).collect()
}

/// Takes a checkpoint's fields apart again.
fn apart(fields: &SavedFields) -> Result<(SavedFields, Meta), String> {
    let of = |prefix: char| {
        let mine = fields
            .iter()
            .filter_map(move |(name, bytes)| Some((name.strip_prefix(prefix)?, bytes)));
        mine.map(|(name, bytes)| (name.to_owned(), bytes.clone()))
            .collect::<SavedFields>()
    };
    let meta = of(META);
    if meta.is_empty() {
        return Ok((of(STATE), Meta::default()));
    }
    let pieces = meta
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let meta = message_pack::decode(&encoding::join(pieces)).map_err(|e| e.to_string())?;
    Ok((of(STATE), meta))
}

/// Reads what is saved, makes an instance from it, and tells the cell.
pub(super) struct Restoring {
    body: Rc<RefCell<Body>>,
    around: Surroundings,
}

/// Why an element cannot be restored, and whether another start may help.
struct Hopeless {
    cause: String,
    restart_may_help: bool,
}

impl Restoring {
    pub(super) fn new(body: &Rc<RefCell<Body>>, around: &Surroundings) -> Self {
        Self {
            body: Rc::clone(body),
            around: around.clone(),
        }
    }

    pub(super) fn start(self, role: Role<Input>) {
        actix_rt::spawn(async move {
            match self.run(&role).await {
                Ok(restored) => role.tell(Input::Restored(restored)),
                Err(Hopeless {
                    cause,
                    restart_may_help,
                }) => {
                    ending::give_up(&self.body, &self.around, cause, restart_may_help).await;
                }
            }
        });
    }

    async fn run(&self, role: &Role<Input>) -> Result<Restored, Hopeless> {
        let saved = self.saved(role).await?;
        let element = &self.around.spec.id;
        let hopeless = |cause: String| Hopeless {
            cause,
            restart_may_help: false,
        };
        let fields = unseal(element, &saved).map_err(|error| hopeless(quarantine(&error)))?;
        let (state, mut restored) = decoded(element, &saved).map_err(hopeless)?;
        restored.stable = restored.head.min(self.around.store.flushed());
        let opened = direct::open(&self.body, &self.around, role).await;
        opened.map_err(|cause| Hopeless {
            cause,
            restart_may_help: true,
        })?;
        let mut body = self.body.borrow_mut();
        body.hosted
            .make(&state)
            .map_err(|fault| hopeless(fault.to_string()))?;
        body.committed = fields;
        body.checkpoint = restored.checkpoint;
        body.restored_at = clock::monotonic();
        Ok(restored)
    }

    /// Claims the element at first, and reads it again later. A store out of reach is waited for.
    async fn saved(&self, role: &Role<Input>) -> Result<Saved, Hopeless> {
        let mut failures = 0;
        loop {
            let (fence, nonce, floor) = {
                let body = self.body.borrow();
                (body.fence.clone(), body.nonce, body.epoch_floor)
            };
            let element = &self.around.spec.id;
            let store = &self.around.store;
            let asked_at = clock::monotonic();
            let outcome: Result<(Fence, Saved), StoreError> = match fence {
                None => store.claim(element, nonce, floor).await,
                Some(fence) => store.load(&fence).await.map(|saved| (fence, saved)),
            };
            match outcome {
                Ok((fence, saved)) => {
                    let mut body = self.body.borrow_mut();
                    if body.fence.is_none() {
                        body.free_at = leasing::free_at(&body, &self.around.spec, &fence, &saved);
                    }
                    // A mended element waits for the owner before as long as it would have had to.
                    let free_at = body.free_at;
                    body.fence = Some(fence);
                    body.proven_at = Some(asked_at);
                    body.trouble = None;
                    drop(body);
                    role.tell(Input::Claimed { asked_at, free_at });
                    if self.around.clock.logged(asked_at, saved.read_at) {
                        storing::measure(&self.body, &self.around, role);
                    }
                    return Ok(saved);
                }
                Err(error @ StoreError::Unavailable { .. }) => {
                    tracing::warn!(%element, %error, "waits for the store");
                    self.body.borrow_mut().trouble = Some(error.to_string());
                    tokio::time::sleep(wait_for_store(failures)).await;
                    failures = failures.saturating_add(1);
                }
                Err(error) => {
                    return Err(Hopeless {
                        cause: quarantine(&error),
                        restart_may_help: false,
                    });
                }
            }
        }
    }
}

/// The element's own fields and what the cell must know, from what the store keeps.
pub(super) fn decoded(
    element: &EntityId,
    saved: &Saved,
) -> Result<(SavedFields, Restored), String> {
    let fields = unseal(element, saved).map_err(|error| quarantine(&error))?;
    let log = saved
        .log
        .iter()
        .map(|batch| codec::decode_batch(element, batch));
    let log = log
        .collect::<Result<_, _>>()
        .map_err(|error| quarantine(&error))?;
    let (state, meta) = apart(&fields)
        .map_err(|reason| format!("the checkpoint of {element} does not decode: {reason}"))?;
    let restored = Restored {
        checkpoint: saved.checkpoint,
        head: saved.head,
        meta,
        log,
        stable: saved.head,
    };
    Ok((state, restored))
}

fn unseal(element: &EntityId, saved: &Saved) -> Result<SavedFields, StoreError> {
    let open = |(name, sealed): (&String, &serde_bytes::ByteBuf)| {
        Ok((
            name.clone(),
            codec::decode_field(element, name, sealed)?.to_vec(),
        ))
    };
    saved.fields.iter().map(open).collect()
}

fn quarantine(error: &StoreError) -> String {
    match error {
        StoreError::Damaged { .. } => format!("quarantined: {error}"),
        StoreError::Fenced { .. }
        | StoreError::Gap { .. }
        | StoreError::Unavailable { .. }
        | StoreError::Refused { .. } => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_meta_share_one_map_without_mixing() {
        let state: SavedFields = [("lineage".to_owned(), vec![0x07])].into();
        let meta = Meta {
            lineage: 3,
            ..Meta::default()
        };
        let both = fields(state.clone(), &meta);
        assert_eq!(apart(&both), Ok((state, meta)));
    }

    #[test]
    fn an_element_that_was_never_saved_has_no_fields() {
        assert_eq!(
            apart(&SavedFields::new()),
            Ok((SavedFields::new(), Meta::default()))
        );
    }
}
