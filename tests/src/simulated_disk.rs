//! A disk that loses power between any two steps, and keeps of what was not synchronised as much
//! or as little as a real one may.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use lamplighter_runtime::store::embedded::disk::{Disk, DiskFile};

/// What a disk writes at once: a write is torn at these places.
const SECTOR_BYTES: usize = 512;

/// What becomes of that which was not synchronised when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it is lost.
    Lost,
    /// All of it is kept.
    Kept,
    /// All is kept but the last write to each file, of which this share, in eighths, is kept.
    Torn(usize),
    /// Of each write, every second sector is kept, beginning with the first or the second.
    Sectors(usize),
}

/// The fates that are tried; more would be slower and find the same.
pub const FATES: [Fate; 6] = [
    Fate::Lost,
    Fate::Kept,
    Fate::Torn(1),
    Fate::Torn(6),
    Fate::Sectors(0),
    Fate::Sectors(1),
];

/// One directory on the disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<Platters>>);

#[derive(Clone, Debug, Default)]
struct Platters {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// How many changes were made or tried.
    steps: u64,
    /// At which step the power goes.
    cut_at: Option<u64>,
    /// Whether synchronising fails, as on a disk that is broken.
    broken: bool,
    /// How many writes there were after something failed to be synchronised.
    writes_after_failure: u64,
    failed: bool,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum Pending {
    Length(usize),
    Write { offset: usize, bytes: Vec<u8> },
}

impl SimulatedDisk {
    /// Lets the power go at this step; steps before it are done.
    pub fn cut_at(&self, step: u64) {
        let mut platters = self.platters();
        platters.steps = 0;
        platters.cut_at = Some(step);
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        let platters = self.platters();
        platters.cut_at.is_some_and(|cut| platters.steps > cut)
    }

    /// Lets every further attempt to synchronise fail.
    pub fn break_syncs(&self) {
        self.platters().broken = true;
    }

    /// How many writes were tried after one could not be synchronised.
    #[must_use]
    pub fn writes_after_failure(&self) -> u64 {
        self.platters().writes_after_failure
    }

    /// The disk as it may be found when the power is back.
    #[must_use]
    pub fn after_power_loss(&self, fate: Fate) -> Self {
        let old = self.platters().clone();
        let names = match fate {
            Fate::Lost => old.durable_names,
            Fate::Kept | Fate::Torn(_) | Fate::Sectors(_) => old.names,
        };
        let files = old
            .files
            .into_iter()
            .map(|file| file.survive(fate))
            .collect();
        let durable_names = names.clone();
        Self(Arc::new(Mutex::new(Platters {
            files,
            names,
            durable_names,
            ..Platters::default()
        })))
    }

    /// A copy of the disk as it is.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.platters().clone())))
    }

    /// What the file holds.
    #[must_use]
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let platters = self.platters();
        platters
            .names
            .get(name)
            .map(|file| platters.files[*file].seen.clone())
            .unwrap_or_default()
    }

    /// Damages a file: what it holds from `offset` on is combined with `mask` by exclusive or.
    pub fn damage(&self, name: &str, offset: usize, mask: &[u8]) {
        let mut platters = self.platters();
        let Some(&file) = platters.names.get(name) else {
            return;
        };
        let file = &mut platters.files[file];
        for (position, flipped) in mask.iter().enumerate() {
            file.seen[offset + position] ^= flipped;
            file.durable[offset + position] ^= flipped;
        }
    }

    fn platters(&self) -> MutexGuard<'_, Platters> {
        self.0
            .lock()
            .expect("nothing panics while it holds the disk")
    }
}

impl Platters {
    /// Counts a change; `Err` if the power goes at it.
    fn step(&mut self) -> io::Result<()> {
        let step = self.steps;
        self.steps += 1;
        match self.cut_at {
            Some(cut) if step >= cut => Err(io::Error::other("the power is gone")),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the power went at the step that was counted last, and not before.
    fn is_going(&self) -> bool {
        self.cut_at.is_some_and(|cut| self.steps == cut + 1)
    }
}

impl Contents {
    fn survive(self, fate: Fate) -> Self {
        let mut bytes = self.durable;
        let writes = self.pending.len();
        for (position, pending) in self.pending.into_iter().enumerate() {
            let is_last = position + 1 == writes;
            match (pending, fate) {
                (_, Fate::Lost) => {}
                (Pending::Length(length), _) => bytes.resize(length, 0),
                (
                    Pending::Write {
                        offset,
                        bytes: written,
                    },
                    Fate::Torn(eighths),
                ) if is_last => {
                    let kept = written.len() * eighths / 8;
                    put(&mut bytes, offset, &written[..kept]);
                }
                (
                    Pending::Write {
                        offset,
                        bytes: written,
                    },
                    Fate::Sectors(which),
                ) => {
                    for (number, sector) in written.chunks(SECTOR_BYTES).enumerate() {
                        if number % 2 == which {
                            put(&mut bytes, offset + number * SECTOR_BYTES, sector);
                        }
                    }
                }
                (
                    Pending::Write {
                        offset,
                        bytes: written,
                    },
                    Fate::Kept | Fate::Torn(_),
                ) => {
                    put(&mut bytes, offset, &written);
                }
            }
        }
        Self {
            seen: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    if bytes.len() < offset + written.len() {
        bytes.resize(offset + written.len(), 0);
    }
    bytes[offset..offset + written.len()].copy_from_slice(written);
}

impl Disk for SimulatedDisk {
    fn lock(&self) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.platters().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut platters = self.platters();
        let file = match platters.names.get(name) {
            Some(file) => *file,
            None => {
                platters.step()?;
                platters.files.push(Contents::default());
                let file = platters.files.len() - 1;
                platters.names.insert(name.into(), file);
                file
            }
        };
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            file,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut platters = self.platters();
        platters.step()?;
        let file = platters.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        platters.names.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut platters = self.platters();
        platters.step()?;
        platters
            .names
            .remove(name)
            .map(drop)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut platters = self.platters();
        platters.step()?;
        platters.durable_names = platters.names.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
}

impl SimulatedFile {
    fn change(&self, pending: Pending) -> io::Result<()> {
        let mut platters = self.disk.platters();
        let stepped = platters.step();
        if stepped.is_err() && !platters.is_going() {
            return stepped;
        }
        platters.writes_after_failure += u64::from(platters.failed);
        // The write at which the power goes may still reach the disk, whole or in part.
        let file = &mut platters.files[self.file];
        match &pending {
            Pending::Length(length) => file.seen.resize(*length, 0),
            Pending::Write { offset, bytes } => put(&mut file.seen, *offset, bytes),
        }
        file.pending.push(pending);
        stepped
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.platters().files[self.file].seen.len() as u64)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.change(Pending::Length(
            usize::try_from(length).map_err(io::Error::other)?,
        ))
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let platters = self.disk.platters();
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let found = platters.files[self.file].seen.get(from..from + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(Pending::Write {
            offset,
            bytes: bytes.to_vec(),
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut platters = self.disk.platters();
        platters.step()?;
        if platters.broken {
            platters.failed = true;
            return Err(io::Error::other("the disk is broken"));
        }
        let file = &mut platters.files[self.file];
        for pending in std::mem::take(&mut file.pending) {
            match pending {
                Pending::Length(length) => file.durable.resize(length, 0),
                Pending::Write { offset, bytes } => put(&mut file.durable, offset, &bytes),
            }
        }
        Ok(())
    }
}
