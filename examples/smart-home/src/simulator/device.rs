//! One simulated actuator: what it shows, and what a command does to it.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

/// How many ids of commands a keyed device remembers.
const REMEMBERED_MAX: usize = 1_000;

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A lamp: a command says what to show, so the same command again does nothing.
    Lamp,
    /// A plug: as a lamp, without brightness.
    Plug,
    /// A lamp with a loudspeaker, which knows a copy of a command by its id and does not repeat it.
    Awox,
    /// A loudspeaker: each command sounds, copies too.
    Speaker,
    /// A door lock: a command says where its bolt shall be.
    Lock,
    /// A pump: each command doses, copies too, and is counted.
    Pump,
}

/// A device with its state.
#[derive(Clone, Debug)]
pub struct Device {
    kind: Kind,
    state: Map<String, Value>,
    /// Ids of the latest commands, oldest first; a keyed device does not repeat them.
    remembered: VecDeque<String>,
}

impl Device {
    /// A device that is off.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let state = match kind {
            Kind::Lamp => json!({ "state": "OFF", "brightness": 110 }),
            Kind::Plug => json!({ "state": "OFF" }),
            Kind::Awox => json!({ "state": "OFF", "played": 0 }),
            Kind::Speaker => json!({ "played": 0 }),
            Kind::Lock => json!({ "state": "LOCK", "lock_state": "locked" }),
            Kind::Pump => json!({ "doses": 0 }),
        };
        let Value::Object(state) = state else {
            unreachable!("every state above is an object")
        };
        Self {
            kind,
            state,
            remembered: VecDeque::new(),
        }
    }

    /// What it reports about itself.
    #[must_use]
    pub fn report(&self) -> Value {
        Value::Object(self.state.clone())
    }

    /// Takes a command, as any real device does: whoever sent it, however late. Returns whether
    /// anything happened in the physical world.
    pub fn carry_out(&mut self, id: Option<&str>, command: &Value) -> bool {
        if self.kind == Kind::Awox && self.is_known(id) {
            return false;
        }
        let properties: &[&str] = match self.kind {
            Kind::Lamp => &["state", "brightness"],
            Kind::Plug | Kind::Awox | Kind::Lock => &["state"],
            Kind::Speaker | Kind::Pump => &[],
        };
        let mut changed = false;
        for property in properties {
            changed |= self.set(property, &command[*property]);
        }
        if self.kind == Kind::Lock {
            let locked = self.state["state"] == "LOCK";
            let word = if locked { "locked" } else { "unlocked" };
            self.state.insert("lock_state".into(), word.into());
        }
        let played = self.sounds() && self.count("played", command["play"].is_string());
        let dosed = self.kind == Kind::Pump
            && self.count(
                "doses",
                command["dose"].as_u64().is_some_and(|dose| dose > 0),
            );
        changed | played | dosed
    }

    fn sounds(&self) -> bool {
        matches!(self.kind, Kind::Awox | Kind::Speaker)
    }

    fn is_known(&mut self, id: Option<&str>) -> bool {
        let Some(id) = id else { return false };
        if self.remembered.iter().any(|known| known == id) {
            return true;
        }
        if self.remembered.len() == REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        self.remembered.push_back(id.to_owned());
        false
    }

    fn set(&mut self, property: &str, wanted: &Value) -> bool {
        let valid = match property {
            "state" if self.kind == Kind::Lock => wanted == "LOCK" || wanted == "UNLOCK",
            "state" => wanted == "ON" || wanted == "OFF",
            _ => wanted.as_u64().is_some_and(|level| level <= 254),
        };
        valid
            && self
                .state
                .insert(property.to_owned(), wanted.clone())
                .as_ref()
                != Some(wanted)
    }

    /// Does once more what it counts, if it is asked to.
    fn count(&mut self, counter: &str, asked: bool) -> bool {
        if asked {
            let count = self.state[counter].as_u64().unwrap_or(0) + 1;
            self.state.insert(counter.to_owned(), count.into());
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lamp_shows_what_it_is_told_and_a_repeated_command_does_nothing() {
        let mut lamp = Device::new(Kind::Lamp);
        let on = json!({ "state": "ON", "brightness": 254 });
        assert!(lamp.carry_out(Some("a/0.1.0"), &on));
        assert!(!lamp.carry_out(Some("a/0.1.0"), &on));
        assert_eq!(lamp.report(), on);
        assert!(lamp.carry_out(Some("a/0.2.0"), &json!({ "state": "OFF" })));
        assert_eq!(lamp.report(), json!({ "state": "OFF", "brightness": 254 }));
    }

    #[test]
    fn a_stale_copy_makes_a_lamp_blink_so_that_a_check_can_see_it() {
        let mut lamp = Device::new(Kind::Lamp);
        let (on, off) = (json!({ "state": "ON" }), json!({ "state": "OFF" }));
        let did = [("a", &on), ("b", &off), ("a", &on)]
            .map(|(id, command)| lamp.carry_out(Some(id), command));
        assert_eq!(did, [true, true, true]);
    }

    #[test]
    fn a_loudspeaker_sounds_at_every_copy_and_a_keyed_device_at_the_first_only() {
        let sound = json!({ "play": "alarm", "volume": 60 });
        let mut speaker = Device::new(Kind::Speaker);
        let mut awox = Device::new(Kind::Awox);
        assert_eq!(
            [(); 2].map(|()| speaker.carry_out(Some("a"), &sound)),
            [true, true]
        );
        assert_eq!(
            [(); 2].map(|()| awox.carry_out(Some("a"), &sound)),
            [true, false]
        );
        assert_eq!(speaker.report(), json!({ "played": 2 }));
    }

    #[test]
    fn a_lock_shows_where_its_bolt_is_and_a_pump_doses_at_every_copy() {
        let mut lock = Device::new(Kind::Lock);
        let unlock = json!({ "state": "UNLOCK" });
        assert!(lock.carry_out(Some("a"), &unlock));
        assert!(!lock.carry_out(Some("a"), &unlock));
        let shown = json!({ "state": "UNLOCK", "lock_state": "unlocked" });
        assert_eq!(lock.report(), shown);
        let mut pump = Device::new(Kind::Pump);
        let dose = json!({ "dose": 2 });
        let did = [(); 2].map(|()| pump.carry_out(Some("a"), &dose));
        assert_eq!(did, [true, true]);
        assert_eq!(pump.report(), json!({ "doses": 2 }));
    }

    #[test]
    fn nonsense_changes_nothing() {
        let lights = [Kind::Lamp, Kind::Plug, Kind::Awox];
        for kind in lights
            .into_iter()
            .chain([Kind::Speaker, Kind::Lock, Kind::Pump])
        {
            let mut device = Device::new(kind);
            let before = device.report();
            for nonsense in [
                json!(null),
                json!([1]),
                json!({ "state": "TOGGEL", "brightness": 255, "play": 7, "dose": 0 }),
            ] {
                assert!(!device.carry_out(None, &nonsense), "{kind:?} {nonsense}");
            }
            assert_eq!(device.report(), before);
        }
    }
}
