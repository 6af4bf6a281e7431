//! Reads certificates, keys and authorities from PEM files, and says what is wrong with them.

use std::path::Path;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use zeroize::Zeroizing;

use crate::certificate::validity;
use crate::{TlsError, provider};

/// The keys of the configuration that name a certificate and its private key.
pub(crate) struct Names {
    pub(crate) certificate: &'static str,
    pub(crate) private_key: &'static str,
}

/// A certificate with its key, known to belong together and to be valid now.
pub(crate) fn identity(
    names: &Names,
    certificate: &Path,
    private_key: &Path,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(names.certificate, certificate)?;
    check_validity(names.certificate, certificate, chain.first())?;
    let key = key(names.private_key, private_key)?;
    let signer = provider().key_provider.load_private_key(key).map_err(|_| {
        let what = format!("{} holds a key of a kind that TLS here does not use", private_key.display());
        TlsError::new(names.private_key, what, "use an ECDSA (P-256 or P-384), Ed25519 or RSA key")
    })?;
    let identity = CertifiedKey::new(chain, signer);
    match identity.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(identity)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let what = format!("{} is not the key of {}", private_key.display(), certificate.display());
            Err(TlsError::new(names.private_key, what, "name the key that the certificate was made for"))
        }
        Err(_) => Err(unreadable(names.certificate, certificate)),
    }
}

/// The authorities in a file.
pub(crate) fn roots(name: &str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(name, path)? {
        roots.add(certificate).map_err(|_| unreadable(name, path))?;
    }
    Ok(roots)
}

fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(name, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|_| unreadable(name, path))?;
    if found.is_empty() {
        let what = format!("{} holds no certificate", path.display());
        return Err(TlsError::new(name, what, "name a PEM file with -----BEGIN CERTIFICATE----- in it"));
    }
    Ok(found)
}

fn key(name: &str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    check_readers(name, path)?;
    let text = read(name, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let what = format!("{} holds no private key", path.display());
        TlsError::new(name, what, "name a PEM file with an unencrypted -----BEGIN PRIVATE KEY----- in it")
    })
}

fn read(name: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    std::fs::read(path).map(Zeroizing::new).map_err(|error| {
        let what = format!("cannot read {}: {error}", path.display());
        TlsError::new(name, what, "write the path of a PEM file")
    })
}

fn unreadable(name: &str, path: &Path) -> TlsError {
    let what = format!("{} holds a certificate that cannot be read", path.display());
    TlsError::new(name, what, "write the certificates as they were issued, in PEM")
}

fn check_validity(name: &str, path: &Path, leaf: Option<&CertificateDer<'_>>) -> Result<(), TlsError> {
    let (from, until) = leaf.and_then(validity).ok_or_else(|| unreadable(name, path))?;
    // TLS runs on the time of the world, as rustls itself does.
    let now = UnixTime::now().as_secs();
    if now > until {
        let what = format!("the certificate in {} has expired", path.display());
        return Err(TlsError::new(name, what, "renew it"));
    }
    if now < from {
        let what = format!("the certificate in {} is not valid yet", path.display());
        return Err(TlsError::new(name, what, "set the clock of this machine, or wait"));
    }
    if until - now < SOON {
        tracing::warn!(file = %path.display(), days = (until - now) / DAY, "this certificate expires soon; renew it");
    }
    Ok(())
}

/// A key that others can read is not a secret.
fn check_readers(name: &str, path: &Path) -> Result<(), TlsError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;

        let open = path.metadata().is_ok_and(|file| file.permissions().mode() & 0o007 != 0);
        if open {
            let what = format!("everybody on this machine may read {}", path.display());
            return Err(TlsError::new(name, what, format!("chmod 600 {}", path.display())));
        }
    }
    Ok(())
}

const DAY: u64 = 86_400;
/// When to begin to say that a certificate needs to be renewed.
const SOON: u64 = 14 * DAY;
