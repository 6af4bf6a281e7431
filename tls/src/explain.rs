//! What went wrong with a connection, in words for whoever must do something about it.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::ConnectError;

/// Why there is no connection, or none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The peer's certificate does not do: why, and what to do.
    Certificate(String),
    /// The peer does not accept ours, or that we have none: why, and what to do.
    NotAccepted(String),
    /// This URL may not be asked, or our own files do not do: one sentence.
    Unusable(String),
    /// Anything else, in one phrase.
    Other(String),
}

/// The reason that is somewhere in `error` or in what caused it. Holds no address and nothing that a peer can make up.
pub fn reason(error: &(dyn Error + 'static)) -> Option<Reason> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref().and_then(of_connect) {
            return Some(reason);
        }
        let tls = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = tls.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref()) {
            return Some(of_tls(tls));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(Reason::Other(io.kind().to_string()));
        }
        cause = error.source();
    }
    None
}

fn of_connect(error: &ConnectError) -> Option<Reason> {
    match error {
        ConnectError::Plain(why) => Some(Reason::Unusable(why.clone())),
        ConnectError::Files(error) => Some(Reason::Unusable(error.to_string())),
        ConnectError::Name => Some(Reason::Unusable(error.to_string())),
        ConnectError::Timeout => Some(Reason::Other("no connection in time".to_owned())),
        // What caused it says more.
        ConnectError::Tcp(_) | ConnectError::Tls(_) => None,
    }
}

fn of_tls(error: &rustls::Error) -> Reason {
    match error {
        rustls::Error::InvalidCertificate(why) => Reason::Certificate(of_certificate(why).to_owned()),
        rustls::Error::NoCertificatesPresented => Reason::Certificate("there is none".to_owned()),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Reason::Other(
            "what answers there does not speak TLS; check the port, or whether it is http://".to_owned(),
        ),
        rustls::Error::PeerIncompatible(_) => {
            Reason::Other("its TLS is too old; it must speak TLS 1.2 or 1.3".to_owned())
        }
        _ => Reason::Other("the TLS connection failed".to_owned()),
    }
}

fn of_certificate(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => "it has expired; the peer must renew it",
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "it is not valid yet; compare the clocks of both machines"
        }
        E::UnknownIssuer | E::BadSignature => {
            "it is not signed by an authority that is trusted here; \
             name the file of its authority as roots, or have it signed by a public one"
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "it is for another name; ask the peer under a name that is in its certificate, or have it reissued"
        }
        E::Revoked => "it has been revoked; the peer must replace it",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "it is not for servers; the peer must have one issued for server authentication"
        }
        _ => "it cannot be verified; the peer must have a certificate of X.509 version 3 issued for its name",
    }
}

fn of_alert(alert: AlertDescription) -> Reason {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired | A::NoCertificate => Reason::NotAccepted(
            "it asks for a client certificate; give certificate and private_key for peers".to_owned(),
        ),
        A::UnknownCA => Reason::NotAccepted(
            "it does not trust the authority of our client certificate; have it signed by one of the peer's client_roots"
                .to_owned(),
        ),
        A::CertificateExpired => {
            Reason::NotAccepted("our client certificate has expired; renew it".to_owned())
        }
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateUnknown
        | A::AccessDenied
        | A::DecryptError => Reason::NotAccepted(
            "it does not accept our client certificate; compare it with what the peer expects".to_owned(),
        ),
        A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity => {
            Reason::Other("the two have no version or cipher of TLS in common".to_owned())
        }
        _ => Reason::Other("the peer broke the TLS connection off".to_owned()),
    }
}
