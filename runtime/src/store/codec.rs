//! The stored form of batches and fields, the same in every store (paper, 4.2.1).
//!
//! A stored value is a version byte, a CRC32 (little endian) and a body. The checksum covers the
//! version, the element, the place and the body, so that a value that was read from another
//! element or another place is noticed like one whose bits changed. Batches are MessagePack with
//! field names; a field's body is whatever its element wrote. A batch's `logged_at` is the store's
//! own and is not covered, except where a server's local log took it first: that time goes with it.

use std::fmt;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::state_saving::{Batch, Record};
use lamplighter_policies::time::WallClock;
use serde::{Deserialize, Serialize};

use super::{StoreError, StoredBatch};

/// The version that this program writes, and the only one that it reads.
pub const VERSION: u8 = 2;

/// In place of the version: a batch follows with the time at which a local log took it.
const STAMPED: u8 = 0xff;

/// How many bytes [`stamp`] adds.
pub const STAMP_BYTES: usize = HEADER_BYTES + 8;

/// How deep stored MessagePack may nest: deeper input could overflow the stack, which no handler
/// catches.
const DEPTH_MAX: usize = 32;

/// The version byte and the checksum.
const HEADER_BYTES: usize = 5;

/// Where a value is kept, as part of its checksum and for people.
enum Place<'a> {
    Batch { first: u64, last: u64 },
    Stamp { first: u64, last: u64 },
    Field(&'a str),
}

/// The records `first`, `first + 1` and so on, as the store keeps them.
///
/// `records` must not be empty; `first` is at least 1.
#[must_use]
pub fn encode_batch(element: &EntityId, first: u64, records: &[Record]) -> Vec<u8> {
    assert!(!records.is_empty(), "a batch holds at least one record");
    let last = first + records.len() as u64 - 1;
    let mut value = vec![0; HEADER_BYTES];
    let mut serializer = rmp_serde::Serializer::new(&mut value).with_struct_map();
    records
        .serialize(&mut serializer)
        .expect("records consist of types that MessagePack has, and a vector takes any length");
    seal(element, &Place::Batch { first, last }, &mut value);
    value
}

/// The batch that was stored, or what is wrong with it.
///
/// # Errors
/// [`StoreError::Damaged`] if anything about it is not as it was written.
pub fn decode_batch(element: &EntityId, stored: &StoredBatch) -> Result<Batch, StoreError> {
    if stored.bytes.first() == Some(&STAMPED) {
        return decode_batch(element, &unstamped(element, stored.clone())?);
    }
    let &StoredBatch {
        first,
        last,
        logged_at,
        ref bytes,
    } = stored;
    let place = Place::Batch { first, last };
    let damaged = |reason: String| damaged(element, &place, reason);
    let body = open(element, &place, bytes)?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
    deserializer.set_max_depth(DEPTH_MAX);
    let records = Vec::<Record>::deserialize(&mut deserializer)
        .map_err(|fault| damaged(format!("its records cannot be read: {fault}")))?;
    // A marker is the first byte of whatever follows: there must be none.
    if !matches!(
        u8::deserialize(&mut deserializer),
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_))
    ) {
        return Err(damaged("bytes follow its last record".to_owned()));
    }
    if first == 0 || first.checked_add(records.len() as u64) != last.checked_add(1) {
        let count = records.len();
        return Err(damaged(format!("it holds {count} records")));
    }
    Ok(Batch {
        first,
        logged_at,
        records,
    })
}

/// A batch as the stable store keeps it when a local log took it first: its handler's present is that
/// of the local log, in every replay.
#[must_use]
pub fn stamp(element: &EntityId, taken: &StoredBatch) -> Vec<u8> {
    let mut value = vec![STAMPED; HEADER_BYTES];
    value.extend_from_slice(&taken.logged_at.0.to_le_bytes());
    value.extend_from_slice(&taken.bytes);
    let (first, last) = (taken.first, taken.last);
    let place = Place::Stamp { first, last };
    let sum = checksum(element, &place, STAMPED, &value[HEADER_BYTES..]);
    value[1..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    value
}

/// What [`stamp`] was given; any other batch as it is.
///
/// # Errors
/// [`StoreError::Damaged`] if anything about it is not as it was written.
pub fn unstamped(element: &EntityId, stored: StoredBatch) -> Result<StoredBatch, StoreError> {
    let Some((&[STAMPED, ref sum @ ..], body)) = stored.bytes.split_first_chunk::<HEADER_BYTES>()
    else {
        return Ok(stored);
    };
    let (first, last) = (stored.first, stored.last);
    let place = Place::Stamp { first, last };
    let whole = checksum(element, &place, STAMPED, body) == u32::from_le_bytes(*sum);
    match body.split_first_chunk::<8>() {
        Some((at, bytes)) if whole && bytes.first() != Some(&STAMPED) => Ok(StoredBatch {
            logged_at: WallClock(i64::from_le_bytes(*at)),
            bytes: bytes.to_vec(),
            ..stored
        }),
        Some(_) | None => {
            let reason = "its checksum does not fit; restore the store from a copy".to_owned();
            Err(damaged(element, &place, reason))
        }
    }
}

/// A field of the checkpointed state, as the store keeps it.
#[must_use]
pub fn encode_field(element: &EntityId, name: &str, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + body.len());
    value.resize(HEADER_BYTES, 0);
    value.extend_from_slice(body);
    seal(element, &Place::Field(name), &mut value);
    value
}

/// The body of a stored field, or what is wrong with it.
///
/// # Errors
/// [`StoreError::Damaged`] if anything about it is not as it was written.
pub fn decode_field<'a>(
    element: &EntityId,
    name: &str,
    stored: &'a [u8],
) -> Result<&'a [u8], StoreError> {
    open(element, &Place::Field(name), stored)
}

/// Fills in the header before a body that starts at [`HEADER_BYTES`].
fn seal(element: &EntityId, place: &Place<'_>, value: &mut [u8]) {
    value[0] = VERSION;
    let sum = checksum(element, place, VERSION, &value[HEADER_BYTES..]);
    value[1..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// Checks the header and returns the body.
fn open<'a>(
    element: &EntityId,
    place: &Place<'_>,
    value: &'a [u8],
) -> Result<&'a [u8], StoreError> {
    let Some((header, body)) = value.split_first_chunk::<HEADER_BYTES>() else {
        let reason = format!("it has {} bytes, fewer than its header", value.len());
        return Err(damaged(element, place, reason));
    };
    let [version, sum @ ..] = *header;
    if version != VERSION {
        let reason = format!(
            "it has version {version}, this program reads version {VERSION}; if another \
             Lamplighter wrote it, run that one, otherwise restore the store from a copy"
        );
        return Err(damaged(element, place, reason));
    }
    if checksum(element, place, version, body) != u32::from_le_bytes(sum) {
        let reason = "its checksum does not fit; restore the store from a copy".to_owned();
        return Err(damaged(element, place, reason));
    }
    Ok(body)
}

fn checksum(element: &EntityId, place: &Place<'_>, version: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    // Lengths keep apart what would be the same bytes when joined.
    let sized = |hasher: &mut crc32fast::Hasher, text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    sized(&mut hasher, element.as_str());
    match place {
        Place::Batch { first, last } => {
            hasher.update(b"b");
            hasher.update(&first.to_le_bytes());
            hasher.update(&last.to_le_bytes());
        }
        Place::Stamp { first, last } => {
            hasher.update(b"s");
            hasher.update(&first.to_le_bytes());
            hasher.update(&last.to_le_bytes());
        }
        Place::Field(name) => {
            hasher.update(b"f");
            sized(&mut hasher, name);
        }
    }
    hasher.update(body);
    hasher.finalize()
}

fn damaged(element: &EntityId, place: &Place<'_>, reason: String) -> StoreError {
    StoreError::Damaged {
        element: element.clone(),
        place: place.to_string(),
        reason,
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch { first, last } | Self::Stamp { first, last } => {
                write!(f, "log {first}..={last}")
            }
            Self::Field(name) => write!(f, "field {name:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_policies::physical_world::{Causes, EventId, Position};
    use lamplighter_policies::state_saving::{Event, Lane, Settled, Timed};
    use lamplighter_policies::time::WallClock;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let records = every_kind_of_record();
        let stored = stored(7, &records);

        assert_eq!(
            decode_batch(&lamp(), &stored),
            Ok(Batch {
                first: 7,
                logged_at: WallClock(5),
                records,
            })
        );
    }

    #[test]
    fn a_batch_of_a_local_log_keeps_the_time_at_which_it_was_taken() {
        let records = every_kind_of_record();
        let taken = stored(7, &records);
        let kept = StoredBatch {
            logged_at: WallClock(900),
            bytes: stamp(&lamp(), &taken),
            ..taken.clone()
        };
        assert_eq!(kept.bytes.len(), taken.bytes.len() + STAMP_BYTES);
        assert_eq!(unstamped(&lamp(), kept.clone()), Ok(taken.clone()));
        assert_eq!(unstamped(&lamp(), taken.clone()), Ok(taken.clone()));
        let batch = decode_batch(&lamp(), &kept);
        assert_eq!(batch, decode_batch(&lamp(), &taken));
        for_each_flip(&kept.bytes, |bytes, bit| {
            let flipped = StoredBatch {
                bytes: bytes.to_vec(),
                ..kept.clone()
            };
            assert_damaged(decode_batch(&lamp(), &flipped), &format!("bit {bit}"));
        });
    }

    #[test]
    fn a_field_is_read_as_it_was_written() {
        let stored = encode_field(&lamp(), "presence", b"body");
        assert_eq!(decode_field(&lamp(), "presence", &stored), Ok(&b"body"[..]));
        let empty = encode_field(&lamp(), "", b"");
        assert_eq!(decode_field(&lamp(), "", &empty), Ok(&b""[..]));
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let records = every_kind_of_record();
        for count in 1..=records.len() {
            let whole = stored(41, &records[..count]);
            for_each_flip(&whole.bytes, |bytes, bit| {
                let flipped = StoredBatch {
                    bytes: bytes.to_vec(),
                    ..whole.clone()
                };
                assert_damaged(decode_batch(&lamp(), &flipped), &format!("bit {bit}"));
            });
        }
        for body in [&b""[..], b"x", &[0; 300]] {
            for_each_flip(&encode_field(&lamp(), "hold", body), |bytes, bit| {
                assert_damaged(decode_field(&lamp(), "hold", bytes), &format!("bit {bit}"));
            });
        }
    }

    #[test]
    fn a_value_from_another_place_or_element_is_damaged() {
        let here = stored(7, &every_kind_of_record());
        let moved = StoredBatch {
            first: here.first + 1,
            last: here.last + 1,
            ..here.clone()
        };
        assert_damaged(decode_batch(&lamp(), &moved), "moved batch");
        assert_damaged(decode_batch(&id("door"), &here), "another's batch");

        let field = encode_field(&lamp(), "a", b"body");
        assert_damaged(decode_field(&lamp(), "b", &field), "moved field");
        assert_damaged(decode_field(&id("door"), "a", &field), "another's field");
    }

    #[test]
    fn a_value_that_is_cut_or_continued_is_damaged() {
        let whole = stored(1, &every_kind_of_record());
        for length in 0..whole.bytes.len() {
            let cut = StoredBatch {
                bytes: whole.bytes[..length].to_vec(),
                ..whole.clone()
            };
            assert_damaged(decode_batch(&lamp(), &cut), &format!("cut at {length}"));
        }
        let mut longer = whole.clone();
        for byte in 0..=u8::MAX {
            longer.bytes.truncate(whole.bytes.len());
            longer.bytes.push(byte);
            seal(&lamp(), &place_of(&longer), &mut longer.bytes);
            assert_eq!(
                reason(decode_batch(&lamp(), &longer)),
                "bytes follow its last record"
            );
        }
    }

    #[test]
    fn a_batch_with_another_number_of_records_is_damaged() {
        let mut short = stored(1, &every_kind_of_record());
        short.last += 1;
        seal(&lamp(), &place_of(&short), &mut short.bytes);
        assert_eq!(reason(decode_batch(&lamp(), &short)), "it holds 4 records");
    }

    #[test]
    fn an_unknown_version_says_what_to_do() {
        let mut value = encode_field(&lamp(), "hold", b"body");
        value[0] = 1;
        assert_eq!(
            decode_field(&lamp(), "hold", &value)
                .unwrap_err()
                .to_string(),
            "stored data of lamp is damaged at field \"hold\": it has version 1, this program \
             reads version 2; if another Lamplighter wrote it, run that one, otherwise restore \
             the store from a copy"
        );
    }

    #[test]
    fn deep_nesting_is_refused_without_a_stack_overflow() {
        // One array, one record, then an unknown key with arrays in arrays.
        let mut value = vec![0; HEADER_BYTES];
        value.extend_from_slice(&[0x91, 0x81, 0xa1, b't', 0x81, 0xa1, b'?']);
        value.resize(value.len() + 100_000, 0x91);
        let mut deep = stored(1, &every_kind_of_record()[..1]);
        deep.bytes = value;
        seal(&lamp(), &place_of(&deep), &mut deep.bytes);
        assert_eq!(
            reason(decode_batch(&lamp(), &deep)),
            "its records cannot be read: depth limit exceeded"
        );
    }

    proptest! {
        #[test]
        fn any_records_are_read_as_written_and_no_flip_passes(
            first in 1_u64..u64::MAX / 2,
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20),
            flip in any::<prop::sample::Index>(),
        ) {
            let records: Vec<Record> = payloads.into_iter().map(event).collect();
            let whole = stored(first, &records);
            prop_assert_eq!(decode_batch(&lamp(), &whole).map(|batch| batch.records), Ok(records));

            let mut flipped = whole;
            let bit = flip.index(flipped.bytes.len() * 8);
            flipped.bytes[bit / 8] ^= 1 << (bit % 8);
            assert_damaged(decode_batch(&lamp(), &flipped), &format!("bit {bit}"));
        }
    }

    fn for_each_flip(bytes: &[u8], mut look: impl FnMut(&[u8], usize)) {
        let mut bytes = bytes.to_vec();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            look(&bytes, bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    fn assert_damaged<T: fmt::Debug>(outcome: Result<T, StoreError>, what: &str) {
        assert!(
            matches!(outcome, Err(StoreError::Damaged { .. })),
            "{what} passed: {outcome:?}"
        );
    }

    fn reason(outcome: Result<Batch, StoreError>) -> String {
        match outcome {
            Err(StoreError::Damaged { reason, .. }) => reason,
            other => panic!("not damaged: {other:?}"),
        }
    }

    fn stored(first: u64, records: &[Record]) -> StoredBatch {
        StoredBatch {
            first,
            last: first + records.len() as u64 - 1,
            logged_at: WallClock(5),
            bytes: encode_batch(&lamp(), first, records),
        }
    }

    fn place_of(stored: &StoredBatch) -> Place<'static> {
        Place::Batch {
            first: stored.first,
            last: stored.last,
        }
    }

    fn every_kind_of_record() -> Vec<Record> {
        vec![
            event(vec![1, 2, 3]),
            Record::Timer(Timed {
                key: "hold".to_owned(),
                due_at: WallClock(99),
                expires_at: Some(WallClock(120)),
                payload: vec![0; 40],
            }),
            Record::Skipped {
                index: 3,
                cause: "it panicked twice".to_owned(),
            },
            Record::Done(vec![Settled {
                link: lamp().to_string(),
                lane: Lane::Merged,
                position: Position::new(0, 2, 1),
                handed_over: 0,
            }]),
        ]
    }

    fn event(payload: Vec<u8>) -> Record {
        Record::Event(Event {
            binding: id("motion"),
            id: EventId {
                source: id("hue-sense"),
                position: Position::new(1, 12, 0),
            },
            after: Position::new(1, 11, 0),
            occurred_at: WallClock(-4),
            expires_at: None,
            causes: Causes::default(),
            payload,
        })
    }

    fn lamp() -> EntityId {
        id("lamp")
    }

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }
}
