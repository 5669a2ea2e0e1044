//! The software elements of the smart home (paper, Figure 6), one a file; door and medicine, where a
//! mistake hurts, are our own addition.

mod awox_actuate;
mod fibaro_adapter;
mod lock_keeper;
mod medicine_giver;
mod node_hue_actuate;
mod node_hue_sense;
mod orchestrator;
mod sound_player;
mod wemo_sense;

pub use awox_actuate::AwoxActuate;
pub use fibaro_adapter::FibaroAdapter;
pub use lock_keeper::LockKeeper;
pub use medicine_giver::MedicineGiver;
pub use node_hue_actuate::NodeHueActuate;
pub use node_hue_sense::NodeHueSense;
pub use orchestrator::Orchestrator;
pub use sound_player::SoundPlayer;
pub use wemo_sense::WemoSense;

use std::time::Duration;

/// How long a command may wait before the physical world has moved on.
const COMMAND_VALIDITY: Duration = Duration::from_secs(10);
