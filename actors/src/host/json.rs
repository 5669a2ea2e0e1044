//! What devices say and understand, JSON, to and from the encoding of elements.

use lamplighter_policies::state_saving::Properties;
use serde_json::Value;

use crate::encoding::{Encoded, variant_prefix};

/// The largest payload that a device may send.
pub(super) const PAYLOAD_BYTES_MAX: usize = 256 << 10;

/// Turns what a device said into the variant `variant` of an element's input.
///
/// A payload that is no JSON is taken as text, as some devices send bare words; an empty one is null.
pub(super) fn to_input(variant: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(format!(
            "it has {} bytes, and a device's message may have {PAYLOAD_BYTES_MAX}",
            payload.len()
        ));
    }
    let text = std::str::from_utf8(payload).map_err(|e| format!("it is not UTF-8: {e}"))?;
    let value = match text.trim() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
    };
    let body = Encoded::of(&value).map_err(|e| e.to_string())?;
    Ok([variant_prefix(variant), body.into_bytes()].concat())
}

/// Turns a command's properties into what a device understands. A command that is not a map stands
/// alone.
pub(super) fn of_command(properties: &Properties) -> Result<Vec<u8>, String> {
    let alone = properties
        .get(crate::encoding::WHOLE)
        .filter(|_| properties.len() == 1);
    let whole = match alone {
        Some(alone) => serde_json::to_value(alone),
        None => serde_json::to_value(properties),
    };
    let whole = whole.map_err(|e| e.to_string())?;
    // A bare word goes bare, as devices with one command each expect it.
    let bare = whole.as_str().map(|word| word.as_bytes().to_vec());
    Ok(bare.unwrap_or_else(|| whole.to_string().into_bytes()))
}

/// What a device's report says of its properties; what is null is not known. A report that is no
/// JSON object stands alone.
pub(super) fn of_report(report: &[u8]) -> Properties {
    let known = |value: Value| serde_json::from_value(value).ok();
    let whole = match serde_json::from_slice(report) {
        Ok(Value::Object(properties)) => {
            let known = |(name, value)| Some((name, known(value)?));
            return properties.into_iter().filter_map(known).collect();
        }
        Ok(alone) => known(alone),
        Err(_) => str::from_utf8(report)
            .ok()
            .map(|word| word.to_owned().into()),
    };
    let alone = whole.map(|alone| (crate::encoding::WHOLE.to_owned(), alone));
    alone.into_iter().collect()
}

/// Whether a device's report has this property, with a value.
pub(super) fn has(report: &[u8], property: &str) -> bool {
    let report = serde_json::from_slice::<Value>(report).unwrap_or_default();
    report.get(property).is_some_and(|value| !value.is_null())
}

/// What asks a device to report these properties, by zigbee2mqtt's convention.
pub(super) fn question(properties: &[String]) -> Vec<u8> {
    let empty = |name: &String| (name.clone(), Value::from(""));
    Value::Object(properties.iter().map(empty).collect())
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use lamplighter_runtime::message_pack;

    use super::*;

    #[derive(Deserialize, Debug, PartialEq)]
    enum Input {
        Motion {
            occupancy: bool,
            illuminance: Option<u32>,
        },
        Action(String),
        Gone,
    }

    fn input(variant: &str, payload: &str) -> Input {
        message_pack::decode(&to_input(variant, payload.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_devices_payload_becomes_a_variant_of_the_input() {
        let payload =
            r#"{"battery":100,"illuminance":16,"occupancy":true,"update":{"state":null}}"#;
        let motion = Input::Motion {
            occupancy: true,
            illuminance: Some(16),
        };
        assert_eq!(input("Motion", payload), motion);
        assert_eq!(input("Action", "on"), Input::Action("on".into()));
        assert_eq!(input("Gone", ""), Input::Gone);
    }

    fn properties(of: &Value) -> Properties {
        of_report(of.to_string().as_bytes())
    }

    #[test]
    fn a_command_becomes_what_the_device_understands() {
        let light = properties(&json!({ "state": "ON", "brightness": 110 }));
        assert_eq!(
            of_command(&light).unwrap(),
            br#"{"brightness":110,"state":"ON"}"#
        );
        assert_eq!(of_command(&properties(&json!("play"))).unwrap(), b"play");
    }

    #[test]
    fn a_device_is_asked_for_properties_and_reports_those_that_are_known() {
        let names = ["brightness".to_owned(), "state".to_owned()];
        assert_eq!(question(&names), br#"{"brightness":"","state":""}"#);
        let report = br#"{"state":"ON","brightness":90,"update":null}"#;
        let shown = json!({ "state": "ON", "brightness": 90 });
        assert_eq!(of_report(report), properties(&shown));
        assert!(has(report, "state") && !has(report, "update"));
    }
}
