//! What the embedded store keeps beside the log: owners, checkpointed fields, dead letters, and
//! which segments there are. One list of changes is one transaction of redb.

use std::collections::BTreeMap;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::disk::{Backend, Disk};
use crate::message_pack;
use crate::store::{DEAD_LETTERS_MAX, Delta, Nonce};

const ELEMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("elements");
const FIELDS: TableDefinition<'_, (u32, &str), &[u8]> = TableDefinition::new("fields");
const LETTERS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("letters");
const SEGMENTS: TableDefinition<'_, u64, ()> = TableDefinition::new("segments");
const FACTS: TableDefinition<'_, &str, u64> = TableDefinition::new("facts");

/// The form of these tables and of the log.
const VERSION: u64 = 1;

const NAME: &str = "metadata.redb";
const UNFINISHED: &str = "metadata.redb.unfinished";

/// How much memory redb may use to keep pages, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// What is kept of an element outside the log and the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// What its records and fields are filed under.
    pub(super) number: u32,
    pub(super) epoch: u64,
    pub(super) nonce: Nonce,
    /// The head when this row was written. The log may have grown since.
    pub(super) head: u64,
    pub(super) checkpoint: u64,
    pub(super) checkpoint_at: Option<WallClock>,
    /// The sequence that the log had reached when this row was written: up to there, nothing of the
    /// element was missing.
    pub(super) sequence: u64,
}

/// One change. What belongs together stands in one list.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Writes an element's row.
    Put(EntityId, Row),
    /// Folds a checkpoint's fields.
    Fold(u32, Delta),
    /// Adds a dead letter, and removes the one that makes room.
    Bury(u32, Vec<u8>),
    /// A segment belongs to the log from here on.
    Add(u64),
    /// A segment belongs to the log no longer.
    Remove(u64),
}

/// How far things have come, written with every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// All records before this sequence are durable.
    pub(super) durable: u64,
    /// The newest time that was given to anything.
    pub(super) clock: i64,
}

/// All but fields and letters, as found when the store opens.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Each element's row, or why it cannot be read.
    pub(super) elements: BTreeMap<EntityId, Result<Row, String>>,
    pub(super) segments: Vec<u64>,
    pub(super) progress: Progress,
}

/// The database.
#[derive(Debug)]
pub(super) struct Metadata(redb::Database);

impl Metadata {
    /// Opens the database, or makes an empty one under another name first, so that a half-made
    /// one is never taken for it.
    pub(super) fn open(disk: &dyn Disk) -> Result<Self, redb::Error> {
        let names = disk.names()?;
        if !names.iter().any(|name| name == NAME) {
            if names.iter().any(|name| name == UNFINISHED) {
                disk.remove(UNFINISHED)?;
            }
            Self::create(disk)?;
            disk.rename(UNFINISHED, NAME)?;
        }
        disk.sync_names()?;
        Ok(Self(
            builder().create_with_backend(Backend(disk.open(NAME)?))?,
        ))
    }

    fn create(disk: &dyn Disk) -> Result<(), redb::Error> {
        let database = builder().create_with_backend(Backend(disk.open(UNFINISHED)?))?;
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.open_table(ELEMENTS)?;
        transaction.open_table(FIELDS)?;
        transaction.open_table(LETTERS)?;
        transaction.open_table(SEGMENTS)?;
        transaction.open_table(FACTS)?.insert("version", VERSION)?;
        transaction.commit()?;
        Ok(())
    }

    /// Which form the tables have, if it is not the one that this program knows.
    pub(super) fn foreign_version(&self) -> Result<Option<u64>, redb::Error> {
        let facts = self.0.begin_read()?.open_table(FACTS)?;
        let version = facts.get("version")?.map_or(0, |found| found.value());
        Ok((version != VERSION).then_some(version))
    }

    /// Reads everything that the store keeps in memory.
    pub(super) fn contents(&self) -> Result<Contents, redb::Error> {
        let transaction = self.0.begin_read()?;
        let mut contents = Contents::default();
        for entry in transaction.open_table(ELEMENTS)?.iter()? {
            let (name, row) = entry?;
            if let Ok(element) = EntityId::new(name.value()) {
                contents.elements.insert(element, decode(row.value()));
            }
        }
        for entry in transaction.open_table(SEGMENTS)?.iter()? {
            contents.segments.push(entry?.0.value());
        }
        let facts = transaction.open_table(FACTS)?;
        contents.progress = Progress {
            durable: facts.get("durable")?.map_or(0, |found| found.value()),
            clock: facts
                .get("clock")?
                .map_or(0, |found| found.value().cast_signed()),
        };
        Ok(contents)
    }

    /// Makes all changes, durable when this returns, or none.
    pub(super) fn commit(
        &self,
        changes: Vec<Change>,
        progress: Progress,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.0.begin_write()?;
        // Without it an unclean end costs a walk over the whole file.
        transaction.set_quick_repair(true);
        {
            let mut elements = transaction.open_table(ELEMENTS)?;
            let mut fields = transaction.open_table(FIELDS)?;
            let mut letters = transaction.open_table(LETTERS)?;
            let mut segments = transaction.open_table(SEGMENTS)?;
            for change in changes {
                match change {
                    Change::Put(element, row) => {
                        elements.insert(element.as_str(), encode(&row).as_slice())?;
                    }
                    Change::Fold(number, delta) => fold(&mut fields, number, delta)?,
                    Change::Bury(number, letter) => bury(&mut letters, number, &letter)?,
                    Change::Add(segment) => {
                        segments.insert(segment, ())?;
                    }
                    Change::Remove(segment) => {
                        segments.remove(segment)?;
                    }
                }
            }
            let mut facts = transaction.open_table(FACTS)?;
            facts.insert("durable", progress.durable)?;
            facts.insert("clock", progress.clock.cast_unsigned())?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The checkpointed fields of an element.
    pub(super) fn fields(&self, number: u32) -> Result<BTreeMap<String, ByteBuf>, redb::Error> {
        let fields = self.0.begin_read()?.open_table(FIELDS)?;
        let mut all = BTreeMap::new();
        for entry in fields.range((number, "")..)? {
            let (key, value) = entry?;
            let (owner, name) = key.value();
            if owner != number {
                break;
            }
            all.insert(name.to_owned(), ByteBuf::from(value.value()));
        }
        Ok(all)
    }

    /// The dead letters of an element, oldest first.
    pub(super) fn letters(&self, number: u32) -> Result<Vec<ByteBuf>, redb::Error> {
        let letters = self.0.begin_read()?.open_table(LETTERS)?;
        letters
            .range((number, 0)..=(number, u64::MAX))?
            .map(|entry| Ok(ByteBuf::from(entry?.1.value())))
            .collect()
    }
}

fn builder() -> redb::Builder {
    let mut builder = redb::Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn fold(
    fields: &mut redb::Table<'_, (u32, &'static str), &'static [u8]>,
    number: u32,
    delta: Delta,
) -> Result<(), redb::Error> {
    for (name, value) in delta.set {
        fields.insert((number, name.as_str()), value.as_slice())?;
    }
    for name in delta.delete {
        fields.remove((number, name.as_str()))?;
    }
    Ok(())
}

fn bury(
    letters: &mut redb::Table<'_, (u32, u64), &'static [u8]>,
    number: u32,
    letter: &[u8],
) -> Result<(), redb::Error> {
    let mine = (number, 0)..=(number, u64::MAX);
    let newest = letters.range(mine.clone())?.next_back().transpose()?;
    let place = newest.map_or(0, |(key, _)| key.value().1 + 1);
    letters.insert((number, place), letter)?;
    let oldest = letters
        .range(mine)?
        .next()
        .transpose()?
        .map(|(key, _)| key.value().1);
    if let Some(oldest) = oldest
        && place - oldest >= DEAD_LETTERS_MAX as u64
    {
        letters.remove((number, oldest))?;
    }
    Ok(())
}

/// A row is four bytes of checksum and a MessagePack value.
fn encode(row: &Row) -> Vec<u8> {
    let mut body = Vec::new();
    message_pack::encode_into(&mut body, row).expect("numbers have a MessagePack form");
    [&crc32fast::hash(&body).to_le_bytes(), body.as_slice()].concat()
}

fn decode(bytes: &[u8]) -> Result<Row, String> {
    let (checksum, body) = bytes.split_at_checked(4).ok_or("it is too short")?;
    if checksum != crc32fast::hash(body).to_le_bytes() {
        return Err("its checksum does not match".into());
    }
    message_pack::decode(body).map_err(|error| error.to_string())
}
