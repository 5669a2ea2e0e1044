//! What a claim does about a local log that may be ahead of the stable store.

use std::collections::BTreeMap;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::state_saving::{Found, LocalLog, Lost, Mark, Record, Timing};
use serde_bytes::ByteBuf;

use super::directory::FoundLog;
use super::{Local, LocalFirst, MARK_FIELD};
use crate::message_pack;
use crate::store::embedded::Durability;
use crate::store::{Delta, Fence, Saved, StableStore, StoreError, codec};

impl<S: StableStore + 'static> LocalFirst<S> {
    /// Brings the stable store up to date, or logs what is lost; then begins a local log, if the element
    /// is to have one. Doing it again after an error ends the same.
    pub(super) async fn reconcile(&self, fence: &Fence, saved: Saved) -> Result<Saved, StoreError> {
        let element = &fence.element;
        let mark = read(element, &saved)?;
        if mark.ahead.is_none() && self.timing == Timing::Pessimistic {
            return Ok(saved);
        }
        self.release().await;
        let found = self.place.find(element).await?;
        let boot = boot();
        let described = match &found {
            Ok(log) => log.found(boot.clone()),
            Err(reason) => Found::Nothing(reason.clone()),
        };
        let lost = noted(element, &saved, &mark)?;
        let (head, lineage) = match lost {
            Some(lost) => (saved.head, lost.lineage),
            None => {
                let log = found.as_ref().ok().filter(|_| mark.names(&described));
                let head = self.take_over(fence, saved.head, log).await?;
                self.log_loss(fence, &mark, &described, head).await?
            }
        };
        let found = found.ok();
        let local = match self.timing {
            Timing::Optimistic => Some(self.place.begin(found, fence, head).await?),
            Timing::Pessimistic => {
                if let Some(found) = found {
                    found.close().await;
                }
                None
            }
        };
        let ahead = local.as_ref().map(|log| LocalLog {
            id: log.id(),
            server: self.place.server.clone(),
            boot: match self.place.durability {
                Durability::Required => None,
                Durability::Process => Some(boot),
            },
        });
        let mark = Mark { lineage, ahead };
        let marking = write(element, saved.checkpoint, &mark);
        self.stable.checkpoint(fence, marking).await?;
        let (checkpoint, latest) = (saved.checkpoint, saved.read_at);
        let saved = match saved.head == head {
            true => saved,
            false => self.stable.load(fence).await?,
        };
        *self.lock() = local.map(|log| Local {
            fence: fence.clone(),
            log,
            lineage,
            flushed: head,
            checkpoint,
            latest,
            tail: BTreeMap::new(),
            recent: BTreeMap::new(),
        });
        Ok(saved)
    }

    /// Appends what only the local log has, and returns where the stable log ends then.
    async fn take_over(
        &self,
        fence: &Fence,
        mut head: u64,
        log: Option<&FoundLog>,
    ) -> Result<u64, StoreError> {
        let Some(log) = log else { return Ok(head) };
        let tail = log.after(head);
        if let (Some(first), Some(last)) = (tail.first(), tail.last()) {
            let (element, from, upto) = (&fence.element, first.first, last.last);
            tracing::info!(%element, from, upto, "the local log is ahead of the stable store");
        }
        for batch in tail {
            let (before, last) = (batch.first - 1, batch.last);
            self.stable.append(fence, before, last, batch.bytes).await?;
            head = last;
        }
        Ok(head)
    }

    /// Logs what may be missing, and returns where the log ends then, and the lineage from there on.
    async fn log_loss(
        &self,
        fence: &Fence,
        mark: &Mark,
        found: &Found,
        head: u64,
    ) -> Result<(u64, u32), StoreError> {
        let Some(lost) = mark.missing(found, head) else {
            return Ok((head, mark.lineage));
        };
        let (element, from, lineage) = (&fence.element, lost.from, lost.lineage);
        tracing::error!(%element, from, reason = lost.reason, "records may be lost");
        let bytes = codec::encode_batch(element, head + 1, &[Record::Lost(lost)]);
        self.stable.append(fence, head, head + 1, bytes).await?;
        Ok((head + 1, lineage))
    }
}

/// The loss of the log that the mark names, if it stands at the end of the stable log and the mark does
/// not know of it: an earlier claim came so far and no further. Once the mark has its lineage, the
/// log goes on, perhaps under the same id, and may hold more.
fn noted(element: &EntityId, saved: &Saved, mark: &Mark) -> Result<Option<Lost>, StoreError> {
    let Some(last) = saved.log.last() else {
        return Ok(None);
    };
    let batch = codec::decode_batch(element, last)?;
    let ahead = mark.ahead.as_ref().map(|ahead| ahead.id);
    Ok(match batch.records.into_iter().next_back() {
        Some(Record::Lost(lost)) if ahead == Some(lost.log) && lost.lineage > mark.lineage => {
            Some(lost)
        }
        Some(_) | None => None,
    })
}

/// The mark that the stable store keeps.
fn read(element: &EntityId, saved: &Saved) -> Result<Mark, StoreError> {
    let Some(sealed) = saved.fields.get(MARK_FIELD) else {
        return Ok(Mark::default());
    };
    let body = codec::decode_field(element, MARK_FIELD, sealed)?;
    message_pack::decode(body).map_err(|error| StoreError::Damaged {
        element: element.clone(),
        place: format!("field {MARK_FIELD:?}"),
        reason: error.to_string(),
    })
}

/// Sets the mark and changes nothing else. `checkpoint` is the present one.
pub(super) fn write(element: &EntityId, checkpoint: u64, mark: &Mark) -> Delta {
    let mut body = Vec::new();
    message_pack::encode_into(&mut body, mark).expect("ids and numbers have a MessagePack form");
    let sealed = codec::encode_field(element, MARK_FIELD, &body);
    Delta {
        upto: checkpoint,
        set: vec![(MARK_FIELD.into(), ByteBuf::from(sealed))],
        delete: Vec::new(),
    }
}

/// What tells this run of the machine from every other; empty where the system does not say.
fn boot() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    told.map_or_else(|_| String::new(), |id| id.trim().to_owned())
}
