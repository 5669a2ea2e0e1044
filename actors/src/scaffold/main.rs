//! Counts presses, and does not forget one.

use std::collections::BTreeMap;

use lamplighter::prelude::*;

/// All that the element can receive.
#[derive(Serialize, Deserialize)]
enum Input {
    Pressed { button: String },
}

/// How often anything was pressed so far, in `{ output, topic }` of the topology.
const COUNT: Output<u64> = Output::new("count");

/// The state: it is saved, and is back after a crash. Its first value is in the topology.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Counter {
    presses: BTreeMap<String, u64>,
}

impl Element for Counter {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        let Input::Pressed { button } = event.body;
        *self.presses.entry(button).or_default() += 1;
        ctx.emit(COUNT, self.presses.values().sum());
        Ok(())
    }
}

fn main() -> lamplighter::Result {
    lamplighter::app().element::<Counter>("Counter").run()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(button: &str) -> Input {
        Input::Pressed {
            button: button.into(),
        }
    }

    #[test]
    fn presses_are_counted_over_all_buttons() {
        let mut counter = TestElement::<Counter>::new();
        counter.event("hall", pressed("left"));
        counter.event("hall", pressed("right"));
        assert_eq!(counter.emitted(COUNT), [1, 2]);
    }

    #[test]
    fn a_crash_forgets_nothing() {
        let mut counter = TestElement::<Counter>::new();
        counter.event("hall", pressed("left"));
        counter.crash();
        counter.event("hall", pressed("left"));
        assert_eq!(counter.state().presses["left"], 2);
    }

    #[test]
    fn a_replay_gives_the_same_again() {
        let mut counter = TestElement::<Counter>::new();
        counter.event("hall", pressed("left"));
        counter.event("hall", pressed("right"));
        counter.check_replay();
        counter.check_round_trip();
    }
}
