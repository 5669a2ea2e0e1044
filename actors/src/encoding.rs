//! Encoded values and their top-level fields.
//!
//! A state is stored field by field, and a command to a device is merged property by property. Both
//! need the pieces of an encoded map without decoding them.

use std::collections::BTreeMap;

use lamplighter_policies::ids::EntityId;
use lamplighter_runtime::message_pack::{self, MessagePackError};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// The name of the only field of a value that is not a map.
pub(crate) const WHOLE: &str = "";

/// A value as MessagePack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded(Vec<u8>);

impl Encoded {
    pub(crate) fn of(value: &impl Serialize) -> Result<Self, MessagePackError> {
        let mut bytes = Vec::new();
        message_pack::encode_into(&mut bytes, value)?;
        Ok(Self(bytes))
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The top-level fields of an encoded value, each encoded. A value that is not a map with names is
/// one field, [`WHOLE`].
pub(crate) fn fields(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    pieces(bytes).unwrap_or_else(|| [(WHOLE.to_owned(), bytes.to_vec())].into())
}

fn pieces(bytes: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let (count, start) = map_header(bytes)?;
    let mut rest = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes.get(start..)?));
    rest.set_max_depth(message_pack::DEPTH_MAX);
    let mut pieces = BTreeMap::new();
    for _ in 0..count {
        let name = String::deserialize(&mut rest).ok()?;
        let from = usize::try_from(rest.get_ref().position()).ok()?;
        IgnoredAny::deserialize(&mut rest).ok()?;
        let upto = usize::try_from(rest.get_ref().position()).ok()?;
        pieces.insert(name, bytes.get(start + from..start + upto)?.to_vec());
    }
    Some(pieces)
}

/// How many pairs follow a map's header, and where they start.
fn map_header(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes {
        [marker @ 0x80..=0x8f, ..] => Some((usize::from(marker & 0x0f), 1)),
        [0xde, a, b, ..] => Some((usize::from(u16::from_be_bytes([a, b])), 3)),
        [0xdf, a, b, c, d, ..] => {
            Some((usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?, 5))
        }
        _ => None,
    }
}

/// Puts top-level fields together again.
pub(crate) fn join<'a>(fields: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let fields: Vec<_> = fields.collect();
    if let [(WHOLE, bytes)] = fields[..] {
        return bytes.to_vec();
    }
    let count = u32::try_from(fields.len()).expect("a state has fewer than 2^32 fields");
    let mut joined = vec![0xdf];
    joined.extend(count.to_be_bytes());
    for (name, bytes) in fields {
        message_pack::encode_into(&mut joined, &name).expect("a string encodes");
        joined.extend(bytes);
    }
    joined
}

/// What turns an encoded body into the variant `variant` of a receiver's input, put before the body.
pub(crate) fn variant_prefix(variant: &str) -> Vec<u8> {
    let mut prefix = vec![0x81];
    message_pack::encode_into(&mut prefix, &variant).expect("a string encodes");
    prefix
}

/// A seed that follows from an element and an index of its log.
pub(crate) fn seed(element: &EntityId, index: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    let mut state = index ^ 0x9e37_79b9_7f4a_7c15;
    for byte in element.as_str().bytes() {
        state = mix(state ^ u64::from(byte));
    }
    for word in seed.chunks_exact_mut(8) {
        state = mix(state);
        word.copy_from_slice(&state.to_le_bytes());
    }
    seed
}

/// One step of splitmix64 (Steele, Lea, Flood 2014).
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct State {
        count: u64,
        names: Vec<String>,
        nested: BTreeMap<String, u8>,
    }

    fn state() -> State {
        State {
            count: 7,
            names: vec!["a".into()],
            nested: [("x".into(), 1)].into(),
        }
    }

    #[test]
    fn a_state_falls_into_its_fields_and_comes_together_again() {
        let bytes = Encoded::of(&state()).unwrap().into_bytes();
        let pieces = fields(&bytes);
        assert_eq!(
            pieces.keys().collect::<Vec<_>>(),
            ["count", "names", "nested"]
        );
        let joined = join(
            pieces
                .iter()
                .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
        );
        assert_eq!(message_pack::decode::<State>(&joined).unwrap(), state());
    }

    #[test]
    fn a_value_that_is_no_map_is_one_field() {
        let bytes = Encoded::of(&"on").unwrap().into_bytes();
        assert_eq!(fields(&bytes), [(String::new(), bytes.clone())].into());
        let pieces = fields(&bytes);
        assert_eq!(
            join(pieces.iter().map(|(n, b)| (n.as_str(), b.as_slice()))),
            bytes
        );
    }

    #[test]
    fn a_body_becomes_a_variant_of_the_receivers_input() {
        #[derive(Serialize, Deserialize, Debug, PartialEq)]
        enum Input {
            Light { on: bool },
            Level(u8),
            Ping,
        }
        #[derive(Serialize)]
        struct Light {
            on: bool,
        }
        let of = |variant: &str, body: Vec<u8>| {
            message_pack::decode::<Input>(&[variant_prefix(variant), body].concat())
        };
        let body = |value: &dyn Fn() -> Encoded| value().into_bytes();
        assert_eq!(
            of("Light", body(&|| Encoded::of(&Light { on: true }).unwrap())),
            Ok(Input::Light { on: true })
        );
        assert_eq!(
            of("Level", body(&|| Encoded::of(&9).unwrap())),
            Ok(Input::Level(9))
        );
        assert_eq!(
            of("Ping", body(&|| Encoded::of(&()).unwrap())),
            Ok(Input::Ping)
        );
    }

    #[test]
    fn seeds_differ_by_element_and_index() {
        let id = |name| EntityId::new(name).unwrap();
        assert_eq!(seed(&id("a"), 1), seed(&id("a"), 1));
        assert_ne!(seed(&id("a"), 1), seed(&id("a"), 2));
        assert_ne!(seed(&id("a"), 1), seed(&id("b"), 1));
    }
}
