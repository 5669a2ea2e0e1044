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
