//! The law of recovery, on real stores: whatever is repeated, reordered, lost or crashes, the state is
//! the fold of the events, each once, and so is what arrives downstream; no command is carried out twice.

use std::collections::VecDeque;

use lamplighter_runtime::store::StableStore;
use lamplighter_runtime::store::embedded::{Durability, Embedded, Options};
use lamplighter_tests::recovery::{Hazard, Outside, World, id, law};
use lamplighter_tests::redis_server::RedisServer;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Of the thousand cases, what each store gets.
const CASES: u32 = 500;

#[test]
fn on_redis_the_state_is_the_fold_of_the_events_each_once() {
    let runtime = runtime();
    let server = runtime.block_on(RedisServer::start());
    let store = runtime.block_on(server.store());
    hold(&runtime, |_| store.clone());
}

#[test]
fn on_the_embedded_store_the_state_is_the_fold_of_the_events_each_once() {
    let directory = tempfile::tempdir().expect("a directory");
    hold(&runtime(), |case| {
        // Processes end here, never the machine: that is the power loss test's.
        let options = Options {
            durability: Durability::Process,
            segment_bytes: 4 << 10,
            ..Options::default()
        };
        let directory = directory.path().join(case.to_string());
        Embedded::open(&directory, options).expect("an empty directory")
    });
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn hold<S: StableStore + 'static>(runtime: &tokio::runtime::Runtime, open: impl Fn(u64) -> S) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: CASES,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let cases = (
        1_u8..15,
        0_u8..8,
        proptest::collection::vec(any::<u8>(), 0..400),
    );
    let (case, cuts) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let outcome = runner.run(&cases, |(events, readings, dice)| {
        case.set(case.get() + 1);
        let outside = Outside::new(events, readings);
        // A fresh element each: the server is one for all cases.
        let element = id(&format!("element-{}", case.get()));
        let mut world = World::new(element, open(case.get()), Dice(dice.into()), outside);
        let state = runtime.block_on(world.run());
        cuts.set(cuts.get() + world.cuts);
        law(&state, events, readings, &world.outside).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|fault| panic!("{fault}"));
    assert!(cuts.get() > CASES, "only {} processes ended", cuts.get());
}

/// What goes wrong, from the test's seed; when it is used up, nothing goes wrong any more.
struct Dice(VecDeque<u8>);

impl Hazard for Dice {
    fn cuts(&mut self, _: std::fmt::Arguments<'_>) -> bool {
        self.roll() < 3
    }

    fn roll(&mut self) -> u8 {
        self.0.pop_front().unwrap_or(255)
    }
}
