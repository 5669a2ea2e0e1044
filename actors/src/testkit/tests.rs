use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::author::{Context, Event, Failure, Outcome, Valid};

#[derive(Serialize, Deserialize)]
enum Input {
    Press,
    Poison,
    Refuse,
    Hold { secs: u64 },
    HoldOver,
}

const COUNT: Output<u64> = Output::new("count");

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Counter {
    step: u64,
    presses: u64,
    last: Valid<String>,
    sources: BTreeMap<String, u64>,
}

impl Element for Counter {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Press => {
                self.presses += self.step;
                *self.sources.entry(event.source().to_string()).or_default() += 1;
                self.last = event.valid("press".to_owned());
            }
            Input::Poison => {
                self.presses += 1_000;
                panic!("poison");
            }
            Input::Refuse => return Err(Failure::new("no")),
            Input::Hold { secs } => {
                ctx.set_timer("hold", Duration::from_secs(secs), Input::HoldOver);
            }
            Input::HoldOver => self.presses = 0,
        }
        ctx.emit(COUNT, self.presses);
        Ok(())
    }
}

fn counter() -> TestElement<Counter> {
    TestElement::with_state(serde_json::json!({ "step": 2 }))
}

#[test]
fn state_and_outputs_follow_the_events() {
    let mut counter = counter();
    counter.event("button", Input::Press);
    counter.event("door", Input::Press);
    assert_eq!(counter.emitted(COUNT), [2, 4]);
    assert_eq!(
        counter.state().sources,
        [("button".into(), 1), ("door".into(), 1)].into()
    );
}

#[test]
fn a_crash_loses_nothing_and_shows_no_output_twice() {
    let mut counter = counter();
    for _ in 0..700 {
        counter.event("button", Input::Press);
    }
    counter.crash();
    counter.event("button", Input::Press);
    assert_eq!(counter.state().presses, 1_402);
    assert_eq!(
        counter.emitted(COUNT),
        (1..=701).map(|n| n * 2).collect::<Vec<_>>()
    );
    counter.check_replay();
    counter.check_round_trip();
}

#[test]
fn an_event_that_panics_twice_is_a_dead_letter_and_leaves_no_trace_in_the_state() {
    let mut counter = counter();
    counter.event("button", Input::Press);
    counter.event("button", Input::Poison);
    counter.event("button", Input::Press);
    assert_eq!(counter.state().presses, 4);
    let [letter] = counter.dead_letters() else {
        panic!("{:?}", counter.dead_letters())
    };
    assert!(
        letter.contains("event button/1.2.0 on button failed: panic at"),
        "{letter}"
    );
    counter.crash();
    assert_eq!(counter.state().presses, 4);
    counter.check_replay();
}

#[test]
fn an_error_counts_as_a_failure() {
    let mut counter = counter();
    counter.event("button", Input::Refuse);
    assert_eq!(
        counter.dead_letters(),
        ["event button/1.1.0 on button failed: no"]
    );
}

#[test]
fn a_handler_that_keeps_failing_is_escalated() {
    let mut counter = counter();
    for _ in 0..3 {
        counter.event("button", Input::Poison);
    }
    assert!(
        counter
            .gave_up()
            .unwrap()
            .starts_with("handlers failed 6 times within 60s")
    );
}

#[test]
fn a_timer_survives_a_crash_and_fires_once() {
    let mut counter = counter();
    counter.event("button", Input::Press);
    counter.event("button", Input::Hold { secs: 30 });
    counter.advance(Duration::from_secs(29));
    counter.crash();
    assert_eq!(counter.state().presses, 2);
    counter.advance(Duration::from_secs(1));
    counter.crash();
    counter.advance(Duration::from_secs(60));
    assert_eq!(counter.emitted(COUNT), [2, 2, 0]);
}

#[test]
fn what_an_expired_event_emits_does_not_leave_and_its_effect_on_the_state_stays() {
    let mut counter = counter();
    counter.event_too_late("button", Input::Press);
    assert_eq!(
        (counter.state().presses, counter.emitted(COUNT)),
        (2, vec![])
    );
}

#[test]
fn the_instance_after_a_panic_handles_the_event() {
    let mut counter = counter();
    counter.panic_at_next_event();
    counter.event("button", Input::Press);
    assert_eq!(counter.emitted(COUNT), [2]);
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Cautious {
    dim: bool,
    changes: u64,
}

impl Element for Cautious {
    type Event = Input;

    fn handle(&mut self, _: Event<Input>, _: &mut Context<Self>) -> Outcome {
        Ok(())
    }

    fn reconfigured(&mut self, change: &Change, ctx: &mut Context<Self>) -> Outcome {
        self.changes += 1;
        self.dim = matches!(change, Change::Failed { .. });
        ctx.emit(COUNT, self.changes);
        Ok(())
    }
}

#[test]
fn an_element_is_told_of_what_it_depends_on_once_for_each_change_and_remembers_it() {
    let mut cautious = TestElement::<Cautious>::new();
    let failed = Change::Failed {
        output: "Hall sensor".into(),
    };
    cautious.reconfigured(&failed);
    cautious.reconfigured(&failed);
    cautious.crash();
    assert!(cautious.state().dim);
    let output = "Hall sensor".into();
    cautious.reconfigured(&Change::Recovered { output });
    cautious.check_replay();
    assert!(!cautious.state().dim);
    assert_eq!(cautious.emitted(COUNT), [1, 2]);
}
