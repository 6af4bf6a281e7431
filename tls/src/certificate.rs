//! What is read out of a certificate besides what rustls checks: how long it is valid, and who a client is.

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// A client certificate that was verified in the handshake, handed to handlers as an extension of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of the certificate as it was sent.
    pub sha256: [u8; 32],
    /// Its DNS names and URIs, those in lower case.
    pub names: Vec<String>,
}

impl ClientCertificate {
    /// Reads what handlers may know of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let sha256 = Sha256::digest(certificate.as_ref()).into();
        let names = Certificate::from_der(certificate.as_ref()).map(|read| names(&read)).unwrap_or_default();
        Self { sha256, names }
    }
}

fn names(certificate: &Certificate) -> Vec<String> {
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate().get_extension() else {
        return Vec::new();
    };
    let name = |name: GeneralName| match name {
        GeneralName::DnsName(dns) => Some(dns.as_str().to_ascii_lowercase()),
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str().to_owned()),
        _ => None,
    };
    names.into_iter().filter_map(name).collect()
}

/// From when to when a certificate is valid, in seconds since 1970.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    let read = Certificate::from_der(certificate.as_ref()).ok()?;
    let validity = read.tbs_certificate().validity();
    Some((validity.not_before.to_unix_duration().as_secs(), validity.not_after.to_unix_duration().as_secs()))
}
