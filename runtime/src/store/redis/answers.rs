//! What the scripts answer, as values.

use std::collections::BTreeMap;

use lamplighter_policies::time::WallClock;
use redis::{FromRedisValue, Value};
use serde_bytes::ByteBuf;

use crate::store::StoredBatch;

/// Marks the author's fields among the entries of the state hash.
pub(super) const FIELD: &str = "f:";

/// What a script did.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// It did what it was asked, or had done so earlier; with what it returns.
    Done(Vec<Value>),
    /// Somebody else owns the element; 0 if nobody ever did.
    Fenced(u64),
    /// The log ends elsewhere.
    Gap(u64),
    /// Part of a large checkpoint is missing.
    Unstaged,
}

/// One page of what is kept of an element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) epoch: u64,
    pub(super) head: u64,
    pub(super) checkpoint: u64,
    pub(super) read_at: WallClock,
    pub(super) fields: BTreeMap<String, ByteBuf>,
    pub(super) log: Vec<StoredBatch>,
}

/// One page of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Letters {
    /// Where the next page begins.
    pub(super) next: u64,
    /// How many were ever buried.
    pub(super) buried: u64,
    pub(super) letters: Vec<ByteBuf>,
}

/// An answer that no script of ours gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be read: {0}")]
pub(super) struct Unreadable(String);

impl From<redis::ParsingError> for Unreadable {
    fn from(fault: redis::ParsingError) -> Self {
        Self(fault.to_string())
    }
}

/// Reads the first part of every answer.
pub(super) fn answer(value: Value) -> Result<Answer, Unreadable> {
    let Value::Array(parts) = value else {
        return Err(Unreadable("it is no list".to_owned()));
    };
    let mut parts = parts.into_iter();
    let status: String = take(&mut parts)?;
    match status.as_str() {
        "OK" | "DUP" => Ok(Answer::Done(parts.collect())),
        "FENCED" => Ok(Answer::Fenced(take(&mut parts)?)),
        "GAP" => Ok(Answer::Gap(take(&mut parts)?)),
        "UNSTAGED" => Ok(Answer::Unstaged),
        other => Err(Unreadable(format!("{other:?} is unknown"))),
    }
}

/// Reads the instant that an append or a proof returns.
pub(super) fn instant(parts: Vec<Value>) -> Result<WallClock, Unreadable> {
    Ok(WallClock(take(&mut parts.into_iter())?))
}

/// Reads what a claim or load returns.
pub(super) fn page(parts: Vec<Value>) -> Result<Page, Unreadable> {
    let mut parts = parts.into_iter();
    Ok(Page {
        epoch: take(&mut parts)?,
        head: take(&mut parts)?,
        checkpoint: take(&mut parts)?,
        read_at: WallClock(take(&mut parts)?),
        fields: fields(list(&mut parts)?)?,
        log: list(&mut parts)?
            .into_iter()
            .map(batch)
            .collect::<Result<_, _>>()?,
    })
}

/// Reads one page of dead letters.
pub(super) fn letters(parts: Vec<Value>) -> Result<Letters, Unreadable> {
    let mut parts = parts.into_iter();
    Ok(Letters {
        next: take(&mut parts)?,
        buried: take(&mut parts)?,
        letters: list(&mut parts)?
            .into_iter()
            .map(|letter| bytes(letter).map(ByteBuf::from))
            .collect::<Result<_, _>>()?,
    })
}

/// The author's fields among names and values that alternate.
fn fields(flat: Vec<Value>) -> Result<BTreeMap<String, ByteBuf>, Unreadable> {
    let mut fields = BTreeMap::new();
    let mut flat = flat.into_iter();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        let name = String::from_redis_value(name)?;
        if let Some(name) = name.strip_prefix(FIELD) {
            fields.insert(name.to_owned(), ByteBuf::from(bytes(value)?));
        }
    }
    Ok(fields)
}

/// A stream entry: its id, then names and values that alternate in the order of the append.
fn batch(entry: Value) -> Result<StoredBatch, Unreadable> {
    let Value::Array(parts) = entry else {
        return Err(Unreadable("an entry of the log is no list".to_owned()));
    };
    let mut parts = parts.into_iter();
    let id: String = take(&mut parts)?;
    let mut values = list(&mut parts)?.into_iter().skip(1).step_by(2);
    let last = id
        .strip_suffix("-0")
        .and_then(|last| last.parse().ok())
        .ok_or_else(|| Unreadable(format!("{id:?} is no place in a log")))?;
    Ok(StoredBatch {
        first: take(&mut values)?,
        last,
        logged_at: WallClock(take(&mut values)?),
        bytes: bytes(take(&mut values)?)?,
    })
}

fn take<T: FromRedisValue>(parts: &mut impl Iterator<Item = Value>) -> Result<T, Unreadable> {
    let part = parts
        .next()
        .ok_or_else(|| Unreadable("it is too short".to_owned()))?;
    Ok(T::from_redis_value(part)?)
}

fn list(parts: &mut impl Iterator<Item = Value>) -> Result<Vec<Value>, Unreadable> {
    let Value::Array(list) = take(parts)? else {
        return Err(Unreadable("a part of it is no list".to_owned()));
    };
    Ok(list)
}

/// Takes the bytes over without a copy.
fn bytes(value: Value) -> Result<Vec<u8>, Unreadable> {
    let Value::BulkString(bytes) = value else {
        return Err(Unreadable("a part of it is no string".to_owned()));
    };
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_told_apart() {
        let read = |line: &str| answer(redis::parse_redis_value(line.as_bytes()).unwrap());
        let five = || Value::BulkString(b"5".to_vec());
        assert_eq!(
            read("*2\r\n$2\r\nOK\r\n$1\r\n5\r\n"),
            Ok(Answer::Done(vec![five()]))
        );
        assert_eq!(instant(vec![five()]), Ok(WallClock(5)));
        assert_eq!(
            read("*2\r\n$6\r\nFENCED\r\n$1\r\n7\r\n"),
            Ok(Answer::Fenced(7))
        );
        assert_eq!(read("*2\r\n$3\r\nGAP\r\n$1\r\n9\r\n"), Ok(Answer::Gap(9)));
        assert_eq!(read("*1\r\n$8\r\nUNSTAGED\r\n"), Ok(Answer::Unstaged));
        for strange in [
            "+OK\r\n",
            "*0\r\n",
            "*1\r\n$3\r\nGAP\r\n",
            "*2\r\n$3\r\nGAP\r\n$1\r\nx\r\n",
            "*1\r\n$4\r\nWHAT\r\n",
        ] {
            assert!(read(strange).is_err(), "{strange:?}");
        }
    }

    #[test]
    fn a_page_keeps_batches_in_place_and_leaves_out_what_is_not_the_authors() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let entry = Value::Array(vec![
            text("4-0"),
            Value::Array(vec![
                text("first"),
                text("3"),
                text("time"),
                text("11"),
                text("bytes"),
                text("xy"),
            ]),
        ]);
        let parts = vec![
            text("2"),
            text("4"),
            text("2"),
            text("12"),
            Value::Array(vec![text("epoch"), text("2"), text("f:epoch"), text("v")]),
            Value::Array(vec![entry]),
        ];
        assert_eq!(
            page(parts),
            Ok(Page {
                epoch: 2,
                head: 4,
                checkpoint: 2,
                read_at: WallClock(12),
                fields: [("epoch".to_owned(), ByteBuf::from(b"v".to_vec()))].into(),
                log: vec![StoredBatch {
                    first: 3,
                    last: 4,
                    logged_at: WallClock(11),
                    bytes: b"xy".to_vec(),
                }],
            })
        );
    }
}
