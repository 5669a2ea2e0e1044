//! Reports the presses of the Hue button.

use lamplighter::prelude::*;

use crate::messages::{ButtonReport, Pressed};

/// A press, with its number.
const PRESSED: Output<Pressed> = Output::new("pressed");

/// What the element receives.
#[derive(Debug, Serialize, Deserialize)]
pub enum Input {
    /// The button said something.
    Button(ButtonReport),
}

/// Counts what the button says and passes on the presses.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeHueSense {
    reports: u64,
    presses: u64,
}

impl Element for NodeHueSense {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        let Input::Button(report) = event.body;
        self.reports += 1;
        if matches!(report.action.as_deref(), Some("on" | "press")) {
            self.presses += 1;
            ctx.emit(
                PRESSED,
                Pressed {
                    count: self.presses,
                },
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_is_passed_on_with_its_number_and_a_sign_of_life_is_not() {
        let mut sense = TestElement::<NodeHueSense>::new();
        for action in [Some("on"), None, Some("press"), Some("release")] {
            let action = action.map(Into::into);
            sense.event("hue-button", Input::Button(ButtonReport { action }));
        }
        assert_eq!(
            sense.emitted(PRESSED),
            [Pressed { count: 1 }, Pressed { count: 2 }]
        );
        assert_eq!((sense.state().reports, sense.state().presses), (4, 2));
        sense.check_replay();
        sense.check_round_trip();
    }
}
