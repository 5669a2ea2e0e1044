//! The law of recovery for an element that is saved optimistically, on real stores and real local logs:
//! when only processes end nothing is lost; when the server is lost with its storage, what is missing
//! is reported from its first record on, and is no more than the lag.

use std::collections::VecDeque;

use lamplighter_runtime::store::StableStore;
use lamplighter_runtime::store::embedded::{Durability, Embedded, Options};
use lamplighter_tests::recovery::{Hazard, Outside, Server, World, id, law};
use lamplighter_tests::redis_server::RedisServer;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Cases on each store, of each kind.
const CASES: u32 = 60;

/// Whether the storage goes with the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Storage {
    Stays,
    MayBeLost,
}

#[test]
fn on_redis_processes_that_end_lose_nothing() {
    on_redis(Storage::Stays);
}

#[test]
fn on_redis_a_lost_server_loses_what_is_reported_and_no_more() {
    on_redis(Storage::MayBeLost);
}

#[test]
fn on_the_embedded_store_processes_that_end_lose_nothing() {
    on_files(Storage::Stays);
}

#[test]
fn on_the_embedded_store_a_lost_server_loses_what_is_reported_and_no_more() {
    on_files(Storage::MayBeLost);
}

fn on_redis(storage: Storage) {
    let runtime = runtime();
    let server = runtime.block_on(RedisServer::start());
    let store = runtime.block_on(server.store());
    hold(&runtime, storage, |_| store.clone());
}

fn on_files(storage: Storage) {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options {
        durability: Durability::Process,
        segment_bytes: 64 << 10,
        ..Options::default()
    };
    let store = Embedded::open(directory.path(), options).expect("an empty directory");
    hold(&runtime(), storage, |_| store.clone());
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn hold<S: StableStore + 'static>(
    runtime: &tokio::runtime::Runtime,
    storage: Storage,
    open: impl Fn(u64) -> S,
) {
    let cases = std::env::var("CASES").map_or(CASES, |cases| cases.parse().expect("a number"));
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let inputs = (
        1_u8..15,
        0_u8..8,
        proptest::collection::vec(any::<u8>(), 0..400),
    );
    let local = tempfile::tempdir().expect("a directory");
    let (case, cuts) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let lost = std::cell::Cell::new(0);
    let outcome = runner.run(&inputs, |(events, readings, dice)| {
        case.set(case.get() + 1);
        let element = id(&format!("element-{}", case.get()));
        let server = Server::persistent(local.path().join(case.get().to_string()));
        let outside = Outside::new(events, readings);
        let dice = Dice {
            left: dice.into(),
            storage,
        };
        let mut world = World::on(server, element, open(case.get()), dice, outside);
        let state = runtime.block_on(world.run());
        cuts.set(cuts.get() + world.cuts);
        lost.set(lost.get() + world.server.losses.len());
        if storage == Storage::Stays {
            prop_assert_eq!(&world.server.losses, &[]);
            law(&state, events, readings, &world.outside).map_err(TestCaseError::fail)?;
        }
        let held = world.server.law(&state, events, readings, &world.outside);
        held.map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|fault| panic!("{fault}"));
    assert!(cuts.get() > cases, "only {} processes ended", cuts.get());
    if storage == Storage::MayBeLost {
        let (lost, least) = (lost.get(), usize::try_from(cases / 8).unwrap_or(0));
        assert!(lost > least, "only {lost} losses");
    }
}

/// What goes wrong, from the test's seed; when it is used up, nothing goes wrong any more.
struct Dice {
    left: VecDeque<u8>,
    storage: Storage,
}

impl Hazard for Dice {
    fn cuts(&mut self, _: std::fmt::Arguments<'_>) -> bool {
        self.roll() < 3
    }

    fn loses_the_server(&mut self) -> bool {
        self.storage == Storage::MayBeLost && self.roll() < 128
    }

    fn roll(&mut self) -> u8 {
        self.left.pop_front().unwrap_or(255)
    }
}
