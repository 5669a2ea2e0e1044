//! What devices are told and show, as properties with plain values.

use lamplighter_policies::model::Value;
use lamplighter_policies::protocol::cell::TaskInput;
use lamplighter_policies::state_saving::Properties;
use lamplighter_runtime::message_pack;

use crate::encoding;

/// The properties that a command sets. One that is null sets nothing; a command that is not a map
/// stands alone.
pub(super) fn properties(body: &[u8]) -> Result<Properties, String> {
    let pieces = encoding::fields(body);
    let value = |(name, bytes): (String, Vec<u8>)| {
        let value = message_pack::decode::<Option<Value>>(&bytes);
        match value.map_err(|e| format!("property {name:?} of a command: {e}")) {
            Ok(None) if name == encoding::WHOLE => Some(Ok((name, Value::Text(String::new())))),
            Ok(value) => value.map(|value| Ok((name, value))),
            Err(fault) => Some(Err(fault)),
        }
    };
    pieces.into_iter().filter_map(value).collect()
}

/// What a device shows by what it said: the body of the input that it became. What is null or has no
/// plain form is not known.
pub(super) fn sensed(input: &TaskInput) -> Properties {
    let TaskInput::Event {
        payload,
        sensed: true,
        ..
    } = input
    else {
        return Properties::new();
    };
    let body = encoding::fields(payload).into_iter().next();
    let body = body.filter(|(variant, _)| variant != encoding::WHOLE);
    let pieces = body.map(|(_, body)| encoding::fields(&body));
    let known = |(name, bytes): (String, Vec<u8>)| {
        let value = message_pack::decode::<Option<Value>>(&bytes).ok()?;
        Some((name, value?))
    };
    pieces.into_iter().flatten().filter_map(known).collect()
}
