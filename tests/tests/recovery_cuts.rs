//! A process that ends at every step there is, one after the other: before and after each claim, append,
//! checkpoint (which trims), load and effect, those of a replay included. After each cut the state is the fold
//! of the events, and nothing downstream is lost or doubled. On real stores.

use lamplighter_runtime::store::StableStore;
use lamplighter_runtime::store::embedded::{Durability, Embedded, Options};
use lamplighter_tests::recovery::{Hazard, Outside, World, id, law};
use lamplighter_tests::redis_server::RedisServer;

/// How many events and readings one run has. Without readings it is cut from the first claim on.
const SCRIPTS: [(u8, u8); 2] = [(8, 0), (6, 6)];

#[tokio::test]
async fn on_redis_a_process_may_end_at_every_step() {
    let server = RedisServer::start().await;
    cut_everywhere(server.store().await).await;
}

#[tokio::test]
async fn on_the_embedded_store_a_process_may_end_at_every_step() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options {
        durability: Durability::Process,
        segment_bytes: 16 << 10,
        ..Options::default()
    };
    let store = Embedded::open(directory.path(), options).expect("an empty directory");
    cut_everywhere(store).await;
}

async fn cut_everywhere<S: StableStore + 'static>(store: S) {
    for (script, (events, readings)) in SCRIPTS.into_iter().enumerate() {
        let mut places = Vec::new();
        for steps in 0.. {
            let element = id(&format!("element-{script}-{steps}"));
            let outside = Outside::new(events, readings);
            let mut world = World::new(element, store.clone(), Cutter::after(steps), outside);
            let state = world.run().await;
            let place = world.hazard().place.clone();
            law(&state, events, readings, &world.outside)
                .unwrap_or_else(|fault| panic!("cut {steps}, {place:?}: {fault}"));
            let Some(place) = place else { break };
            places.push(place);
        }
        every_kind_of_step_was_cut(&places);
    }
}

/// The script is such that everything happens in it, so that everything is cut.
fn every_kind_of_step_was_cut(places: &[String]) {
    for step in [
        "before a claim",
        "after a claim",
        "before a load",
        "after a load",
        "between an answer of the store and the cell",
    ] {
        assert!(places.iter().any(|place| place == step), "{step}");
    }
    for effect in [
        "Append",
        "Checkpoint",
        "Handle(Task { ",
        "Acknowledge",
        "Send",
        "Actuate",
        "Restore",
        "Ready",
    ] {
        for side in ["before", "after"] {
            let step = format!("{side} {effect}");
            assert!(
                places.iter().any(|place| place.starts_with(&step)),
                "{step}"
            );
        }
    }
    let replays = places.iter().filter(|place| place.contains("replay: true"));
    assert!(replays.count() >= 2, "{places:?}");
}

/// Ends the process once, after so many steps. Some other things go wrong at fixed times: a handler
/// fails, messages are repeated, answers of the store are lost.
struct Cutter {
    left: u32,
    place: Option<String>,
    rolled: u8,
}

impl Cutter {
    fn after(steps: u32) -> Self {
        Self {
            left: steps,
            place: None,
            rolled: 0,
        }
    }
}

impl Hazard for Cutter {
    fn cuts(&mut self, place: std::fmt::Arguments<'_>) -> bool {
        if self.place.is_some() {
            return false;
        }
        if self.left == 0 {
            self.place = Some(place.to_string());
            return true;
        }
        self.left -= 1;
        false
    }

    fn roll(&mut self) -> u8 {
        const PATTERN: [u8; 13] = [255, 42, 255, 8, 100, 6, 33, 255, 3, 181, 8, 64, 255];
        self.rolled = self.rolled.saturating_add(1);
        // It calms down, so that a run ends soon.
        match self.rolled {
            0..=100 => PATTERN[usize::from(self.rolled) % PATTERN.len()],
            101.. => 255,
        }
    }
}
