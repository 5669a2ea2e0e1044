//! Strict MessagePack, for all that is stored or comes from another process.
//!
//! Values are written with named fields, so that a build that knows more fields reads what an
//! older one wrote. Reading is stricter than `rmp_serde` alone: its depth limit does not count
//! enum variants, and it accepts bytes after the value.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How deep a value may nest. The decoder recurses, and a stack that overflows ends the process.
pub const DEPTH_MAX: usize = 32;

/// Why bytes are not the expected value, or a value cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessagePackError {
    /// The bytes nest deeper than [`DEPTH_MAX`].
    #[error("it nests deeper than {DEPTH_MAX} levels")]
    Deep,
    /// The bytes end before the value does.
    #[error("it ends before it is complete")]
    Short,
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Followed(usize),
    /// The bytes are some other value, or the value has no MessagePack form.
    #[error("{0}")]
    Mismatch(String),
}

/// Appends `value` to `bytes`.
///
/// # Errors
/// [`MessagePackError::Mismatch`] if its serde implementation refuses.
pub fn encode_into(bytes: &mut Vec<u8>, value: &impl Serialize) -> Result<(), MessagePackError> {
    rmp_serde::encode::write_named(bytes, value)
        .map_err(|error| MessagePackError::Mismatch(error.to_string()))
}

/// Reads the one value that `bytes` hold.
///
/// # Errors
/// What is wrong with them.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessagePackError> {
    let length = measure(bytes)?;
    if length < bytes.len() {
        return Err(MessagePackError::Followed(bytes.len() - length));
    }
    rmp_serde::from_slice(bytes).map_err(|error| MessagePackError::Mismatch(error.to_string()))
}

/// How many of `bytes` the first value takes, without recursion and without reading into it.
fn measure(bytes: &[u8]) -> Result<usize, MessagePackError> {
    let mut at = 0_usize;
    // For each open array or map, how many values it still lacks.
    let mut open: Vec<u64> = Vec::with_capacity(DEPTH_MAX);
    loop {
        let (header, content) = header(bytes.get(at..).unwrap_or_default())?;
        at += header;
        match content {
            Content::Bytes(count) => {
                at = at.saturating_add(count);
                if at > bytes.len() {
                    return Err(MessagePackError::Short);
                }
            }
            Content::Values(count) if open.len() == DEPTH_MAX && count > 0 => {
                return Err(MessagePackError::Deep);
            }
            Content::Values(count) => open.push(count),
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        match open.last_mut() {
            None => return Ok(at),
            Some(lacking) => *lacking -= 1,
        }
    }
}

/// What follows the header of a value.
enum Content {
    /// So many bytes of its own.
    Bytes(usize),
    /// So many values.
    Values(u64),
}

/// How long the header at the start of `bytes` is, and what follows it.
fn header(bytes: &[u8]) -> Result<(usize, Content), MessagePackError> {
    let (&marker, rest) = bytes.split_first().ok_or(MessagePackError::Short)?;
    let length = |width: usize| -> Result<usize, MessagePackError> {
        let digits = rest.get(..width).ok_or(MessagePackError::Short)?;
        Ok(digits
            .iter()
            .fold(0, |sum, digit| sum << 8 | usize::from(*digit)))
    };
    let raw = |width: usize, more: usize| -> Result<(usize, Content), MessagePackError> {
        Ok((1 + width, Content::Bytes(length(width)? + more)))
    };
    let values = |width: usize, each: u64| -> Result<(usize, Content), MessagePackError> {
        Ok((1 + width, Content::Values(length(width)? as u64 * each)))
    };
    match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Ok((1, Content::Bytes(0))),
        0x80..=0x8f => Ok((1, Content::Values(u64::from(marker & 0x0f) * 2))),
        0x90..=0x9f => Ok((1, Content::Values(u64::from(marker & 0x0f)))),
        0xa0..=0xbf => Ok((1, Content::Bytes(usize::from(marker & 0x1f)))),
        0xc4 | 0xd9 => raw(1, 0),
        0xc5 | 0xda => raw(2, 0),
        0xc6 | 0xdb => raw(4, 0),
        // An extension has a type byte before its own bytes.
        0xc7 => raw(1, 1),
        0xc8 => raw(2, 1),
        0xc9 => raw(4, 1),
        0xcc | 0xd0 => Ok((1, Content::Bytes(1))),
        0xcd | 0xd1 => Ok((1, Content::Bytes(2))),
        0xca | 0xce | 0xd2 => Ok((1, Content::Bytes(4))),
        0xcb | 0xcf | 0xd3 => Ok((1, Content::Bytes(8))),
        0xd4..=0xd8 => Ok((1, Content::Bytes((1 << (marker - 0xd4)) + 1))),
        0xdc => values(2, 1),
        0xdd => values(4, 1),
        0xde => values(2, 2),
        0xdf => values(4, 2),
        0xc1 => Err(MessagePackError::Mismatch("0xc1 begins no value".into())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Branch(Box<Tree>),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        numbers: Vec<i64>,
        wide: u128,
        fraction: f64,
        text: String,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
        map: BTreeMap<String, Option<u32>>,
        unit: (),
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_nothing_shorter_or_longer(
            numbers in prop::collection::vec(any::<i64>(), 0..40),
            wide: u128,
            fraction in -1e9..1e9_f64,
            text in "\\PC{0,300}",
            bytes in prop::collection::vec(any::<u8>(), 0..700),
            map in prop::collection::btree_map("[a-z]{1,9}", any::<Option<u32>>(), 0..40),
        ) {
            let value = Everything { numbers, wide, fraction, text, bytes, map, unit: () };
            let mut encoded = Vec::new();
            encode_into(&mut encoded, &value).unwrap();
            prop_assert_eq!(decode::<Everything>(&encoded), Ok(value));
            prop_assert_eq!(
                decode::<Everything>(&encoded[..encoded.len() - 1]),
                Err(MessagePackError::Short)
            );
            encoded.push(0);
            prop_assert_eq!(decode::<Everything>(&encoded), Err(MessagePackError::Followed(1)));
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(length) = measure(&bytes) {
                prop_assert!(length <= bytes.len());
            }
            let decoded = decode::<Everything>(&bytes);
            prop_assert!(decoded.is_err(), "{:?}", decoded);
        }
    }

    #[test]
    fn nesting_is_limited_in_enums_and_arrays_alike() {
        let nested = |levels: usize| {
            let mut tree = Tree::Leaf;
            for _ in 0..levels {
                tree = Tree::Branch(Box::new(tree));
            }
            let mut encoded = Vec::new();
            encode_into(&mut encoded, &tree).unwrap();
            (tree, encoded)
        };
        let (tree, encoded) = nested(DEPTH_MAX);
        assert_eq!(decode(&encoded), Ok(tree));
        let (_, encoded) = nested(DEPTH_MAX + 1);
        assert_eq!(decode::<Tree>(&encoded), Err(MessagePackError::Deep));
        let arrays = [[0x91; 1_000].as_slice(), &[0xc0]].concat();
        assert_eq!(decode::<Tree>(&arrays), Err(MessagePackError::Deep));
    }

    #[test]
    fn a_length_that_is_not_there_costs_no_memory() {
        for boast in [
            [0xdb, 0xff, 0xff, 0xff, 0xff],
            [0xc6, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(decode::<String>(&boast), Err(MessagePackError::Short));
        }
        let array = [0xdd, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(decode::<Vec<u8>>(&array), Err(MessagePackError::Short));
    }
}
