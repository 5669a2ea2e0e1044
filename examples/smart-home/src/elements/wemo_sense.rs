//! Reports the motion that the WeMo sensor sees in the hall.

use lamplighter::prelude::*;

use crate::messages::{Motion, MotionReport};

/// Somebody moves in the hall.
const MOTION: Output<Motion> = Output::new("motion");

/// What the element receives.
#[derive(Debug, Serialize, Deserialize)]
pub enum Input {
    /// The sensor said something.
    Hall(MotionReport),
}

/// Counts what the sensor says and passes on the motions.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WemoSense {
    reports: u64,
}

impl Element for WemoSense {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        let Input::Hall(report) = event.body;
        self.reports += 1;
        if report.occupancy == Some(true) {
            let motion = Motion {
                room: "hall".into(),
                illuminance: report.illuminance,
            };
            ctx.emit(MOTION, motion);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_motion_is_passed_on_and_stillness_is_only_counted() {
        let mut sense = TestElement::<WemoSense>::new();
        for occupancy in [Some(true), Some(false), None] {
            let report = MotionReport {
                occupancy,
                ..MotionReport::default()
            };
            sense.event("wemo-motion", Input::Hall(report));
        }
        let motion = Motion {
            room: "hall".into(),
            illuminance: None,
        };
        assert_eq!(sense.emitted(MOTION), [motion]);
        assert_eq!(sense.state().reports, 3);
        sense.check_replay();
        sense.check_round_trip();
    }
}
