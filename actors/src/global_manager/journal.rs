//! The manager's journal in the stable store: the log of an element that no topology can name.
//!
//! Who opens it claims it, as the host of an element does. The epoch of the claim is the manager's term,
//! and a manager that was replaced is shut out at its next write.

use std::rc::Rc;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::global_manager::Input;
use lamplighter_policies::protocol::global_manager::ledger::{Entry, Ledger};
use lamplighter_runtime::message_pack;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::{
    Delta, Fence, Nonce, Saved, StableStore, StoreError, StoredBatch, codec,
};
use lamplighter_runtime::transport::tls::Security;
use serde_bytes::ByteBuf;
use tokio::sync::{OnceCell, mpsc};

use crate::shell::Role;
use crate::spec::StoreAccess;

/// The element whose log the journal is. The configuration refuses it as a name for anything else.
pub(crate) const JOURNAL: &str = "lamplighter.manager";

/// The field of its checkpoint.
const LEDGER: &str = "ledger";

/// The first wait before a store that is out of reach is asked again; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How the store is reached.
#[derive(Clone, Debug)]
pub(super) struct JournalStore {
    pub(super) application: EntityId,
    pub(super) access: StoreAccess,
    /// The store itself, if this process has it open.
    pub(super) here: Option<AnyStore>,
    /// Who we are to it.
    pub(super) security: Security,
}

/// The journal of one incarnation of the manager.
pub(super) struct Journal {
    opened: Rc<OnceCell<Opened>>,
    role: Role<Input>,
    refused: mpsc::Sender<StoreError>,
}

struct Opened {
    store: AnyStore,
    fence: Fence,
}

/// What was read when it was opened.
struct Read {
    ledger: Ledger,
    folded: u64,
    entries: Vec<Entry>,
}

impl Journal {
    /// Claims the journal, however long the store is out of reach, and tells the manager what it says.
    pub(super) fn open(
        access: JournalStore,
        role: Role<Input>,
        refused: mpsc::Sender<StoreError>,
    ) -> Self {
        let opened = Rc::new(OnceCell::new());
        let (cell, to, refuse) = (Rc::clone(&opened), role.clone(), refused.clone());
        actix_rt::spawn(async move {
            let outcome = claim(&access, &to).await.and_then(|(store, fence, saved)| {
                let read = read(&fence.element, &saved)?;
                Ok((Opened { store, fence }, read))
            });
            if Rc::strong_count(&cell) == 1 {
                return;
            }
            match outcome {
                Ok((opened, read)) => {
                    let term = opened.fence.epoch;
                    tracing::info!(term, entries = read.entries.len(), "the journal is open");
                    drop(cell.set(opened));
                    to.tell(Input::Restored {
                        term,
                        ledger: Box::new(read.ledger),
                        folded: read.folded,
                        entries: read.entries,
                    });
                }
                Err(error) => drop(refuse.try_send(error)),
            }
        });
        Self {
            opened,
            role,
            refused,
        }
    }

    /// Makes entries stable and says so. What the store cannot take now it is given again.
    pub(super) fn append(&self, first: u64, entries: Vec<Entry>) {
        let Some(Opened { store, fence }) = self.opened.get() else {
            return tracing::error!("decisions were taken before the journal was open");
        };
        let (upto, bytes) = encode(&fence.element, first, &entries);
        let (store, fence) = (store.clone(), fence.clone());
        let (role, refused) = (self.role.clone(), self.refused.clone());
        // The manager may be made anew in this process, and then this journal is nobody's.
        let owner = Rc::downgrade(&self.opened);
        let mut appending = store.append(&fence, first - 1, upto, bytes.clone()).boxed();
        actix_rt::spawn(async move {
            let mut wait = RETRY_MIN;
            loop {
                let answer = appending.await;
                if owner.strong_count() == 0 {
                    return;
                }
                match answer {
                    Ok(_) => return role.tell(Input::Journalled { upto }),
                    Err(error @ StoreError::Unavailable { .. }) => {
                        tracing::warn!(%error, "the journal waits for the store");
                        let reason = error.to_string();
                        role.tell(Input::JournalDelayed { reason });
                    }
                    Err(error) => return drop(refused.try_send(error)),
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
                appending = store.append(&fence, first - 1, upto, bytes.clone()).boxed();
            }
        });
    }

    /// Folds the journal into its checkpoint and says whether that was done.
    pub(super) fn fold(&self, upto: u64, ledger: Ledger) {
        let Some(Opened { store, fence }) = self.opened.get() else {
            return;
        };
        let mut bytes = Vec::new();
        if let Err(error) = message_pack::encode_into(&mut bytes, &ledger) {
            return tracing::error!(%error, "the journal cannot be folded, and grows");
        }
        let sealed = codec::encode_field(&fence.element, LEDGER, &bytes);
        let delta = Delta {
            upto,
            set: vec![(LEDGER.to_owned(), ByteBuf::from(sealed))],
            delete: Vec::new(),
        };
        let folding = store.checkpoint(fence, delta);
        let (role, refused) = (self.role.clone(), self.refused.clone());
        let owner = Rc::downgrade(&self.opened);
        actix_rt::spawn(async move {
            let answer = folding.await;
            if owner.strong_count() == 0 {
                return;
            }
            let upto = match answer {
                Ok(()) => Some(upto),
                Err(error @ (StoreError::Unavailable { .. } | StoreError::Gap { .. })) => {
                    tracing::warn!(%error, "the journal is folded later");
                    None
                }
                Err(error) => return drop(refused.try_send(error)),
            };
            role.tell(Input::Folded { upto });
        });
    }
}

/// Becomes the owner of the journal, however long the store is out of reach.
async fn claim(
    access: &JournalStore,
    role: &Role<Input>,
) -> Result<(AnyStore, Fence, Saved), StoreError> {
    let element = EntityId::new(JOURNAL).expect("it is a good name");
    let nonce = Nonce(rand::random());
    let mut wait = RETRY_MIN;
    loop {
        let attempt = async {
            let store = match &access.here {
                Some(store) => store.clone(),
                None => {
                    let connecting = access.access.connect(&access.application, &access.security);
                    connecting.await?
                }
            };
            let (fence, saved) = store.claim(&element, nonce, 0).await?;
            Ok((store, fence, saved))
        };
        match attempt.await {
            Ok(owned) => return Ok(owned),
            Err(error @ StoreError::Unavailable { .. }) => {
                tracing::warn!(%error, ?wait, "the manager waits for its journal");
                let reason = error.to_string();
                role.tell(Input::JournalDelayed { reason });
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The place of a batch, as part of its checksum.
fn place(first: u64, last: u64) -> String {
    format!("journal {first} to {last}")
}

/// The entries from `first` on as they are stored, and the number of the last.
fn encode(journal: &EntityId, first: u64, entries: &[Entry]) -> (u64, Vec<u8>) {
    let last = first + entries.len() as u64 - 1;
    let mut bytes = Vec::new();
    message_pack::encode_into(&mut bytes, &entries)
        .expect("entries consist of types that MessagePack has");
    let sealed = codec::encode_field(journal, &place(first, last), &bytes);
    (last, sealed)
}

/// All that the journal says.
fn read(journal: &EntityId, saved: &Saved) -> Result<Read, StoreError> {
    let damaged = |place: String, reason: String| StoreError::Damaged {
        element: journal.clone(),
        place,
        reason,
    };
    let ledger = match saved.fields.get(LEDGER) {
        None => Ledger::default(),
        Some(sealed) => {
            let body = codec::decode_field(journal, LEDGER, sealed)?;
            let decoded = message_pack::decode(body);
            decoded.map_err(|fault| damaged(LEDGER.into(), fault.to_string()))?
        }
    };
    let mut entries = Vec::new();
    for StoredBatch {
        first, last, bytes, ..
    } in &saved.log
    {
        let place = place(*first, *last);
        let body = codec::decode_field(journal, &place, bytes)?;
        let batch: Vec<Entry> = message_pack::decode(body)
            .map_err(|fault| damaged(place.clone(), fault.to_string()))?;
        if first + batch.len() as u64 != last + 1 {
            return Err(damaged(place, format!("it holds {} entries", batch.len())));
        }
        let covered = (saved.checkpoint + 1).saturating_sub(*first);
        let covered = usize::try_from(covered).unwrap_or(usize::MAX);
        entries.extend(batch.into_iter().skip(covered));
    }
    Ok(Read {
        ledger,
        folded: saved.checkpoint,
        entries,
    })
}

/// Nothing but a way to name a future that is made in two places.
trait Boxed: Future + Sized + 'static {
    fn boxed(self) -> std::pin::Pin<Box<dyn Future<Output = Self::Output>>> {
        Box::pin(self)
    }
}

impl<F: Future + 'static> Boxed for F {}

#[cfg(test)]
mod tests {
    use lamplighter_policies::protocol::global_manager::ledger::Change;
    use lamplighter_policies::time::WallClock;

    use super::*;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn entry(server: &str) -> Entry {
        let change = Change::Drained {
            server: id(server),
            drained: true,
        };
        Entry {
            at: WallClock(7),
            change,
        }
    }

    fn batch(first: u64, entries: &[Entry]) -> StoredBatch {
        let (last, bytes) = encode(&id(JOURNAL), first, entries);
        StoredBatch {
            first,
            last,
            logged_at: WallClock(9),
            bytes,
        }
    }

    #[test]
    fn a_journal_is_read_as_it_was_written_without_what_its_checkpoint_covers() {
        let saved = Saved {
            head: 3,
            checkpoint: 1,
            log: vec![
                batch(1, &[entry("pc"), entry("rpi1")]),
                batch(3, &[entry("rpi2")]),
            ],
            ..Saved::default()
        };
        let read = read(&id(JOURNAL), &saved).unwrap();
        assert_eq!(read.entries, [entry("rpi1"), entry("rpi2")]);
        assert_eq!(read.folded, 1);
    }

    #[test]
    fn a_damaged_journal_is_refused_with_the_place_of_the_damage() {
        let mut batch = batch(1, &[entry("pc")]);
        *batch.bytes.last_mut().unwrap() ^= 1;
        let saved = Saved {
            head: 1,
            log: vec![batch],
            ..Saved::default()
        };
        let Err(error) = read(&id(JOURNAL), &saved) else {
            panic!("it was read");
        };
        assert!(error.to_string().contains("journal 1 to 1"), "{error}");
    }
}
