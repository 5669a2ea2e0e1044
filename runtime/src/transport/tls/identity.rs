//! What a process shows of itself and whom it believes: one file, read again when it is replaced.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lamplighter_policies::time::{Monotonic, WallClock};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::authority::{Authority, AuthorityError};
use super::fault::Fault;
use super::name::Role;
use super::secret::{self, SecretFileError};
use super::validity::{Validity, date};
use super::verify::{self, Certified};
use crate::clock;

/// The file in an identity's directory: the own certificate, those of the authorities that are
/// believed, and the own key.
pub const IDENTITY_FILE: &str = "identity.pem";

/// The longest identity file that is read.
const IDENTITY_BYTES_MAX: u64 = 64 << 10;

/// How long before its end a certificate is complained of, at most.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);

/// How often it is complained of.
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// The identity of a process; cheap to clone. It is read again whenever its file has been replaced,
/// so that a new certificate is used from the next connection on.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    stamp: Option<Stamp>,
    papers: Arc<Papers>,
    warned_at: Option<Monotonic>,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

/// An identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file does not hold an identity.
    #[error(
        "{} holds no identity: {reason}; make it again with `certificate` where the manager runs, and copy the whole file",
        .path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be made.
    #[error(transparent)]
    Unmade(#[from] AuthorityError),
}

/// One version of an identity.
#[derive(Debug)]
pub(super) struct Papers {
    pub(super) own: Certified,
    pub(super) shown: Arc<SingleCertAndKey>,
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    authorities: Vec<CertificateDer<'static>>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl Identity {
    /// Reads the identity in `directory`.
    ///
    /// # Errors
    /// The file cannot be read, may be read by others, or holds something else. A certificate that has
    /// ended is none of these: it may be replaced while the process runs.
    pub fn open(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(IDENTITY_FILE);
        let stamp = stamp(&path);
        let papers = Arc::new(read(&path)?);
        let latest = Mutex::new(Latest {
            stamp,
            papers,
            warned_at: None,
        });
        Ok(Self(Arc::new(Inner { path, latest })))
    }

    /// Sees to it that `directory` holds an identity for `role` of this authority with more than a
    /// third of its time left, and makes one where it does not. Returns when it is due again.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn keep(
        directory: &Path,
        authority: &Authority,
        role: &Role,
        days: u32,
    ) -> Result<WallClock, IdentityError> {
        let now = clock::wall();
        let path = directory.join(IDENTITY_FILE);
        if path.exists() {
            let present = read(&path)?;
            let (own, due) = (&present.own, present.own.validity.renew_at());
            let is_ours = own.name.application == *authority.application()
                && own.name.role == *role
                && present.authorities.contains(authority.certificate());
            if is_ours && now < due && own.validity.from <= now {
                return Ok(due);
            }
        }
        let validity = Validity::of_days(now, days);
        Self::write(directory, &authority.issue(role.clone(), validity)?)?;
        Ok(validity.renew_at())
    }

    /// Writes what [`Authority::issue`] made into `directory`, for this user only, and in one piece:
    /// a process that uses the identity there goes over to this one at its next connection.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(directory: &Path, pem: &str) -> Result<PathBuf, IdentityError> {
        secret::make_directory(directory)?;
        let path = directory.join(IDENTITY_FILE);
        secret::write(&path, pem)?;
        Ok(path)
    }

    /// The file that it is read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Who this process is at present, and how long that holds.
    #[must_use]
    pub fn certified(&self) -> Certified {
        self.papers().own.clone()
    }

    /// The present version. A file that cannot be read is complained of once, and the version before
    /// is used on.
    pub(super) fn papers(&self) -> Arc<Papers> {
        let mut latest = self.0.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let path = &self.0.path;
        let stamp = stamp(path);
        if stamp != latest.stamp {
            latest.stamp = stamp;
            match read(path) {
                Ok(papers) => {
                    let (name, until) = (&papers.own.name, date(papers.own.validity.until));
                    tracing::info!(%name, until, "the certificate was replaced");
                    latest.papers = Arc::new(papers);
                    latest.warned_at = None;
                }
                Err(error) => {
                    tracing::warn!(%error, "the certificate before is used on");
                }
            }
        }
        latest.warn(clock::wall());
        latest.papers.clone()
    }
}

impl Latest {
    /// Says once a day that the end is near: when a third of the time is left, and at most two weeks.
    fn warn(&mut self, now: WallClock) {
        let Certified { name, validity } = &self.papers.own;
        let from = validity.renew_at().max(validity.until - WARN_BEFORE);
        let told = self.warned_at;
        if now < from || told.is_some_and(|at| clock::monotonic() - at < WARN_EVERY) {
            return;
        }
        self.warned_at = Some(clock::monotonic());
        let until = date(validity.until);
        tracing::warn!(
            %name, until,
            "the certificate of this process ends soon, or has ended; replace its file by what \
             `certificate` makes where the manager runs, no restart is needed"
        );
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        inode: metadata.ino(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        length: metadata.len(),
    })
}

fn read(path: &Path) -> Result<Papers, IdentityError> {
    let damaged = |reason: String| IdentityError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let length = std::fs::metadata(path).map_err(secret::fault(path))?.len();
    if length > IDENTITY_BYTES_MAX {
        return Err(damaged(format!("it is {length} bytes long")));
    }
    let text = secret::read(path)?;
    let certificates: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let mut certificates = certificates.map_err(|error| damaged(error.to_string()))?;
    if certificates.len() < 2 {
        let found = certificates.len();
        return Err(damaged(format!(
            "it has {found} certificates; the own one and that of the authority are needed"
        )));
    }
    let authorities = certificates.split_off(1);
    let anchors = authorities.iter().map(|authority| {
        let anchor = webpki::anchor_from_trusted_cert(authority);
        let anchor = anchor.map_err(|error| damaged(error.to_string()));
        anchor.map(|anchor| anchor.to_owned())
    });
    let anchors: Vec<TrustAnchor<'static>> = anchors.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| damaged(error.to_string()))?;
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let own = verify::certified_by(&certificates[0], &anchors, algorithms);
    let own = own.map_err(|fault: Fault| damaged(format!("of the certificate in it: {fault}")))?;
    let shown = CertifiedKey::from_der(certificates, key, &provider);
    let shown = shown.map_err(|error| damaged(error.to_string()))?;
    Ok(Papers {
        own,
        shown: Arc::new(shown.into()),
        anchors,
        authorities,
        provider,
    })
}
