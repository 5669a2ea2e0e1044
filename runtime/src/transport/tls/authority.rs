//! The application's own certificate authority: a key that its manager keeps, and what is made with it.

use std::io;
use std::path::{Path, PathBuf};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::name::{Name, Role};
use super::secret::{self, SecretFileError};
use super::validity::{Validity, unix};
use super::verify;
use crate::clock;

/// The file of the authority's certificate, in its directory. It is no secret.
pub const AUTHORITY_CERTIFICATE_FILE: &str = "authority.pem";

/// The file of the authority's key, in its directory. Whoever has it can play every role.
pub const AUTHORITY_KEY_FILE: &str = "authority.key";

/// How long an authority holds: longer than the machines.
const AUTHORITY_DAYS: u32 = 365 * 20;

/// Makes the certificates of one application.
pub struct Authority {
    application: EntityId,
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.application)
    }
}

/// An authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is none.
    #[error(
        "there is no authority in {}; the manager makes one when it is started with --listen off loopback: start it first, and run this where it runs",
        .0.display()
    )]
    Absent(PathBuf),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A file holds something else.
    #[error(
        "{} does not hold an authority ({reason}); restore it, or remove {} to have a new one made and make all certificates again",
        .directory.display(), .directory.display()
    )]
    Damaged {
        /// Where.
        directory: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is that of another application.
    #[error(
        "{} holds the authority of {found}, not of {wanted}; give each application a run directory of its own",
        .directory.display()
    )]
    Foreign {
        /// Where.
        directory: PathBuf,
        /// Whose it is.
        found: EntityId,
        /// Whose was wanted.
        wanted: EntityId,
    },
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Unmade(#[from] rcgen::Error),
}

impl Authority {
    /// The authority of `application` that is kept in `directory`, made there if there is none.
    ///
    /// # Errors
    /// The files cannot be read or written, or hold something else.
    pub fn keep(directory: &Path, application: &EntityId) -> Result<Self, AuthorityError> {
        let authority = match Self::open(directory) {
            Err(AuthorityError::Absent(_)) => return Self::create(directory, application),
            outcome => outcome?,
        };
        if authority.application != *application {
            return Err(AuthorityError::Foreign {
                directory: directory.to_owned(),
                found: authority.application,
                wanted: application.clone(),
            });
        }
        Ok(authority)
    }

    /// The authority that is kept in `directory`.
    ///
    /// # Errors
    /// There is none, or its files cannot be used.
    pub fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let damaged = |reason: String| AuthorityError::Damaged {
            directory: directory.to_owned(),
            reason,
        };
        let path = directory.join(AUTHORITY_CERTIFICATE_FILE);
        let pem = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(AuthorityError::Absent(directory.to_owned()));
            }
            outcome => outcome.map_err(|source| SecretFileError::File { path, source })?,
        };
        let key = secret::read(&directory.join(AUTHORITY_KEY_FILE))?;
        let key = KeyPair::from_pem(&key).map_err(|error| damaged(error.to_string()))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| damaged(error.to_string()))?;
        let name = verify::name_of(&certificate).map_err(|error| damaged(error.to_string()))?;
        if name.role != Role::Authority {
            return Err(damaged(format!("it is {name}")));
        }
        Ok(Self {
            issuer: Issuer::new(params(&name.application)?, key),
            application: name.application,
            certificate,
            pem,
        })
    }

    /// The certificate is written last: without it nothing is there, so that what a crash interrupts is
    /// made again.
    fn create(directory: &Path, application: &EntityId) -> Result<Self, AuthorityError> {
        secret::make_directory(directory)?;
        let key = KeyPair::generate()?;
        let params = params(application)?;
        let certificate = params.self_signed(&key)?;
        let pem = certificate.pem();
        secret::write(&directory.join(AUTHORITY_KEY_FILE), &key.serialize_pem())?;
        secret::write(&directory.join(AUTHORITY_CERTIFICATE_FILE), &pem)?;
        tracing::info!(%application, directory = %directory.display(), "made an authority");
        Ok(Self {
            application: application.clone(),
            certificate: certificate.into(),
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// The application whose authority it is.
    #[must_use]
    pub fn application(&self) -> &EntityId {
        &self.application
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Makes an identity: a new key, a certificate for it, and the authority's own certificate, as PEM.
    ///
    /// # Errors
    /// The system has no randomness, or the dates are out of range.
    pub fn issue(&self, role: Role, validity: Validity) -> Result<String, AuthorityError> {
        let name = Name {
            application: self.application.clone(),
            role,
        };
        let key = KeyPair::generate()?;
        let mut params = described(&name)?;
        hold(&mut params, validity);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(format!("{certificate}{}{}", self.pem, key.serialize_pem()))
    }
}

/// What the certificate of an application's authority says; the same each time it is asked for, up to
/// its dates, because what is signed later names its issuer by it.
fn params(application: &EntityId) -> Result<CertificateParams, AuthorityError> {
    let mut params = described(&Name {
        application: application.clone(),
        role: Role::Authority,
    })?;
    hold(
        &mut params,
        Validity::of_days(clock::wall(), AUTHORITY_DAYS),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn described(name: &Name) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, name.to_string());
    params.subject_alt_names = vec![SanType::URI(name.to_string().try_into()?)];
    Ok(params)
}

fn hold(params: &mut CertificateParams, Validity { from, until }: Validity) {
    let began = rcgen::date_time_ymd(1970, 1, 1);
    let at = |at: WallClock| began + std::time::Duration::from_secs(unix(at).as_secs());
    (params.not_before, params.not_after) = (at(from), at(until));
}
