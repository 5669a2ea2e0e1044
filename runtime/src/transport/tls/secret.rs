//! Files that one user alone may read.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file with a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// Others may read it, so it is no secret.
    #[error("{} holds a key and may be read by others; run: chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
}

/// Makes a directory that this user alone may enter.
pub(super) fn make_directory(path: &Path) -> Result<(), SecretFileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(fault(path))
}

/// Puts `text` in place of the file at once: whoever reads it finds the old or the new, never a part.
pub(super) fn write(path: &Path, text: &str) -> Result<(), SecretFileError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(&beside)(error)),
        Ok(()) | Err(_) => {}
    }
    let mut options = fs::File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(fault(&beside))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(fault(&beside))?;
    fs::rename(&beside, path).map_err(fault(path))
}

/// Reads a file that no other user may read.
pub(super) fn read(path: &Path) -> Result<String, SecretFileError> {
    let mode = fs::metadata(path)
        .map_err(fault(path))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Exposed {
            path: path.to_owned(),
        });
    }
    fs::read_to_string(path).map_err(fault(path))
}

pub(super) fn fault(path: &Path) -> impl FnOnce(io::Error) -> SecretFileError + use<> {
    let path = path.to_owned();
    move |source| SecretFileError::File { path, source }
}
