//! What a client of a served store has asked and not been told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lamplighter_policies::time::Monotonic;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::client::{ANSWER_TIMEOUT, Replied, unavailable};
use super::{Answer, IN_FLIGHT_MAX, Page};
use crate::clock::monotonic;
use crate::store::StoreError;

/// What is unanswered on one connection.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) room: Arc<Semaphore>,
    asked: Mutex<BTreeMap<u64, Asked>>,
}

#[derive(Debug)]
struct Asked {
    attempted: String,
    at: Monotonic,
    page: Page,
    answer: oneshot::Sender<Replied>,
    _room: OwnedSemaphorePermit,
}

impl Default for Flight {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            asked: Mutex::default(),
        }
    }
}

impl Flight {
    pub(super) fn depart(
        &self,
        id: u64,
        attempted: String,
        answer: oneshot::Sender<Replied>,
        room: OwnedSemaphorePermit,
    ) {
        let (at, page) = (monotonic(), Page::default());
        let asked = Asked {
            attempted,
            at,
            page,
            answer,
            _room: room,
        };
        self.asked().insert(id, asked);
    }

    pub(super) fn add(&self, id: u64, page: Page) {
        if let Some(asked) = self.asked().get_mut(&id) {
            asked.at = monotonic();
            asked.page.fields.extend(page.fields);
            asked.page.log.extend(page.log);
            asked.page.letters.extend(page.letters);
        }
    }

    pub(super) fn arrive(&self, id: u64, answer: Result<Answer, StoreError>) {
        if let Some(asked) = self.asked().remove(&id) {
            settle(asked.answer, answer.map(|answer| (answer, asked.page)));
        }
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.asked()
            .values()
            .any(|asked| monotonic() - asked.at >= ANSWER_TIMEOUT)
    }

    pub(super) fn give_up(self, reason: &str) {
        for asked in std::mem::take(&mut *self.asked()).into_values() {
            settle(asked.answer, Err(unavailable(&asked.attempted, reason)));
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Asked>> {
        // Every change to the map is one call, so a panic elsewhere leaves it whole.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers; whoever asked may have gone away.
pub(super) fn settle(answer: oneshot::Sender<Replied>, replied: Replied) {
    if answer.send(replied).is_err() {
        tracing::trace!("nobody waits for this answer of the store");
    }
}
