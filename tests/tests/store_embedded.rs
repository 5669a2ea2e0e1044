//! The embedded store keeps every promise of the shared suite, on real files.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its files has failed"
)]

use std::path::Path;

use lamplighter_runtime::store::embedded::{Embedded, Options};
use lamplighter_tests::stable_store_suite;
use lamplighter_tests::store_suite::Harness;

stable_store_suite!(std::future::ready(OnFiles::new()));

/// The same store behind the type that stands for whichever the topology chose.
mod as_any_store {
    use lamplighter_runtime::store::any::AnyStore;
    use lamplighter_tests::store_suite::Harness;

    use super::OnFiles;

    lamplighter_tests::stable_store_suite!(std::future::ready(Any(OnFiles::new())));

    struct Any(OnFiles);

    impl Harness for Any {
        type Store = AnyStore;

        async fn connect(&mut self) -> AnyStore {
            AnyStore::Embedded(self.0.connect().await)
        }

        async fn restart(&mut self) {
            self.0.restart().await;
        }
    }
}

/// The same store behind the log of a server, as an element has it that is saved pessimistically.
mod behind_a_local_log {
    use lamplighter_policies::ids::EntityId;
    use lamplighter_policies::state_saving::Timing;
    use lamplighter_runtime::clock::Clock;
    use lamplighter_runtime::store::embedded::{Durability, Embedded};
    use lamplighter_runtime::store::local::{LocalFirst, LocalPlace};
    use lamplighter_tests::store_suite::Harness;

    use super::OnFiles;

    // The naive model writes bytes of any form; what goes through a local log is a batch of records.
    lamplighter_tests::stable_store_suite! {
        @each std::future::ready(Behind(OnFiles::new()));
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
    }

    struct Behind(OnFiles);

    impl Harness for Behind {
        type Store = LocalFirst<Embedded>;

        async fn connect(&mut self) -> Self::Store {
            let place = LocalPlace {
                server: EntityId::new("pi").unwrap(),
                directory: self.0.directory.path().join("local"),
                durability: Durability::Required,
                clock: Clock::default(),
            };
            LocalFirst::new(self.0.connect().await, place, Timing::Pessimistic)
        }

        async fn restart(&mut self) {
            self.0.restart().await;
        }
    }
}

struct OnFiles {
    directory: tempfile::TempDir,
    store: Embedded,
}

impl OnFiles {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        Self { directory, store }
    }
}

impl Harness for OnFiles {
    type Store = Embedded;

    async fn connect(&mut self) -> Embedded {
        self.store.clone()
    }

    async fn restart(&mut self) {
        self.store.close().await;
        self.store = open(self.directory.path());
    }
}

fn open(directory: &Path) -> Embedded {
    // Small segments, so that the suite fills many.
    let options = Options {
        segment_bytes: 16 << 10,
        ..Options::default()
    };
    Embedded::open(directory, options).unwrap()
}
