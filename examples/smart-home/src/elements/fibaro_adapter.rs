//! Reports what the Fibaro sensors sense: motion with light, temperature, the door.

use std::time::Duration;

use lamplighter::prelude::*;

use crate::messages::{Door, DoorReport, Motion, MotionReport, Temperature};

/// Somebody moves in the bedroom; holds as long as somebody seen once is taken to be at home.
const MOTION: Output<Motion> = Output::new("motion");
/// The door moved.
const DOOR: Output<Door> = Output::new("door");
/// The temperature changed.
const TEMPERATURE: Output<Temperature> = Output::new("temperature");

/// What the element receives.
#[derive(Debug, Serialize, Deserialize)]
pub enum Input {
    /// The motion sensor said something.
    Room(MotionReport),
    /// The door contact said something.
    Door(DoorReport),
}

/// Knows what its sensors said last, and passes on what is new.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FibaroAdapter {
    /// How long one motion tells that somebody is at home, in milliseconds.
    presence_ms: u64,
    door_open: Option<bool>,
    celsius: Option<f64>,
    room_reports: u64,
    door_reports: u64,
}

impl Element for FibaroAdapter {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Room(report) => self.room_reported(&report, ctx),
            Input::Door(report) => self.door_reported(&report, ctx),
        }
        Ok(())
    }
}

impl FibaroAdapter {
    fn room_reported(&mut self, report: &MotionReport, ctx: &mut Context<Self>) {
        self.room_reports += 1;
        if report.occupancy == Some(true) {
            let motion = Motion {
                room: "bedroom".into(),
                illuminance: report.illuminance,
            };
            ctx.emit(MOTION, motion)
                .valid_for(Duration::from_millis(self.presence_ms));
        }
        if let Some(celsius) = report.temperature
            && self.celsius.replace(celsius) != Some(celsius)
        {
            ctx.emit(TEMPERATURE, Temperature { celsius });
        }
    }

    fn door_reported(&mut self, report: &DoorReport, ctx: &mut Context<Self>) {
        self.door_reports += 1;
        let Some(closed) = report.contact else { return };
        if self.door_open.replace(!closed) != Some(!closed) {
            ctx.emit(DOOR, Door { open: !closed });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn motion_holds_as_long_as_it_tells_of_somebody_at_home() {
        let mut adapter = adapter();
        adapter.event("fibaro-motion", room(true, 8, None));
        adapter.event("fibaro-motion", room(false, 8, None));
        let motion = Motion {
            room: "bedroom".into(),
            illuminance: Some(8),
        };
        assert_eq!(
            adapter.emissions(MOTION),
            [(motion, Some(Duration::from_secs(8)))]
        );
    }

    #[test]
    fn the_door_and_the_temperature_are_reported_when_they_change() {
        let mut adapter = adapter();
        for contact in [Some(false), Some(false), None, Some(true)] {
            adapter.event("fibaro-door", Input::Door(DoorReport { contact }));
        }
        for celsius in [None, Some(21.5), Some(21.5), Some(21.6)] {
            adapter.event("fibaro-motion", room(false, 8, celsius));
        }
        assert_eq!(
            adapter.emitted(DOOR),
            [true, false].map(|open| Door { open })
        );
        assert_eq!(
            adapter.emitted(TEMPERATURE),
            [21.5, 21.6].map(|celsius| Temperature { celsius })
        );
        assert_eq!(
            (adapter.state().room_reports, adapter.state().door_reports),
            (4, 4)
        );
    }

    #[test]
    fn a_crash_changes_nothing() {
        let mut adapter = adapter();
        adapter.event(
            "fibaro-door",
            Input::Door(DoorReport {
                contact: Some(false),
            }),
        );
        adapter.crash();
        adapter.event(
            "fibaro-door",
            Input::Door(DoorReport {
                contact: Some(false),
            }),
        );
        assert_eq!(adapter.emitted(DOOR), [Door { open: true }]);
        adapter.check_replay();
        adapter.check_round_trip();
    }

    fn adapter() -> TestElement<FibaroAdapter> {
        TestElement::with_state(json!({ "presence_ms": 8_000 }))
    }

    fn room(moved: bool, lux: u32, celsius: Option<f64>) -> Input {
        Input::Room(MotionReport {
            occupancy: Some(moved),
            illuminance: Some(lux),
            temperature: celsius,
        })
    }
}
