//! The limits as the figures of saving see them.

use std::io;
use std::time::{Duration, Instant};

use lamplighter_runtime::managed::Fsync;

use crate::load::PAYLOAD_BYTES;
use crate::raw_disk::RawDisk;
use crate::raw_redis::RawRedis;

/// The limit beside a store's figures.
pub(crate) trait Limit {
    /// What [`Limit::rate`] is.
    const RATE_IS: &'static str;

    /// Entries a second.
    ///
    /// # Errors
    /// Those of the server or the disk.
    fn rate(&mut self, span: Duration) -> io::Result<f64>;

    /// What [`Limit::latency`] is.
    fn latency_is(&self) -> &'static str;

    /// The least that one write can take.
    ///
    /// # Errors
    /// Those of the server or the disk.
    fn latency(&mut self) -> io::Result<Duration>;
}

/// A Redis server, without Lamplighter.
pub(crate) struct RedisLimit {
    pub(crate) raw: RawRedis,
    pub(crate) fsync: Fsync,
}

impl Limit for RedisLimit {
    const RATE_IS: &'static str = "plain XADD of single entries, 64 in the pipeline, same server";

    fn rate(&mut self, span: Duration) -> io::Result<f64> {
        self.raw.entries_per_second(span)
    }

    fn latency_is(&self) -> &'static str {
        match self.fsync {
            Fsync::EverySecond => "one PING of the same server",
            Fsync::Always => "one plain XADD of the same server, which has to write it first",
        }
    }

    fn latency(&mut self) -> io::Result<Duration> {
        let begun = Instant::now();
        match self.fsync {
            Fsync::EverySecond => self.raw.command(&[b"PING"])?,
            Fsync::Always => {
                let payload = [0x5a; PAYLOAD_BYTES];
                self.raw
                    .command(&[b"XADD", b"one", b"MAXLEN", b"100", b"*", b"e", &payload])?;
            }
        }
        Ok(begun.elapsed())
    }
}

impl Limit for RawDisk {
    const RATE_IS: &'static str = "64 records of 128 B per write and fdatasync, same folder";

    fn rate(&mut self, span: Duration) -> io::Result<f64> {
        self.records_per_second(64, span)
    }

    fn latency_is(&self) -> &'static str {
        "one write of 128 B and fdatasync, same folder"
    }

    fn latency(&mut self) -> io::Result<Duration> {
        self.write(1)
    }
}
