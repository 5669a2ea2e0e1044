//! The WeMo motion sensor in the hall, which the recording does not have.

use serde_json::{Value, json};

/// Sees whoever comes through the door: it reports motion when the recorded door contact opens and
/// stillness when it closes, once each.
#[derive(Clone, Debug, Default)]
pub struct Wemo {
    moved: Option<bool>,
}

impl Wemo {
    /// Takes what the door contact said; returns what the sensor reports about it, if it is new.
    pub fn door_reported(&mut self, report: &Value) -> Option<Value> {
        let moved = !report["contact"].as_bool()?;
        (self.moved.replace(moved) != Some(moved)).then(|| json!({ "occupancy": moved }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reports_each_opening_and_closing_once() {
        let mut wemo = Wemo::default();
        let said = [
            json!({ "contact": false }),
            json!({ "contact": false }),
            json!({ "contact": null }),
            json!({ "contact": true }),
            json!({ "contact": false }),
        ];
        let reported: Vec<_> = said
            .iter()
            .filter_map(|report| wemo.door_reported(report))
            .collect();
        assert_eq!(
            reported,
            [true, false, true].map(|moved| json!({ "occupancy": moved }))
        );
    }
}
