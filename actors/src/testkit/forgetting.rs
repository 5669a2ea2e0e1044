//! `Valid<T>` forgets at the same instant whatever fails, wherever the last checkpoint fell.

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_policies::model::CheckpointPolicy;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::TestElement;
use crate::author::{Context, Element, Event, Outcome, Timestamp, Valid};

/// How far after the last event the memory is looked at: longer than anything holds.
const LATER: u64 = 40;

#[derive(Serialize, Deserialize)]
enum Input {
    Seen { place: u8, what: u32 },
    Forget { place: u8 },
}

/// Remembers what was seen last where, as long as that holds.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Memory {
    places: BTreeMap<u8, Valid<u32>>,
}

impl Element for Memory {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, _: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Seen { place, what } => self.places.insert(place, event.valid(what)),
            Input::Forget { place } => self.places.insert(place, Valid::default()),
        };
        Ok(())
    }
}

/// What happens to a memory.
#[derive(Clone, Debug)]
enum Step {
    Seen { place: u8, holds: Option<u64> },
    TooLate { place: u8 },
    Forget { place: u8 },
    Wait(u64),
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = 0..3_u8;
    let step = prop_oneof![
        4 => (place.clone(), prop::option::of(1..20_u64))
            .prop_map(|(place, holds)| Step::Seen { place, holds }),
        1 => place.clone().prop_map(|place| Step::TooLate { place }),
        1 => place.prop_map(|place| Step::Forget { place }),
        3 => (1..9_u64).prop_map(Step::Wait),
        2 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..40)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What is remembered at an instant.
fn remembered(element: &TestElement<Memory>, at: Timestamp) -> BTreeMap<u8, u32> {
    let places = element.state().places.iter();
    places
        .filter_map(|(place, seen)| Some((*place, *seen.get(at)?)))
        .collect()
}

/// Lets it all happen, and returns what was remembered after each step and at every later second.
fn life(mut element: TestElement<Memory>, steps: &[Step], crashes: bool) -> Vec<BTreeMap<u8, u32>> {
    let mut all = Vec::new();
    for (what, step) in (0..).zip(steps) {
        match *step {
            Step::Seen { place, holds } => {
                let seen = Input::Seen { place, what };
                match holds {
                    Some(span) => element.event_valid_for("eye", seen, seconds(span)),
                    None => element.event("eye", seen),
                }
            }
            Step::TooLate { place } => {
                element.event_too_late("eye", Input::Seen { place, what });
            }
            Step::Forget { place } => element.event("eye", Input::Forget { place }),
            Step::Wait(span) => element.advance(seconds(span)),
            Step::Crash if crashes => element.crash(),
            Step::Crash => {}
        }
        all.push(remembered(&element, element.now()));
    }
    let end = element.now();
    all.extend((0..LATER).map(|later| remembered(&element, end + seconds(later))));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_value_is_forgotten_at_the_same_instant_wherever_crashes_and_checkpoints_fall(
        steps in steps(),
        every in 1..6_u64,
        interval in 1..9_u64,
    ) {
        let policy = CheckpointPolicy { every, interval: seconds(interval) };
        let undisturbed = life(TestElement::new(), &steps, false);
        let disturbed = life(TestElement::checkpointed(policy), &steps, true);
        prop_assert_eq!(disturbed, undisturbed);
    }
}
