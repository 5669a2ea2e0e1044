//! What a certificate says, and whether it is to be believed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, PeerIncompatible, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use super::fault::Fault;
use super::name::{Kind, Name};
use super::validity::{Validity, unix, wall};

/// Whose certificate a peer has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Who it is.
    pub name: Name,
    /// How long the certificate holds.
    pub validity: Validity,
}

/// Who is believed at one end of one connection, and what was found there.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    pub(super) application: EntityId,
    pub(super) wanted: &'static [Kind],
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) found: Mutex<Option<Result<Certified, Fault>>>,
}

impl Verifier {
    /// What this connection's certificate was; `None` before the peer has shown one.
    pub(super) fn found(&self) -> Option<Result<Certified, Fault>> {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), rustls::Error> {
        let outcome = self.certified(certificate, now, usage);
        let judged = match &outcome {
            Ok(_) => Ok(()),
            Err(fault) => Err(rustls::Error::InvalidCertificate(fault.alert())),
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        judged
    }

    fn certified(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<Certified, Fault> {
        let parsed = parsed(certificate)?;
        let algorithms = self.algorithms.all;
        // Certificates are made by the authority itself, so none is in between.
        let judged =
            parsed.verify_for_usage(algorithms, &self.anchors, &[], now, usage, None, None);
        judged.map_err(in_words)?;
        let validity = validity(&parsed, &self.anchors, self.algorithms)?;
        let name = name_in(&parsed)?;
        if name.application != self.application || !self.wanted.contains(&name.role.kind()) {
            let wanted: Vec<String> = self.wanted.iter().map(Kind::to_string).collect();
            let (wanted, application) = (wanted.join(" or "), &self.application);
            return Err(Fault::TheirsUnfit {
                found: name.to_string(),
                wanted: format!("the {wanted} of {application}"),
            });
        }
        Ok(Certified { name, validity })
    }
}

fn parsed<'a>(certificate: &'a CertificateDer<'a>) -> Result<EndEntityCert<'a>, Fault> {
    EndEntityCert::try_from(certificate).map_err(in_words)
}

/// The one name of ours that a certificate bears.
pub(super) fn name_of(certificate: &CertificateDer<'_>) -> Result<Name, Fault> {
    name_in(&parsed(certificate)?)
}

fn name_in(certificate: &EndEntityCert<'_>) -> Result<Name, Fault> {
    let mut names = certificate.valid_uri_names();
    let damaged = |reason: String| Fault::TheirsDamaged { reason };
    match (names.next(), names.next()) {
        (Some(name), None) => name.parse().map_err(|error| damaged(format!("{error}"))),
        (None, _) => Err(damaged("it bears no name".to_owned())),
        (Some(_), Some(_)) => Err(damaged("it bears several names".to_owned())),
    }
}

/// How long a certificate of one of these authorities holds. It is asked at the beginning and at the
/// end of time, where it does not, and the answers say from when on and until when it does.
fn validity(
    certificate: &EndEntityCert<'_>,
    anchors: &[TrustAnchor<'_>],
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<Validity, Fault> {
    let refused_at = |seconds: u64| {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::client_auth();
        certificate
            .verify_for_usage(algorithms.all, anchors, &[], at, usage, None, None)
            .err()
    };
    match (refused_at(0), refused_at(u64::MAX / 2)) {
        (
            Some(webpki::Error::CertNotValidYet { not_before, .. }),
            Some(webpki::Error::CertExpired { not_after, .. }),
        ) => Ok(Validity {
            from: wall(not_before),
            until: wall(not_after),
        }),
        (Some(error), _) | (None, Some(error)) => Err(in_words(error)),
        (None, None) => Err(Fault::TheirsDamaged {
            reason: "it holds for ever".to_owned(),
        }),
    }
}

/// Whom a certificate of one of these authorities is for and how long it holds, whether or not it
/// does at present.
pub(super) fn certified_by(
    certificate: &CertificateDer<'_>,
    anchors: &[TrustAnchor<'_>],
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<Certified, Fault> {
    let parsed = parsed(certificate)?;
    let validity = validity(&parsed, anchors, algorithms)?;
    // The dates are looked at before the signature, so it is looked at again at a time when they hold.
    let (at, usage) = (unix(validity.until), KeyUsage::client_auth());
    let judged = parsed.verify_for_usage(algorithms.all, anchors, &[], at, usage, None, None);
    judged.map_err(in_words)?;
    Ok(Certified {
        validity,
        name: name_in(&parsed)?,
    })
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the errors of the library are many and may become more"
)]
fn in_words(error: webpki::Error) -> Fault {
    use webpki::Error;
    match error {
        Error::CertExpired { time, not_after } => Fault::TheirsEnded {
            until: wall(not_after),
            now: wall(time),
        },
        Error::CertNotValidYet { time, not_before } => Fault::TheirsNotYet {
            from: wall(not_before),
            now: wall(time),
        },
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => Fault::TheirsForeign,
        other => Fault::TheirsDamaged {
            reason: other.to_string(),
        },
    }
}

/// TLS 1.2 is neither offered nor taken.
fn too_old() -> rustls::Error {
    rustls::Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end_entity, now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(end_entity, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
