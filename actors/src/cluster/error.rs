//! Why an application on this machine did not start, or ended other than in order.

use std::io;
use std::path::PathBuf;

use lamplighter_runtime::broker::mosquitto::MosquittoError;
use lamplighter_runtime::managed::ManagedError;
use lamplighter_runtime::process::SpawnError;
use lamplighter_runtime::transport::control::TokenError;

use super::START_TIMEOUT;
use crate::operator::OperatorError;

/// Why `up` did not start, or ended other than in order.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Something runs there already.
    #[error("an application runs in {0} already; stop it first, or choose another --run-directory")]
    Busy(PathBuf),
    /// The run directory cannot be used.
    #[error("the run directory {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The token cannot be written.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A process cannot be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Redis does not start.
    #[error(transparent)]
    Redis(#[from] ManagedError),
    /// Mosquitto does not start.
    #[error(transparent)]
    Mosquitto(#[from] MosquittoError),
    /// A process is not there in time.
    #[error("{name} was not ready within {START_TIMEOUT:?}; its own words are in {log}")]
    Silent {
        /// Which process.
        name: String,
        /// Where its output is.
        log: PathBuf,
    },
    /// A process failed too often.
    #[error("{name} failed too often; it last {how}; its own words are in {log}")]
    Failed {
        /// Which process.
        name: String,
        /// Its last end.
        how: String,
        /// Where its output is.
        log: PathBuf,
    },
    /// The manager cannot be asked.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The system refuses something.
    #[error("cannot {attempted}: {source}")]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// The system's own words.
        source: io::Error,
    },
}
