//! The disk without Lamplighter: one file, written and synced by hand, as the limit.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::PAYLOAD_BYTES;

const FILE_BYTES: u64 = 64 << 20;

/// A file that was filled with zeros, so that a sync has only data to write.
pub(crate) struct RawDisk {
    file: File,
    at: u64,
}

impl RawDisk {
    /// Makes the file in `folder`.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let file = File::create(folder.join("raw"))?;
        let zeros = vec![0; 1 << 20];
        for place in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, place)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    /// How long it takes to write `count` records at once and sync them.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write(&mut self, count: u64) -> io::Result<Duration> {
        let bytes = vec![0x5a; PAYLOAD_BYTES * usize::try_from(count).unwrap_or(0)];
        if self.at + bytes.len() as u64 > FILE_BYTES {
            self.at = 0;
        }
        let begun = Instant::now();
        self.file.write_all_at(&bytes, self.at)?;
        self.file.sync_data()?;
        self.at += bytes.len() as u64;
        Ok(begun.elapsed())
    }

    /// Records a second that one writer makes durable, `batch` records at a time.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn records_per_second(&mut self, batch: u64, span: Duration) -> io::Result<f64> {
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed() < span {
            self.write(batch)?;
            count += batch;
        }
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }
}
