//! The rules of the house: what is to be done about what is sensed.
//!
//! | sensed | done |
//! |---|---|
//! | motion in the dark bedroom | bedroom lamp on, off again when nobody moved for a while |
//! | a press of the button | bedside lamp on, or off if it was on |
//! | motion in the hall | hall lamp on, off again after a while |
//! | the door opens while somebody is at home | a chime |
//! | the door opens while nobody is | the alarm |

use std::time::Duration;

use lamplighter::prelude::*;

use super::COMMAND_VALIDITY;
use crate::messages::{Door, Light, Motion, Pressed, Sound, Temperature};

/// The main lamp of the bedroom.
const BEDROOM: Output<Light> = Output::new("bedroom");
/// The lamp beside the bed.
const BEDSIDE: Output<Light> = Output::new("bedside");
/// The lamp in the hall.
const HALL: Output<Light> = Output::new("hall");
/// A friendly sound.
const CHIME: Output<Sound> = Output::new("chime");
/// An unfriendly one.
const ALARM: Output<Sound> = Output::new("alarm");

/// What the element receives.
#[derive(Debug, Serialize, Deserialize)]
pub enum Input {
    /// The button was pressed.
    Pressed(Pressed),
    /// Somebody moves in the bedroom.
    Motion(Motion),
    /// Somebody moves in the hall.
    HallMotion(Motion),
    /// The door moved.
    Door(Door),
    /// The temperature changed.
    Temperature(Temperature),
    /// Nobody moved in the bedroom for a while: our own timer.
    BedroomStill,
    /// Nobody moved in the hall for a while: our own timer.
    HallStill,
}

/// What the house knows, and how often it learned it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Orchestrator {
    /// How long a lamp stays on after the last motion, in milliseconds.
    hold_ms: u64,
    /// Below how many lux it is dark.
    dark_below_lux: u32,
    /// Where somebody was seen last; forgets by itself.
    presence: Valid<String>,
    bedroom_on: bool,
    bedside_on: bool,
    hall_on: bool,
    celsius: Option<f64>,
    presses: u64,
    motions: u64,
    hall_motions: u64,
    openings: u64,
    closings: u64,
    temperatures: u64,
    chimes: u64,
    alarms: u64,
}

impl Element for Orchestrator {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match &event.body {
            Input::Pressed(_) => {
                self.presses += 1;
                self.bedside_on = !self.bedside_on;
                switch(ctx, BEDSIDE, self.bedside_on);
            }
            Input::Motion(motion) => {
                self.motions += 1;
                self.presence = event.valid(motion.room.clone());
                // What comes too late tells that somebody was there, not that somebody needs light.
                if !event.expired
                    && motion
                        .illuminance
                        .is_some_and(|lux| lux < self.dark_below_lux)
                {
                    self.bedroom_moved(ctx);
                }
            }
            Input::HallMotion(_) => {
                self.hall_motions += 1;
                self.hall_moved(ctx);
            }
            Input::Door(Door { open: true }) => {
                self.openings += 1;
                self.door_opened(ctx);
            }
            Input::Door(Door { open: false }) => self.closings += 1,
            Input::Temperature(temperature) => {
                self.temperatures += 1;
                self.celsius = Some(temperature.celsius);
            }
            Input::BedroomStill => {
                self.bedroom_on = false;
                switch(ctx, BEDROOM, false);
            }
            Input::HallStill => {
                self.hall_on = false;
                switch(ctx, HALL, false);
            }
        }
        Ok(())
    }
}

impl Orchestrator {
    fn bedroom_moved(&mut self, ctx: &mut Context<Self>) {
        if !self.bedroom_on {
            self.bedroom_on = true;
            switch(ctx, BEDROOM, true);
        }
        ctx.set_timer("bedroom", self.hold(), Input::BedroomStill);
    }

    fn hall_moved(&mut self, ctx: &mut Context<Self>) {
        if !self.hall_on {
            self.hall_on = true;
            switch(ctx, HALL, true);
        }
        ctx.set_timer("hall", self.hold(), Input::HallStill);
    }

    fn door_opened(&mut self, ctx: &mut Context<Self>) {
        if let Some(room) = self.presence.get(ctx.now()) {
            let reason = format!("the door opened while somebody was in the {room}");
            self.chimes += 1;
            ctx.emit(CHIME, Sound { reason })
                .valid_for(COMMAND_VALIDITY);
        } else {
            let reason = "the door opened while nobody was at home".into();
            self.alarms += 1;
            ctx.emit(ALARM, Sound { reason })
                .valid_for(COMMAND_VALIDITY);
        }
    }

    fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms)
    }
}

fn switch(ctx: &mut Context<Orchestrator>, lamp: Output<Light>, on: bool) {
    ctx.emit(lamp, Light { on }).valid_for(COMMAND_VALIDITY);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(5);
    const ON: Light = Light { on: true };
    const OFF: Light = Light { on: false };

    #[test]
    fn motion_in_the_dark_switches_the_lamp_on_until_nobody_moved_for_a_while() {
        let mut house = house();
        house.event("fibaro-adapter", motion(8));
        house.advance(HOLD / 2);
        house.event("fibaro-adapter", motion(8));
        house.advance(HOLD / 2);
        assert_eq!(house.emissions(BEDROOM), [(ON, Some(COMMAND_VALIDITY))]);
        house.advance(HOLD / 2);
        assert_eq!(house.emitted(BEDROOM), [OFF]);
    }

    #[test]
    fn motion_in_daylight_is_counted_and_switches_nothing() {
        let mut house = house();
        house.event("fibaro-adapter", motion(25));
        house.advance(2 * HOLD);
        assert_eq!(house.emitted(BEDROOM), []);
        assert_eq!(house.state().motions, 1);
    }

    #[test]
    fn each_press_turns_the_bedside_lamp_over() {
        let mut house = house();
        for count in 1..=3 {
            house.event("node-hue-sense", Input::Pressed(Pressed { count }));
        }
        assert_eq!(house.emitted(BEDSIDE), [ON, OFF, ON]);
    }

    #[test]
    fn the_door_chimes_for_who_is_at_home_and_alarms_when_nobody_is() {
        let mut house = house();
        let opens = || Input::Door(Door { open: true });
        house.event("fibaro-adapter", opens());
        house.event_valid_for("fibaro-adapter", motion(25), Duration::from_secs(8));
        house.event("fibaro-adapter", opens());
        house.advance(Duration::from_secs(8));
        house.event("fibaro-adapter", opens());
        assert_eq!(house.emitted(ALARM).len(), 2);
        assert_eq!(house.emitted(CHIME).len(), 1);
        let state = house.state();
        assert_eq!((state.openings, state.alarms, state.chimes), (3, 2, 1));
    }

    #[test]
    fn the_hall_lamp_follows_motion_in_the_hall() {
        let mut house = house();
        let moved = Motion {
            room: "hall".into(),
            illuminance: None,
        };
        house.event("wemo-sense", Input::HallMotion(moved));
        house.advance(HOLD);
        assert_eq!(house.emitted(HALL), [ON, OFF]);
    }

    #[test]
    fn a_lamp_that_is_on_when_the_house_crashes_goes_off_on_time_and_once() {
        let mut house = house();
        house.event("fibaro-adapter", motion(8));
        house.crash();
        house.panic_at_next_event();
        house.advance(HOLD);
        house.crash();
        house.advance(HOLD);
        assert_eq!(house.emitted(BEDROOM), [ON, OFF]);
        assert_eq!(house.dead_letters(), [""; 0]);
        house.check_replay();
        house.check_round_trip();
    }

    fn house() -> TestElement<Orchestrator> {
        TestElement::with_state(json!({ "hold_ms": 5_000, "dark_below_lux": 20 }))
    }

    fn motion(lux: u32) -> Input {
        Input::Motion(Motion {
            room: "bedroom".into(),
            illuminance: Some(lux),
        })
    }
}
