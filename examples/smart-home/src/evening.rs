//! The recorded evening, and what of it is played.

use std::path::Path;

use lamplighter::scenario::{Scenario, ScenarioError};

use crate::simulator::is_simulated;

/// Reads a recording of a smart home and leaves out what is not to be played: commands and questions
/// are the house's to send, and what is simulated speaks for itself, or two lamps would speak on one
/// topic.
///
/// # Errors
/// The file is no recording.
pub fn read_evening(recording: &Path) -> Result<Scenario, ScenarioError> {
    let recorded = Scenario::read(recording, 0)?;
    Ok(recorded.only(|message| is_played(&message.topic)))
}

fn is_played(topic: &str) -> bool {
    let device = topic.strip_suffix("/availability").unwrap_or(topic);
    !topic.ends_with("/set") && !topic.ends_with("/get") && !is_simulated(device)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_shipped_evening_is_played_without_commands_and_simulated_lamps() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/zigbee2mqtt-evening.jsonl");
        let evening = read_evening(&path).unwrap();
        let counts = [
            "zigbee2mqtt/0x0017880100fa1005",
            "zigbee2mqtt/0x0017880100fa1006",
            "zigbee2mqtt/0x0017880100fa1007",
            "zigbee2mqtt/0x0017880100fa1001/get",
            "zigbee2mqtt/bedroom/lamp",
            "zigbee2mqtt/bedroom/lamp/availability",
        ]
        .map(|topic| evening.count(topic));
        assert_eq!(counts, [37, 6, 7, 0, 0, 0]);
        assert_eq!(evening.messages.len() + evening.left_out, 77);
        assert_eq!(evening.length(), Duration::from_millis(95_622));
    }
}
