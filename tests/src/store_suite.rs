//! What every stable store promises, each promise a function (paper, 4.1).
//!
//! `stable_store_suite!` makes one test of each promise for one store. Promises keep to elements
//! of their own, so one server may be shared by all of them.

mod model;
mod peeking;
mod promises;

use std::collections::BTreeMap;
use std::future::Future;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::store::{Delta, Fence, Nonce, Saved, StableStore, StoredBatch};

pub use model::any_operations_leave_what_a_naive_model_leaves;
pub use peeking::*;
pub use promises::*;

/// A store under test, and how to get at it.
pub trait Harness {
    /// What is tested.
    type Store: StableStore;

    /// A handle on the store, as one more process would have it.
    fn connect(&mut self) -> impl Future<Output = Self::Store>;

    /// Stops the store in order and starts it again on the same data. Handles from before are not
    /// used again.
    fn restart(&mut self) -> impl Future<Output = ()>;
}

/// Makes a test of each promise; the argument is an expression that awaits to a new [`Harness`].
#[macro_export]
macro_rules! stable_store_suite {
    ($harness:expr) => {
        $crate::stable_store_suite! { @each $harness;
            a_claim_raises_the_epoch_above_the_floor_and_every_earlier_one
            claiming_again_with_the_same_nonce_changes_nothing
            batches_started_in_order_are_kept_in_order
            an_append_is_started_by_the_call_and_not_by_the_wait
            a_batch_sent_again_answers_when_it_was_first_taken
            a_batch_that_does_not_begin_after_the_head_is_a_gap
            a_batch_over_the_limit_is_refused_and_leaves_nothing
            a_former_owner_can_neither_write_nor_read
            nobody_can_write_to_what_was_never_claimed
            an_owner_proves_itself_and_reads_the_stores_clock
            a_claim_during_writes_parts_them_into_kept_and_fenced
            a_checkpoint_folds_and_trims_at_every_index
            a_checkpoint_sent_again_changes_nothing
            a_checkpoint_before_the_last_or_after_the_head_is_a_gap
            large_fields_and_batches_come_back_whole
            all_is_kept_when_the_store_starts_again
            a_peek_gives_anybody_what_the_owner_loads
            a_peek_disturbs_nobody
            a_summary_needs_no_ownership
            the_newest_dead_letters_are_kept
            elements_with_similar_names_keep_apart
            many_elements_write_at_once
            any_operations_leave_what_a_naive_model_leaves
        }
    };
    (@each $harness:expr; $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let mut harness = $harness.await;
                $crate::store_suite::$promise(&mut harness).await;
            }
        )*
    };
}

/// An element's id.
pub(crate) fn element(name: &str) -> EntityId {
    EntityId::new(name).expect("the suite uses well-formed names")
}

/// The saved state with every time set to zero: all that can be foretold of it.
pub(crate) fn timeless(mut saved: Saved) -> Saved {
    saved.read_at = WallClock(0);
    for batch in &mut saved.log {
        batch.logged_at = WallClock(0);
    }
    saved
}

/// A batch at `first ..= last`, without its time.
pub(crate) fn batch(first: u64, last: u64, bytes: &[u8]) -> StoredBatch {
    StoredBatch {
        first,
        last,
        logged_at: WallClock(0),
        bytes: bytes.to_vec(),
    }
}

/// Fields from pairs.
pub(crate) fn fields(pairs: &[(&str, &[u8])]) -> BTreeMap<String, serde_bytes::ByteBuf> {
    set(pairs).into_iter().collect()
}

/// A checkpoint's changes.
pub(crate) fn delta(upto: u64, pairs: &[(&str, &[u8])], delete: &[&str]) -> Delta {
    Delta {
        upto,
        set: set(pairs),
        delete: delete.iter().map(ToString::to_string).collect(),
    }
}

fn set(pairs: &[(&str, &[u8])]) -> Vec<(String, serde_bytes::ByteBuf)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_string(), serde_bytes::ByteBuf::from(*value)))
        .collect()
}

/// Claims with `nonce` and floor 0.
pub(crate) async fn claimed(store: &impl StableStore, name: &str, nonce: u128) -> (Fence, Saved) {
    store
        .claim(&element(name), Nonce(nonce), 0)
        .await
        .expect("a claim is always granted")
}
