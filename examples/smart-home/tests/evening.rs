//! The recorded evening, played through the elements on virtual time: what the house must do, without
//! any process, broker or store.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lamplighter::prelude::*;
use lamplighter::scenario::Scenario;
use serde_json::Value;
use smart_home::elements::{FibaroAdapter, NodeHueSense, Orchestrator};
use smart_home::evening::read_evening;
use smart_home::messages::{Door, Light, Motion, Pressed, Sound, Temperature};

#[test]
fn the_house_lights_up_alarms_and_chimes_as_the_evening_wants_it() {
    let mut house = House::new();
    let changes = house.live_through(&evening());

    let expected: [(&str, &[(u64, bool)]); 2] = [
        (
            "bedroom",
            &[
                (2_451, true),
                (10_533, false),
                (14_106, true),
                (19_106, false),
                (24_200, true),
                (29_200, false),
                (31_115, true),
                (36_115, false),
                (38_168, true),
                (43_168, false),
                (54_102, true),
                (59_102, false),
                (79_321, true),
                (97_038, false),
            ],
        ),
        (
            "bedside",
            &[
                (10_569, true),
                (27_235, false),
                (28_069, true),
                (61_188, false),
            ],
        ),
    ];
    for (lamp, expected) in expected {
        assert_eq!(changes[lamp], expected, "{lamp}");
    }
    assert_eq!(house.alarms, [1_259, 51_250]);
    assert_eq!(house.chimes, [94_594]);
    house.orchestrator.check_replay();
    house.orchestrator.check_round_trip();
}

#[test]
fn it_does_the_same_when_its_elements_crash_all_the_time() {
    let undisturbed = House::new().live_through(&evening());
    let mut house = House::new();
    house.crashes = true;
    assert_eq!(house.live_through(&evening()), undisturbed);
}

struct House {
    adapter: TestElement<FibaroAdapter>,
    sense: TestElement<NodeHueSense>,
    orchestrator: TestElement<Orchestrator>,
    crashes: bool,
    now_ms: u64,
    changes: BTreeMap<&'static str, Vec<(u64, bool)>>,
    alarms: Vec<u64>,
    chimes: Vec<u64>,
}

impl House {
    fn new() -> Self {
        Self {
            adapter: TestElement::with_state(state_of("fibaro-adapter")),
            sense: TestElement::with_state(state_of("node-hue-sense")),
            orchestrator: TestElement::with_state(state_of("orchestrator")),
            crashes: false,
            now_ms: 0,
            changes: BTreeMap::new(),
            alarms: Vec::new(),
            chimes: Vec::new(),
        }
    }

    fn live_through(&mut self, evening: &Scenario) -> BTreeMap<&'static str, Vec<(u64, bool)>> {
        for message in &evening.messages {
            self.wait_until(u64::try_from(message.at.as_millis()).expect("an evening is short"));
            let payload = std::str::from_utf8(&message.payload).expect("the evening is text");
            match message.topic.strip_prefix("zigbee2mqtt/0x0017880100fa") {
                Some("1005") => self.adapter.event("fibaro-motion", input("Room", payload)),
                Some("1006") => self.adapter.event("fibaro-door", input("Door", payload)),
                Some("1007") => self.sense.event("hue-button", input("Button", payload)),
                Some(_) | None => {}
            }
            self.pass_on();
        }
        self.wait_until(120_000);
        self.changes.clone()
    }

    /// Lets time pass in steps of a millisecond, so that each change is seen when it happens.
    fn wait_until(&mut self, at_ms: u64) {
        while self.now_ms < at_ms {
            self.orchestrator.advance(Duration::from_millis(1));
            self.now_ms += 1;
            self.look();
        }
    }

    /// Carries what the sensing elements emitted to the orchestrator, as the bindings do.
    fn pass_on(&mut self) {
        for (motion, holds) in self.adapter.emissions(Output::<Motion>::new("motion")) {
            let holds = holds.expect("a motion tells of presence for a while");
            let motion = input("Motion", &json!(motion).to_string());
            self.orchestrator
                .event_valid_for("fibaro-adapter", motion, holds);
        }
        for door in self.adapter.emitted(Output::<Door>::new("door")) {
            self.tell("Door", &json!(door));
        }
        for temperature in self
            .adapter
            .emitted(Output::<Temperature>::new("temperature"))
        {
            self.tell("Temperature", &json!(temperature));
        }
        for pressed in self.sense.emitted(Output::<Pressed>::new("pressed")) {
            self.tell("Pressed", &json!(pressed));
        }
        self.look();
        if self.crashes {
            self.adapter.crash();
            self.sense.crash();
            self.orchestrator.crash();
        }
    }

    fn tell(&mut self, variant: &str, body: &Value) {
        self.orchestrator
            .event("a-sense", input(variant, &body.to_string()));
    }

    fn look(&mut self) {
        let now = self.now_ms;
        for lamp in ["bedroom", "bedside"] {
            let changes = self.changes.entry(lamp).or_default();
            let emitted = self.orchestrator.emitted(Output::<Light>::new(lamp));
            changes.extend(emitted.iter().map(|light| (now, light.on)));
        }
        let mut count = |port| self.orchestrator.emitted(Output::<Sound>::new(port)).len();
        self.alarms.extend([now].repeat(count("alarm")));
        self.chimes.extend([now].repeat(count("chime")));
    }
}

fn evening() -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/zigbee2mqtt-evening.jsonl");
    read_evening(&path).expect("the shipped recording is readable")
}

/// The first state of an element, as the shipped topology has it.
fn state_of(element: &str) -> toml::Table {
    let topology: toml::Table = include_str!("../smart-home.toml")
        .parse()
        .expect("the shipped topology is TOML");
    let state = topology["elements"][element].get("state").cloned();
    state.map_or_else(toml::Table::new, |state| {
        state.try_into().expect("a state is a table")
    })
}

/// A payload as the input of this variant, as the topology maps a topic to it.
fn input<T: serde::de::DeserializeOwned>(variant: &str, payload: &str) -> T {
    let payload: Value = serde_json::from_str(payload).expect("a recorded payload is JSON");
    serde_json::from_value(json!({ variant: payload })).expect("the payload fits the variant")
}
