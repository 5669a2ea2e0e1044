//! Controls the Zigbee lamps: tells each what to show, and knows what each says that it shows.

use lamplighter::prelude::*;

use super::COMMAND_VALIDITY;
use crate::messages::{LampReport, Light, LightCommand, Switch};

/// The main lamp of the bedroom.
const BEDROOM: Output<LightCommand> = Output::new("bedroom");
/// The lamp beside the bed.
const BEDSIDE: Output<LightCommand> = Output::new("bedside");
/// The lamp in the hall.
const HALL: Output<LightCommand> = Output::new("hall");

/// What the element receives.
#[derive(Debug, Serialize, Deserialize)]
pub enum Input {
    /// What the bedroom lamp shall show.
    Bedroom(Light),
    /// What the bedside lamp shall show.
    Bedside(Light),
    /// What the hall lamp shall show.
    Hall(Light),
    /// What the bedroom lamp says that it shows.
    BedroomShows(LampReport),
    /// What the bedside lamp says that it shows.
    BedsideShows(LampReport),
    /// What the hall lamp says that it shows.
    HallShows(LampReport),
}

/// What it wants of each lamp, what each says, and how often it told them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeHueActuate {
    /// How bright a lamp shines when it is on, 0 to 254.
    brightness: u8,
    bedroom: Lamp,
    bedside: Lamp,
    hall: Lamp,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Lamp {
    wanted: Switch,
    shown: Option<Switch>,
    commands: u64,
}

impl Element for NodeHueActuate {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        let brightness = self.brightness;
        match event.body {
            Input::Bedroom(light) => self.bedroom.tell(ctx, BEDROOM, light, brightness),
            Input::Bedside(light) => self.bedside.tell(ctx, BEDSIDE, light, brightness),
            Input::Hall(light) => self.hall.tell(ctx, HALL, light, brightness),
            Input::BedroomShows(report) => self.bedroom.shown = report.state,
            Input::BedsideShows(report) => self.bedside.shown = report.state,
            Input::HallShows(report) => self.hall.shown = report.state,
        }
        Ok(())
    }
}

impl Lamp {
    fn tell(
        &mut self,
        ctx: &mut Context<NodeHueActuate>,
        lamp: Output<LightCommand>,
        light: Light,
        brightness: u8,
    ) {
        self.commands += 1;
        self.wanted = light.on.into();
        let command = LightCommand {
            state: self.wanted,
            brightness: light.on.then_some(brightness),
        };
        ctx.emit(lamp, command).valid_for(COMMAND_VALIDITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lamp_is_told_what_to_show_and_for_how_long_that_matters() {
        let mut actuate = actuate();
        actuate.event("orchestrator", Input::Bedroom(Light { on: true }));
        actuate.event("orchestrator", Input::Bedside(Light { on: false }));
        let on = LightCommand {
            state: Switch::On,
            brightness: Some(200),
        };
        let off = LightCommand {
            state: Switch::Off,
            brightness: None,
        };
        assert_eq!(actuate.emissions(BEDROOM), [(on, Some(COMMAND_VALIDITY))]);
        assert_eq!(actuate.emissions(BEDSIDE), [(off, Some(COMMAND_VALIDITY))]);
        assert_eq!(actuate.emitted(HALL), []);
    }

    #[test]
    fn what_a_lamp_says_that_it_shows_is_known_after_a_crash_too() {
        let mut actuate = actuate();
        let report = LampReport {
            state: Some(Switch::On),
        };
        actuate.event("ikea-lamp", Input::HallShows(report));
        actuate.crash();
        assert_eq!(actuate.state().hall.shown, Some(Switch::On));
        assert_eq!(actuate.state().bedroom.shown, None);
        actuate.check_replay();
        actuate.check_round_trip();
    }

    fn actuate() -> TestElement<NodeHueActuate> {
        TestElement::with_state(json!({ "brightness": 200 }))
    }
}
