//! The other end of a connection, without any of ours in it.

use std::net::SocketAddr;
use std::sync::Arc;

use mica_service::testing::{Authority, Issued};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A client that trusts `authority` and speaks no HTTP/2.
pub(crate) async fn connect(authority: &Authority, address: SocketAddr) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// The certificate that a server shows now.
pub(crate) async fn shown_by(authority: &Authority, address: SocketAddr) -> Vec<u8> {
    let stream = connect(authority, address).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// A server that shows its certificate without looking at it.
pub(crate) async fn serve_anything(identity: &Issued) -> SocketAddr {
    let certificate = CertificateDer::from(identity.der().to_vec());
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever connects is expected to leave.
            let _ = acceptor.accept(stream).await;
        }
    });
    address
}
