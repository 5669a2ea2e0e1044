//! The directory of an element's local log: an embedded store of its own, whose indices are those of
//! the element's log less a base.

use std::path::{Path, PathBuf};

use futures_util::future::LocalBoxFuture;
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::state_saving::Found;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::LocalPlace;
use crate::message_pack;
use crate::store::embedded::{Embedded, OpenError, Options};
use crate::store::{Delta, Fence, StableStore, StoreError, StoredBatch, codec};

/// How long a segment is, in bytes: an element's own log is short, and is made on devices that may
/// be small.
const SEGMENT_BYTES: u64 = 256 << 10;

/// The field that says how the log is to be read.
const FORM_FIELD: &str = "form";

/// How the records of a local log are to be read; written in one step with the end of those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Form {
    /// Drawn when the directory is made.
    id: u128,
    /// What to add to its indices.
    base: i64,
}

/// A local log that was found, not yet written to.
#[derive(Debug)]
pub(super) struct FoundLog {
    store: Embedded,
    form: Option<Form>,
    /// The index of the last record, in the element's log.
    head: u64,
    tail: Vec<StoredBatch>,
    damage: Option<String>,
}

/// A local log that this incarnation writes to.
#[derive(Clone, Debug)]
pub(super) struct LocalLog {
    store: Embedded,
    fence: Fence,
    form: Form,
}

impl LocalPlace {
    /// Looks for the log of an earlier incarnation.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] while another process has it, which must end first.
    pub(super) async fn find(
        &self,
        element: &EntityId,
    ) -> Result<Result<FoundLog, String>, StoreError> {
        if !self.directory.exists() {
            return Ok(Err(format!("{} is gone", self.directory.display())));
        }
        let store = match self.open().await? {
            Ok(store) => store,
            Err(reason) => return Ok(Err(reason)),
        };
        let (saved, mut damage) = match store.salvage(element).await {
            Ok(salvaged) => salvaged,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let form = match saved.fields.get(FORM_FIELD) {
            None => None,
            Some(sealed) => match Form::read(element, sealed) {
                Ok(form) => Some(form),
                Err(reason) => {
                    damage.get_or_insert(reason);
                    None
                }
            },
        };
        let tail = form.map_or_else(Vec::new, |form| {
            let batches = saved.log.into_iter();
            batches.map(|batch| form.in_the_element(batch)).collect()
        });
        let head = match (&damage, form) {
            // What a damaged log says of its head may lie behind the damage.
            (Some(_), Some(form)) => tail
                .last()
                .map_or(form.outward(saved.checkpoint), |batch| batch.last),
            (None, Some(form)) => form.outward(saved.head),
            (_, None) => 0,
        };
        Ok(Ok(FoundLog {
            store,
            form,
            head,
            tail,
            damage,
        }))
    }

    /// Begins to write after `head`: in the log that was found, or in a new one.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the directory cannot be used.
    pub(super) async fn begin(
        &self,
        found: Option<FoundLog>,
        fence: &Fence,
        head: u64,
    ) -> Result<LocalLog, StoreError> {
        let usable = match found {
            Some(found) if found.damage.is_none() => Some(found),
            Some(damaged) => {
                damaged.store.close().await;
                None
            }
            None => None,
        };
        let (store, id) = match usable {
            Some(found) => (found.store, found.form.map(|form| form.id)),
            None => {
                self.set_aside()?;
                let opened = self.open().await?;
                let store = opened.map_err(|reason| StoreError::Refused {
                    attempted: format!("beginning the local log of {}", fence.element),
                    reason,
                    cure: "cure the disk, or place the element on another server".into(),
                })?;
                (store, None)
            }
        };
        let (local, saved) = store
            .claim(&fence.element, fence.nonce, fence.epoch - 1)
            .await?;
        let form = Form {
            id: id.unwrap_or_else(rand::random),
            base: head.cast_signed().wrapping_sub(saved.head.cast_signed()),
        };
        let delta = Delta {
            upto: saved.head,
            set: vec![(FORM_FIELD.into(), form.write(&fence.element))],
            delete: Vec::new(),
        };
        store.checkpoint(&local, delta).await?;
        Ok(LocalLog {
            store,
            fence: local,
            form,
        })
    }

    /// Opens or makes the directory; why it cannot be read, if it cannot.
    async fn open(&self) -> Result<Result<Embedded, String>, StoreError> {
        let options = Options {
            durability: self.durability,
            segment_bytes: SEGMENT_BYTES,
            ..Options::default()
        };
        let directory = self.directory.clone();
        let attempted = || format!("opening the local log in {}", self.directory.display());
        let opening = tokio::task::spawn_blocking(move || Embedded::open(&directory, options));
        let opened = opening.await.map_err(|error| StoreError::Unavailable {
            attempted: attempted(),
            reason: error.to_string(),
        })?;
        match opened {
            Ok(store) => Ok(Ok(store)),
            Err(error @ OpenError::InUse(_)) => Err(StoreError::Unavailable {
                attempted: attempted(),
                reason: error.to_string(),
            }),
            Err(error @ OpenError::Foreign { .. }) => Err(StoreError::Refused {
                attempted: attempted(),
                reason: error.to_string(),
                cure: "nothing in it is lost as long as it is there".into(),
            }),
            Err(error @ OpenError::Unusable { .. }) => Ok(Err(error.to_string())),
        }
    }

    /// What cannot be read is kept for people, beside the new one.
    fn set_aside(&self) -> Result<(), StoreError> {
        if !self.directory.exists() {
            return Ok(());
        }
        let aside = aside(&self.directory);
        tracing::error!(from = %self.directory.display(), to = %aside.display(),
            "a local log that cannot be read is set aside");
        std::fs::rename(&self.directory, &aside).map_err(|error| StoreError::Refused {
            attempted: format!("setting {} aside", self.directory.display()),
            reason: error.to_string(),
            cure: "move it away, or place the element on another server".into(),
        })
    }
}

fn aside(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(format!(".damaged-{}", crate::clock::wall().0));
    name.into()
}

impl FoundLog {
    /// What a policy must know of it.
    pub(super) fn found(&self, boot: String) -> Found {
        match self.form {
            None => {
                let empty = "it holds nothing of the element".to_owned();
                Found::Nothing(self.damage.clone().unwrap_or(empty))
            }
            Some(form) => Found::Log {
                id: form.id,
                head: self.head,
                damage: self.damage.clone(),
                boot,
            },
        }
    }

    /// The batches after `head`, without a gap.
    pub(super) fn after(&self, head: u64) -> Vec<StoredBatch> {
        let mut end = head;
        let later = self.tail.iter().filter(|batch| batch.first > head);
        later
            .take_while(|batch| {
                let joined = batch.first == end + 1;
                end = batch.last;
                joined
            })
            .cloned()
            .collect()
    }

    pub(super) async fn close(self) {
        self.store.close().await;
    }
}

impl LocalLog {
    pub(super) fn id(&self) -> u128 {
        self.form.id
    }

    /// Makes a batch durable here, as the stable store will have it; see [`StableStore::append`]. The
    /// indices are those of the element's log.
    pub(super) fn append(
        &self,
        expected_head: u64,
        last: u64,
        bytes: Vec<u8>,
    ) -> LocalBoxFuture<'static, Result<(), StoreError>> {
        let form = self.form;
        let (before, last) = (form.inward(expected_head), form.inward(last));
        let appending = self.store.append(&self.fence, before, last, bytes);
        let appended = async move {
            match appending.await {
                Ok(_) => Ok(()),
                Err(StoreError::Gap { element, head }) => Err(StoreError::Gap {
                    element,
                    head: form.outward(head),
                }),
                Err(error) => Err(error),
            }
        };
        Box::pin(appended)
    }

    /// Forgets what a stable checkpoint covers.
    pub(super) fn trim(&self, upto: u64) -> LocalBoxFuture<'static, Result<(), StoreError>> {
        let upto = self.form.inward(upto);
        // A checkpoint from before this log's first record covers nothing of it.
        let within = upto.cast_signed() > 0;
        let delta = Delta {
            upto,
            ..Delta::default()
        };
        let trimming = within.then(|| self.store.checkpoint(&self.fence, delta));
        Box::pin(async move {
            match trimming {
                None => Ok(()),
                Some(trimming) => match trimming.await {
                    // A retried checkpoint may come behind one that covers more.
                    Ok(()) | Err(StoreError::Gap { .. }) => Ok(()),
                    Err(error) => Err(error),
                },
            }
        })
    }

    pub(super) async fn close(&self) {
        self.store.close().await;
    }
}

impl Form {
    fn inward(self, index: u64) -> u64 {
        index.wrapping_add_signed(self.base.wrapping_neg())
    }

    fn outward(self, index: u64) -> u64 {
        index.wrapping_add_signed(self.base)
    }

    fn in_the_element(self, batch: StoredBatch) -> StoredBatch {
        StoredBatch {
            first: self.outward(batch.first),
            last: self.outward(batch.last),
            ..batch
        }
    }

    fn read(element: &EntityId, sealed: &[u8]) -> Result<Self, String> {
        let body = codec::decode_field(element, FORM_FIELD, sealed);
        let body = body.map_err(|error| error.to_string())?;
        message_pack::decode(body).map_err(|error| error.to_string())
    }

    fn write(self, element: &EntityId) -> ByteBuf {
        let mut body = Vec::new();
        message_pack::encode_into(&mut body, &self).expect("numbers have a MessagePack form");
        ByteBuf::from(codec::encode_field(element, FORM_FIELD, &body))
    }
}
