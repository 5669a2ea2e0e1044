//! Reading all that is kept of an element, page by page, as of one instant.
//!
//! The first page has the fields and says where the log begins and ends at that instant. What later
//! pages bring from beyond that end is left out; if a checkpoint has trimmed the log meanwhile, all is
//! read anew.

use lamplighter_policies::ids::EntityId;

use super::answers::{self, Answer, Page};
use super::scripts::Script;
use super::{Attempt, PAGE_BYTES, RedisStore, done, own, unreadable};
use crate::store::{Fence, Saved, StoreError};

/// How often reading starts anew because a checkpoint moved the log under it.
const READS_MAX: usize = 8;

/// Who reads what of which element.
pub(super) struct Reader<'a> {
    store: &'a RedisStore,
    /// Who owns the element; `None` for a reader who does not.
    fence: Option<&'a Fence>,
    attempt: Attempt,
}

impl<'a> Reader<'a> {
    /// The owner reads; a former owner is refused.
    pub(super) fn owner(store: &'a RedisStore, fence: &'a Fence) -> Self {
        Self {
            store,
            fence: Some(fence),
            attempt: Attempt("loading", fence.element.clone()),
        }
    }

    /// Somebody reads who owns nothing.
    pub(super) fn anybody(store: &'a RedisStore, element: &EntityId) -> Self {
        Self {
            store,
            fence: None,
            attempt: Attempt("peeking at", element.clone()),
        }
    }

    /// Reads all; for an owner.
    pub(super) async fn read(&self) -> Result<Saved, StoreError> {
        match self.peek().await? {
            Some(saved) => Ok(saved),
            None => Err(self.fenced(0)),
        }
    }

    /// Reads all; `None` if nobody ever claimed the element.
    pub(super) async fn peek(&self) -> Result<Option<Saved>, StoreError> {
        match self.page("").await? {
            Some(first) => self.rest(first).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads the pages after `first`, until the log reaches its head.
    pub(super) async fn rest(&self, first: Page) -> Result<Saved, StoreError> {
        let mut first = first;
        for _ in 0..READS_MAX {
            match self.follow(first).await? {
                Ok(saved) => return Ok(saved),
                Err(restarted) => first = restarted,
            }
        }
        Err(StoreError::Unavailable {
            attempted: self.attempt.to_string(),
            reason: "its checkpoint moved all the time".to_owned(),
        })
    }

    /// Completes `first`, or returns another first page if a checkpoint has trimmed the log
    /// meanwhile.
    async fn follow(&self, first: Page) -> Result<Result<Saved, Page>, StoreError> {
        let mut saved = Saved {
            head: first.head,
            checkpoint: first.checkpoint,
            fields: first.fields,
            log: first.log,
            read_at: first.read_at,
        };
        loop {
            let last = saved
                .log
                .last()
                .map_or(saved.checkpoint, |batch| batch.last);
            if last >= saved.head {
                break;
            }
            let page = self.next_page(&last.to_string()).await?;
            if page.checkpoint != saved.checkpoint {
                return Ok(Err(self.next_page("").await?));
            }
            if page.log.is_empty() {
                break;
            }
            saved.log.extend(page.log);
        }
        // What was appended since the first page is not part of that instant.
        saved.log.retain(|batch| batch.first <= saved.head);
        whole(self.element(), &saved)?;
        Ok(Ok(saved))
    }

    /// Reads a page of an element that was there just before.
    async fn next_page(&self, after: &str) -> Result<Page, StoreError> {
        self.page(after).await?.ok_or_else(|| self.fenced(0))
    }

    /// Reads the batches after an index; with no index the first page, which has the fields too.
    /// `None` if nobody ever claimed the element.
    async fn page(&self, after: &str) -> Result<Option<Page>, StoreError> {
        let keys = self.store.connection.keys();
        let keys = [keys.state(self.element()), keys.log(self.element())];
        let (script, command) = match self.fence {
            Some(fence) => {
                let mut command = Script::Load.call(&keys);
                own(&mut command, fence).arg(PAGE_BYTES).arg(after);
                (Script::Load, command)
            }
            None => {
                let mut command = Script::Peek.call(&keys);
                command.arg(PAGE_BYTES).arg(after);
                (Script::Peek, command)
            }
        };
        let answer = self
            .store
            .run(script, self.attempt.clone(), command)
            .await?;
        let parts = match (self.fence, answer) {
            (Some(fence), answer) => done(answer, &self.attempt, fence)?,
            (None, Answer::Done(parts)) => parts,
            (None, Answer::Fenced(0)) => return Ok(None),
            (None, Answer::Fenced(_) | Answer::Gap(_) | Answer::Unstaged) => {
                return Err(unreadable(&self.attempt, &"it speaks of a fence"));
            }
        };
        answers::page(parts)
            .map(Some)
            .map_err(|fault| unreadable(&self.attempt, &fault))
    }

    fn element(&self) -> &EntityId {
        &self.attempt.1
    }

    fn fenced(&self, epoch: u64) -> StoreError {
        StoreError::Fenced {
            element: self.element().clone(),
            epoch,
        }
    }
}

/// Whether the log goes from the checkpoint to the head without a hole.
fn whole(element: &EntityId, saved: &Saved) -> Result<(), StoreError> {
    let damaged = |index: u64, reason: &str| StoreError::Damaged {
        element: element.clone(),
        place: format!("log {index}"),
        reason: reason.to_owned(),
    };
    let mut end = saved.checkpoint;
    for (nth, batch) in saved.log.iter().enumerate() {
        let follows = match nth {
            0 => batch.first <= end + 1 && batch.last > end,
            _ => batch.first == end + 1 && batch.last >= batch.first,
        };
        if !follows {
            return Err(damaged(end + 1, "it is missing"));
        }
        end = batch.last;
    }
    if end == saved.head {
        Ok(())
    } else {
        Err(damaged(
            end + 1,
            &format!("it is missing; the log ends at {}", saved.head),
        ))
    }
}
