//! The appliances of the house, simulated: they speak zigbee2mqtt's topics and payloads, and keep a
//! trace of what they physically did.

mod device;
mod house;
mod trace;
mod wemo;

pub use device::{Device, Kind};
pub use house::{Appliances, SimulatorError, run};
pub use trace::{PhysicalTrace, TraceError, TraceLine, now_us};
pub use wemo::Wemo;

/// What stands in the house: id in the topology, base topic, kind.
pub const APPLIANCES: [(&str, &str, Kind); 8] = [
    ("hue-lamp", "zigbee2mqtt/bedroom/lamp", Kind::Lamp),
    ("hue-go", "zigbee2mqtt/bedroom/hue_go", Kind::Lamp),
    ("ikea-lamp", "zigbee2mqtt/0x0017880100fa1003", Kind::Lamp),
    ("plug", "zigbee2mqtt/0x0017880100fa1004", Kind::Plug),
    ("awox", "awox/living-room", Kind::Awox),
    ("speaker", "speaker/living-room", Kind::Speaker),
    ("lock", LOCK_TOPIC, Kind::Lock),
    ("pump", PUMP_TOPIC, Kind::Pump),
];

/// The base topic of the lock of the front door.
pub const LOCK_TOPIC: &str = "zigbee2mqtt/hall/lock";

/// The base topic of the medicine pump.
pub const PUMP_TOPIC: &str = "pump/bedroom";

/// Where a device is unplugged, by its id in the topology: `{ "device": "hue-lamp" }`. From then on it
/// does nothing and says nothing; its bridge notices, and says so.
pub const UNPLUG_TOPIC: &str = "simulator/unplug";

/// Where a device is plugged in again: `{ "device": "hue-lamp" }`. It is as it came from the factory, and
/// its bridge says that it is back.
pub const PLUG_IN_TOPIC: &str = "simulator/plug-in";

/// The door contact, which is played from the recording, and by which the WeMo sensor knows that
/// somebody is in the hall.
pub const DOOR_TOPIC: &str = "zigbee2mqtt/0x0017880100fa1006";

/// Where the WeMo sensor reports.
pub const WEMO_TOPIC: &str = "wemo/hall";

/// Whether a simulated appliance speaks under this base topic.
#[must_use]
pub fn is_simulated(topic: &str) -> bool {
    topic == WEMO_TOPIC || APPLIANCES.iter().any(|(_, base, _)| *base == topic)
}
