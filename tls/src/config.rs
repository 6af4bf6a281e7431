//! What a configuration file says about TLS.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `[tls]`: who this server is to those who connect. Paths are taken from the folder of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenTls {
    /// The server's certificate and those between it and the authority, in PEM.
    pub certificate: PathBuf,
    /// The key of the certificate, in PEM. A file that everybody on the machine may read is refused.
    pub private_key: PathBuf,
    /// Authorities of client certificates, in PEM. With it, clients are asked for a certificate.
    #[serde(default)]
    pub client_roots: Option<PathBuf>,
    /// Turns away whoever has no client certificate of these authorities.
    #[serde(default)]
    pub require_client_certificate: bool,
}

/// `[peer_tls]`: whom this program believes, and who it is to them. Paths are taken from the folder of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerTls {
    /// Authorities of the peers' certificates, in PEM, in place of those of the operating system.
    #[serde(default)]
    pub roots: Option<PathBuf>,
    /// Trusts the authorities of the operating system beside those in `roots`.
    #[serde(default)]
    pub system_roots: bool,
    /// The certificate to show to peers that ask for one, in PEM.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// Its key, in PEM. A file that everybody on the machine may read is refused.
    #[serde(default)]
    pub private_key: Option<PathBuf>,
}

impl ListenTls {
    /// The same for those who have no certificate to show: an operator's tools.
    #[must_use]
    pub fn asking_nobody(&self) -> Self {
        Self { client_roots: None, require_client_certificate: false, ..self.clone() }
    }

    /// The same with relative paths taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        self.certificate = folder.join(&self.certificate);
        self.private_key = folder.join(&self.private_key);
        self.client_roots = self.client_roots.map(|path| folder.join(path));
        self
    }
}

impl PeerTls {
    /// The same with relative paths taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        for path in [&mut self.roots, &mut self.certificate, &mut self.private_key].into_iter().flatten() {
            *path = folder.join(&path);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_the_folder_of_the_file() {
        let text = "certificate = \"a.pem\"\nprivate_key = \"/keys/a.key\"\nclient_roots = \"ca.pem\"\n";
        let listen: ListenTls = toml::from_str(text).expect("valid");
        let listen = listen.relative_to(Path::new("/etc/mica"));
        assert_eq!(listen.certificate, Path::new("/etc/mica/a.pem"));
        assert_eq!(listen.private_key, Path::new("/keys/a.key"));
        assert_eq!(listen.client_roots.as_deref(), Some(Path::new("/etc/mica/ca.pem")));
        let peers: PeerTls = toml::from_str("roots = \"ca.pem\"\n").expect("valid");
        assert_eq!(
            peers.relative_to(Path::new("/etc/mica")).roots.as_deref(),
            Some(Path::new("/etc/mica/ca.pem"))
        );
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<PeerTls>("root = \"ca.pem\"\n").is_err());
        assert!(
            toml::from_str::<ListenTls>("certificate = \"a\"\nprivate_key = \"b\"\nclient = 1\n").is_err()
        );
    }
}
