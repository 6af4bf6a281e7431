//! An authority of a test's own, which issues certificates, and a folder to put them in.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

/// Issues certificates that nobody else trusts.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Issued {
    certificate: Certificate,
    key: KeyPair,
}

/// A folder for certificates, keys and what else a test has. Gone when dropped.
pub struct Folder(TempDir);

impl Authority {
    /// A new one, with a key of its own.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("an authority can sign itself");
        Self(issuer)
    }

    /// What others need to trust it.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names and addresses, for servers and clients.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.sign(&params(names))
    }

    /// One that was valid once.
    pub fn issue_expired(&self, names: &[&str]) -> Issued {
        let mut params = params(names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Issued {
        let key = key();
        Issued { certificate: params.signed_by(&key, &self.0).expect("an authority can sign"), key }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Issued {
    /// The certificate.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The certificate as it goes over the wire.
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// The key.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

impl Folder {
    /// An empty one.
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// Where a file of this name is or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that only its owner may read, at one stroke.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.path(name), self.path("new"));
        std::fs::write(&new, text).expect("a file in a folder of our own");
        restrict(&new, 0o600);
        std::fs::rename(&new, &path).expect("a file in a folder of our own");
        path
    }

    /// Writes a certificate and its key as `NAME.pem` and `NAME.key`.
    pub fn identity(&self, name: &str, identity: &Issued) -> (PathBuf, PathBuf) {
        let key = self.write(&format!("{name}.key"), &identity.key_pem());
        (self.write(&format!("{name}.pem"), &identity.pem()), key)
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// Sets who may read a file.
pub fn restrict(file: &Path, mode: u32) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;

        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file, permissions).expect("a file of our own");
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("names that a certificate may have")
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}
