//! The server side: who we are to those who connect, and which clients we know by certificate.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::files::{Names, identity, roots};
use crate::reload::Reloading;
use crate::{ALPN, ClientCertificate, ListenTls, TlsError, provider};

/// A connection from a client, inside TLS.
pub type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Takes handshakes. Clones share the certificate.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<Reloading<ServerConfig>>,
}

impl Acceptor {
    /// Reads the files of `listen`.
    ///
    /// # Errors
    /// When one of them does not do: missing, unreadable, expired, or a key of another certificate.
    pub fn load(listen: &ListenTls) -> Result<Self, TlsError> {
        let files: Vec<PathBuf> = [&listen.certificate, &listen.private_key]
            .into_iter()
            .chain(&listen.client_roots)
            .cloned()
            .collect();
        let listen = listen.clone();
        Ok(Self { config: Arc::new(Reloading::new(files, move || build(&listen))?) })
    }

    /// Takes changed files up: looks every `interval`, and on SIGHUP. Must be called inside a tokio runtime.
    pub fn watch(&self, interval: Duration) {
        self.config.watch(interval);
    }

    /// Takes one handshake. How long it may take is the caller's to say.
    ///
    /// # Errors
    /// When the two cannot agree, or the client's certificate is not one of ours.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(ServerStream, Option<Arc<ClientCertificate>>)> {
        let accepted = TlsAcceptor::from(self.config.current()).accept(stream).into_fallible().await;
        let stream = match accepted {
            Ok(stream) => stream,
            Err((error, stream)) => {
                dismiss(stream).await;
                return Err(error);
            }
        };
        let (_, connection) = stream.get_ref();
        let leaf = connection.peer_certificates().and_then(|chain| chain.first());
        let client = leaf.map(|leaf| Arc::new(ClientCertificate::of(leaf)));
        Ok((stream, client))
    }
}

/// Lets the client read why it was turned away: a connection that is closed with bytes unread takes the alert with it.
async fn dismiss(mut stream: TcpStream) {
    let farewell = async {
        stream.shutdown().await?;
        let mut unread = (&mut stream).take(MOST_UNREAD);
        tokio::io::copy(&mut unread, &mut tokio::io::sink()).await
    };
    // Whoever does not leave by itself is left.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

fn build(listen: &ListenTls) -> Result<ServerConfig, TlsError> {
    let names = Names { certificate: "tls.certificate", private_key: "tls.private_key" };
    let identity = identity(&names, &listen.certificate, &listen.private_key)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of both versions");
    let with_clients = match &listen.client_roots {
        Some(path) => {
            let roots = Arc::new(roots(CLIENT_ROOTS, path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier =
                if listen.require_client_certificate { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| {
                let what = format!("{} cannot be used: {error}", path.display());
                TlsError::new(CLIENT_ROOTS, what, "write certificates of authorities, in PEM")
            })?)
        }
        None if listen.require_client_certificate => {
            let what = "client certificates are required, and no authority for them is named";
            let fix = "name one with client_roots";
            return Err(TlsError::new("tls.require_client_certificate", what, fix));
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = with_clients.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    if listen.client_roots.is_some() {
        // A resumed session would not be verified again, and could outlive the certificate it began with.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// How long, and over how many bytes, a client that was turned away is listened to.
const FAREWELL: Duration = Duration::from_secs(1);
const MOST_UNREAD: u64 = 64 << 10;
const CLIENT_ROOTS: &str = "tls.client_roots";
