//! Gives a dose of medicine when it is asked for: says so on the display, prepares, and doses once.
//!
//! A dose cannot be taken back, so it is never given twice; and it must not come late.

use std::time::Duration;

use lamplighter::prelude::*;

use super::COMMAND_VALIDITY;
use crate::messages::{ButtonReport, DisplayCommand, DoseCommand, PumpReport};

/// The pump beside the bed.
const DOSE: Output<DoseCommand> = Output::new("dose");
/// The display beside the bed.
const DISPLAY: Output<DisplayCommand> = Output::new("display");

/// What the element receives.
#[derive(Debug, Serialize, Deserialize)]
pub enum Input {
    /// What was done with the button.
    Asked(ButtonReport),
    /// What the pump says of itself.
    PumpShows(PumpReport),
    /// The dose is prepared: our own timer.
    Prepared,
}

/// What was asked for, and what the pump says that it gave.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MedicineGiver {
    /// How much a dose is, in millilitres.
    dose: u32,
    /// How long it is prepared, in seconds.
    prepare_seconds: u64,
    preparing: bool,
    asked: u64,
    commanded: u64,
    /// How many doses the pump counts.
    counted: Option<u64>,
}

impl Element for MedicineGiver {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Asked(report) => {
                let asks = report.action.as_deref() == Some("press");
                // Who presses twice wants one dose, and soon.
                if asks && !self.preparing {
                    self.asked += 1;
                    self.preparing = true;
                    let text = format!("preparing {} ml", self.dose);
                    ctx.emit(DISPLAY, DisplayCommand { text })
                        .valid_for(COMMAND_VALIDITY);
                    let prepared = Duration::from_secs(self.prepare_seconds);
                    ctx.set_timer("prepared", prepared, Input::Prepared);
                }
            }
            Input::Prepared => {
                self.preparing = false;
                self.commanded += 1;
                let command = DoseCommand { dose: self.dose };
                ctx.emit(DOSE, command).valid_for(COMMAND_VALIDITY);
            }
            Input::PumpShows(report) => self.counted = report.doses.or(self.counted),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dose_is_given_once_after_it_was_prepared_whatever_happens_meanwhile() {
        let mut giver = giver();
        giver.event("call-button", press());
        giver.event("call-button", press());
        giver.crash();
        assert_eq!(giver.emitted(DOSE), []);
        giver.advance(Duration::from_secs(2));
        giver.crash();
        giver.advance(Duration::from_secs(2));
        let dose = DoseCommand { dose: 2 };
        assert_eq!(giver.emissions(DOSE), [(dose, Some(COMMAND_VALIDITY))]);
        let text = "preparing 2 ml".to_owned();
        assert_eq!(giver.emitted(DISPLAY), [DisplayCommand { text }]);
        giver.check_replay();
        giver.check_round_trip();
    }

    #[test]
    fn what_the_pump_counts_is_known_and_a_sign_of_life_asks_for_nothing() {
        let mut giver = giver();
        giver.event("pump", Input::PumpShows(PumpReport { doses: Some(3) }));
        giver.event("pump", Input::PumpShows(PumpReport::default()));
        giver.event("call-button", Input::Asked(ButtonReport::default()));
        giver.advance(Duration::from_secs(2));
        assert_eq!(giver.state().counted, Some(3));
        assert_eq!(giver.emitted(DOSE), []);
    }

    fn giver() -> TestElement<MedicineGiver> {
        TestElement::with_state(json!({ "dose": 2, "prepare_seconds": 2 }))
    }

    fn press() -> Input {
        Input::Asked(ButtonReport {
            action: Some("press".into()),
        })
    }
}
