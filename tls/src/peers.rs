//! The client side: whom we believe, who we are to them, and whether we may speak without TLS at all.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Uri;
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use crate::files::{self, Names};
use crate::reload::Reloading;
use crate::{ALPN, Connector, PeerTls, TlsError, is_loopback, is_plain, provider};

/// How peers are connected to. Clones share certificates and roots. The default believes the authorities of the
/// operating system, shows no certificate, and speaks plain HTTP on loopback only.
#[derive(Clone, Default)]
pub struct Peers {
    files: Option<Arc<Reloading<ClientConfig>>>,
    plain_http: bool,
    shows_certificate: bool,
}

impl Peers {
    /// Reads the files of `peers`. With `insecure_peers`, they may be asked over plain HTTP.
    ///
    /// # Errors
    /// When one of the files does not do.
    pub fn load(peers: &PeerTls, insecure_peers: bool) -> Result<Self, TlsError> {
        if *peers == PeerTls::default() {
            return Ok(Self { plain_http: insecure_peers, ..Self::default() });
        }
        let files: Vec<PathBuf> =
            [&peers.roots, &peers.certificate, &peers.private_key].into_iter().flatten().cloned().collect();
        let peers = peers.clone();
        let shows_certificate = peers.certificate.is_some();
        Ok(Self {
            shows_certificate,
            files: Some(Arc::new(Reloading::new(files, move || build(&peers))?)),
            plain_http: insecure_peers,
        })
    }

    /// Takes changed files up: looks every `interval`, and on SIGHUP. Must be called inside a tokio runtime.
    pub fn watch(&self, interval: Duration) {
        if let Some(files) = &self.files {
            files.watch(interval);
        }
    }

    /// Whether peers that ask for a certificate are shown one.
    #[must_use]
    pub fn show_certificate(&self) -> bool {
        self.shows_certificate
    }

    /// Whether `uri` may be asked at all.
    ///
    /// # Errors
    /// One sentence, when it is plain HTTP to another machine.
    pub fn allow(&self, uri: &Uri) -> Result<(), String> {
        if self.plain_http || !is_plain(uri) || is_loopback(uri) {
            return Ok(());
        }
        let host = uri.authority().map_or("", |authority| authority.as_str());
        Err(format!(
            "http://{host} is plain HTTP to another machine; use https://, or allow it with --insecure-peers"
        ))
    }

    /// Connects as said here; `timeout` is for the connection and the handshake together.
    pub fn connector(&self, timeout: Duration) -> Connector {
        Connector::new(self.clone(), timeout)
    }

    /// What the next handshake is to use.
    pub(crate) fn current(&self) -> Result<Arc<ClientConfig>, TlsError> {
        static DEFAULT: OnceLock<Result<Arc<ClientConfig>, TlsError>> = OnceLock::new();
        if let Some(files) = &self.files {
            return Ok(files.current());
        }
        DEFAULT.get_or_init(|| build(&PeerTls::default()).map(Arc::new)).clone()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peers(..)")
    }
}

fn build(peers: &PeerTls) -> Result<ClientConfig, TlsError> {
    let mut trusted = match &peers.roots {
        Some(path) => files::roots("peer_tls.roots", path)?,
        None => RootCertStore::empty(),
    };
    if peers.roots.is_none() || peers.system_roots {
        add_system_roots(&mut trusted)?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of both versions")
        .with_root_certificates(trusted);
    let names = Names { certificate: "peer_tls.certificate", private_key: "peer_tls.private_key" };
    let mut config = match (&peers.certificate, &peers.private_key) {
        (Some(certificate), Some(key)) => {
            let identity = files::identity(&names, certificate, key)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) => {
            return Err(half(names.certificate, "a certificate without its key", names.private_key));
        }
        (None, Some(_)) => {
            return Err(half(names.private_key, "a key without its certificate", names.certificate));
        }
    };
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // A ticket from one connection shown on the next would tell the server that both are from the same client.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn half(key: &str, what: &str, other: &str) -> TlsError {
    TlsError::new(key, format!("this is {what}"), format!("give {other} too"))
}

/// The authorities that the operating system trusts: its owner keeps them up to date, and mica is not asked.
fn add_system_roots(trusted: &mut RootCertStore) -> Result<(), TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = trusted.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(());
    }
    let what = "the operating system has no list of trusted authorities";
    let fix = "install it (on Debian: ca-certificates), or name a file of authorities";
    Err(TlsError::new("peer_tls.roots", what, fix))
}
