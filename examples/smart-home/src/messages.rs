//! What the devices say and understand, and what the elements tell each other.
//!
//! The device types follow zigbee2mqtt: one JSON object, where a property that the device has not
//! reported is `null`, and where more properties stand than anybody here wants.

use serde::{Deserialize, Serialize};

/// Whether something is switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Switch {
    /// It gives light, or passes current.
    On,
    /// It does not.
    #[default]
    Off,
}

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

/// A button or keypad says what was done to it; between presses it only says that it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ButtonReport {
    /// `on` or `press` for a press, `lock` or `unlock` at a keypad; `None` for a sign of life.
    pub action: Option<String>,
}

/// A motion sensor that also measures light and temperature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MotionReport {
    /// Whether somebody moves.
    pub occupancy: Option<bool>,
    /// How bright it is, in lux.
    pub illuminance: Option<u32>,
    /// How warm it is, in degrees Celsius.
    pub temperature: Option<f64>,
}

/// A door contact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DoorReport {
    /// `false` means that the door is open.
    pub contact: Option<bool>,
}

/// What a lamp says that it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LampReport {
    /// `None` if the lamp does not know.
    pub state: Option<Switch>,
}

/// A lamp is told what to show. Telling it twice shows the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LightCommand {
    /// On or off.
    pub state: Switch,
    /// 0 to 254; left alone if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brightness: Option<u8>,
}

/// A plug is switched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlugCommand {
    /// On or off.
    pub state: Switch,
}

/// A loudspeaker sounds once. Telling it twice sounds twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoundCommand {
    /// The name of the sound.
    pub play: String,
    /// 0 to 100.
    pub volume: u8,
}

/// The Awox lamp glows, sounds, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwoxCommand {
    /// On or off.
    pub state: Switch,
    /// A sound to play once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play: Option<String>,
}

/// Where the bolt of a door is, or shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Bolt {
    /// The door is locked.
    Lock,
    /// It is not.
    Unlock,
}

/// A lock is told where its bolt shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockCommand {
    /// Locked or not.
    pub state: Bolt,
}

/// What a lock says of its bolt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockReport {
    /// `None` if the lock does not know.
    pub state: Option<Bolt>,
}

/// A pump gives a dose. Telling it twice gives two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoseCommand {
    /// How much, in millilitres.
    pub dose: u32,
}

/// What a pump says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PumpReport {
    /// How many doses it has given.
    pub doses: Option<u64>,
}

/// A display shows a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisplayCommand {
    /// The text.
    pub text: String,
}

/// Somebody pressed the button.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressed {
    /// How many presses there were, this one included.
    pub count: u64,
}

/// Somebody moves in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Motion {
    /// Which room.
    pub room: String,
    /// How bright it is there, in lux, if the sensor knows.
    pub illuminance: Option<u32>,
}

/// The door moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// Whether it is open.
    pub open: bool,
}

/// It became warmer or colder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// Degrees Celsius.
    pub celsius: f64,
}

/// What a lamp shall show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Light {
    /// Whether it shall give light.
    pub on: bool,
}

/// Why a sound is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sound {
    /// For the people who hear it and look for the cause.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_real_devices_send_is_understood_nulls_and_unknown_properties_included() {
        let motion = r#"{"battery":100,"illuminance":16,"occupancy":true,"temperature":null,"update":{"state":null}}"#;
        assert_eq!(
            serde_json::from_str::<MotionReport>(motion).unwrap(),
            MotionReport {
                occupancy: Some(true),
                illuminance: Some(16),
                temperature: None
            }
        );
        let alive = r#"{"battery":100,"last_seen":"2026-11-22T07:19:52.914Z","linkquality":180}"#;
        assert_eq!(
            serde_json::from_str::<ButtonReport>(alive).unwrap(),
            ButtonReport::default()
        );
        assert_eq!(
            serde_json::from_str::<LampReport>(r#"{"state":"ON","brightness":110}"#).unwrap(),
            LampReport {
                state: Some(Switch::On)
            }
        );
    }

    #[test]
    fn commands_are_what_the_devices_expect() {
        let light = LightCommand {
            state: Switch::On,
            brightness: Some(254),
        };
        assert_eq!(
            serde_json::to_string(&light).unwrap(),
            r#"{"state":"ON","brightness":254}"#
        );
        let dark = AwoxCommand {
            state: Switch::Off,
            play: None,
        };
        assert_eq!(serde_json::to_string(&dark).unwrap(), r#"{"state":"OFF"}"#);
    }
}
