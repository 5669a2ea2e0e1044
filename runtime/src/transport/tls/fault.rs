//! Why two ends do not trust each other, in words that say what to do.

use std::io;

use lamplighter_policies::time::WallClock;
use rustls::AlertDescription;

use super::validity::date;

/// What keeps a protected connection from being made, as this end sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The peer's certificate has ended, or one of the two clocks is fast.
    #[error(
        "its certificate ended on {}, and here it is {}; give it a new one (`certificate` where the manager runs), or set the clock that is wrong",
        date(*.until), date(*.now)
    )]
    TheirsEnded {
        /// Until when it held.
        until: WallClock,
        /// What this machine's clock reads.
        now: WallClock,
    },
    /// The peer's certificate does not hold yet: one of the two clocks is wrong.
    #[error(
        "its certificate holds from {} on, and here it is only {}; set the clock of this machine, or of the one where it was made",
        date(*.from), date(*.now)
    )]
    TheirsNotYet {
        /// From when on it holds.
        from: WallClock,
        /// What this machine's clock reads.
        now: WallClock,
    },
    /// The peer's certificate was made by another authority.
    #[error(
        "its certificate is not of this application's authority; it belongs to another application, or to this one before its authority was made anew: give it a certificate that was made where this manager runs"
    )]
    TheirsForeign,
    /// The peer is of this authority, but not whom this end speaks with here.
    #[error(
        "it is {found}, and only {wanted} is spoken with here; give each process its own identity"
    )]
    TheirsUnfit {
        /// Who it is.
        found: String,
        /// Who is wanted.
        wanted: String,
    },
    /// The peer showed no certificate.
    #[error("it showed no certificate; start it with --identity")]
    TheirsMissing,
    /// The peer's certificate cannot be used.
    #[error("its certificate cannot be used ({reason}); make it a new one with `certificate`")]
    TheirsDamaged {
        /// What is wrong with it.
        reason: String,
    },
    /// The peer says that our certificate does not hold at present.
    #[error(
        "it says that the certificate of this process has ended or does not hold yet; make a new one with `certificate` where the manager runs, or set the clock that is wrong"
    )]
    OursEnded,
    /// The peer does not know our authority.
    #[error(
        "it says that the certificate of this process is of another authority; copy the identity that was made where its manager runs"
    )]
    OursForeign,
    /// The peer does not speak with our role.
    #[error(
        "it says that the certificate of this process is for another role or application; give each process its own identity"
    )]
    OursUnfit,
    /// The peer sent what is no TLS.
    #[error(
        "it does not speak TLS; start it with --identity (an agent), or with --listen off loopback (a manager)"
    )]
    Plaintext,
    /// The peer closed the connection in the middle of the handshake.
    #[error(
        "it closed the connection during the handshake; perhaps it does not speak TLS (a manager does if its --listen is off loopback), or it is overloaded"
    )]
    Closed,
    /// The peer took too long.
    #[error("it did not finish the handshake in time")]
    Late,
    /// Too many strangers knock at once.
    #[error("too many handshakes are under way; it may try again")]
    Crowded,
    /// Anything else of the protocol.
    #[error("TLS failed: {0}")]
    Protocol(String),
    /// The network failed.
    #[error("{0}")]
    Network(String),
}

impl Fault {
    /// What an error of a protected stream means.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(fault) = inner.and_then(|inner| inner.downcast_ref::<Self>()) {
            return fault.clone();
        }
        match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Self::of_tls(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Network(error.to_string()),
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the errors of the TLS library are many and may become more"
    )]
    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::NoCertificatesPresented => Self::TheirsMissing,
            Error::InvalidMessage(_) => Self::Plaintext,
            Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateExpired => Self::OursEnded,
                AlertDescription::UnknownCA => Self::OursForeign,
                AlertDescription::AccessDenied => Self::OursUnfit,
                other => Self::Protocol(format!("the peer reports {other:?}")),
            },
            other => Self::Protocol(other.to_string()),
        }
    }

    /// What the peer is told by the handshake; the words for people stay at this end.
    pub(super) fn alert(&self) -> rustls::CertificateError {
        use rustls::CertificateError;
        match self {
            Self::TheirsEnded { .. } => CertificateError::Expired,
            Self::TheirsNotYet { .. } => CertificateError::NotValidYet,
            Self::TheirsForeign => CertificateError::UnknownIssuer,
            Self::TheirsUnfit { .. } => CertificateError::ApplicationVerificationFailure,
            Self::TheirsMissing
            | Self::TheirsDamaged { .. }
            | Self::OursEnded
            | Self::OursForeign
            | Self::OursUnfit
            | Self::Plaintext
            | Self::Closed
            | Self::Late
            | Self::Crowded
            | Self::Protocol(_)
            | Self::Network(_) => CertificateError::BadEncoding,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_reports_is_said_in_words() {
        let received = |alert| io::Error::other(rustls::Error::AlertReceived(alert));
        let cases = [
            (
                received(AlertDescription::CertificateExpired),
                Fault::OursEnded,
            ),
            (received(AlertDescription::UnknownCA), Fault::OursForeign),
            (received(AlertDescription::AccessDenied), Fault::OursUnfit),
            (
                received(AlertDescription::InternalError),
                Fault::Protocol("the peer reports InternalError".to_owned()),
            ),
            (
                io::Error::other(rustls::Error::NoCertificatesPresented),
                Fault::TheirsMissing,
            ),
            (io::ErrorKind::UnexpectedEof.into(), Fault::Closed),
            (io::Error::other(Fault::Late), Fault::Late),
            (
                io::Error::other("cable cut"),
                Fault::Network("cable cut".to_owned()),
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(Fault::of(&error), expected);
        }
    }
}
