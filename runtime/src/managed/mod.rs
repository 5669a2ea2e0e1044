//! Servers that Lamplighter starts and stops itself, as its children.

mod redis;

use std::io;
use std::path::PathBuf;

pub use self::redis::{Fsync, ManagedRedis, ManagedRedisSettings};

/// Why a server of our own does not run.
#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    /// The program is not there.
    #[error("{program} is not installed: run `make setup`, or install the package {package}")]
    Missing {
        /// Which program.
        program: &'static str,
        /// Which Debian package has it.
        package: &'static str,
    },
    /// The system does not let it start.
    #[error("cannot start {program}")]
    Start {
        /// Which program.
        program: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// Its directory cannot be used.
    #[error("cannot use the directory {path} of {program}")]
    Directory {
        /// Which program.
        program: &'static str,
        /// Which directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended while it should have started.
    #[error("{program} stopped as it started ({status}); its last words were: {words}")]
    Stopped {
        /// Which program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The end of its log.
        words: String,
    },
    /// It runs but does not answer.
    #[error("{program} does not answer; its last words were: {words}")]
    Silent {
        /// Which program.
        program: &'static str,
        /// The end of its log.
        words: String,
    },
}
