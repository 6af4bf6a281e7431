//! One connection to a peer: TCP, and TLS on it when the URL says https.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use crate::refusals::Refusals;
use crate::{Peers, Reason, TlsError, is_plain, reason};

/// Opens connections for an HTTP client. Refuses plain HTTP to other machines.
#[derive(Clone, Debug)]
pub struct Connector {
    tcp: HttpConnector,
    peers: Peers,
    timeout: Duration,
    refusals: Refusals,
}

/// Why there is no connection. Names nobody.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// TLS is demanded and was not asked for.
    #[error("{0}")]
    Plain(String),
    /// Our own certificates or roots do not do.
    #[error(transparent)]
    Files(#[from] TlsError),
    /// The host is none that a certificate can be for.
    #[error("this host is no name that a certificate can be for")]
    Name,
    /// No TCP connection.
    #[error("no connection")]
    Tcp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No agreement on TLS.
    #[error("no agreement on TLS")]
    Tls(#[source] io::Error),
    /// It took too long.
    #[error("it took too long")]
    Timeout,
}

/// A connection to a peer.
pub enum PeerStream {
    /// Without TLS.
    Plain(TokioIo<TcpStream>),
    /// Inside TLS.
    Tls(Box<TlsPeer>),
}

/// A connection inside TLS, and where to note that the peer breaks it off because of who we are.
pub struct TlsPeer {
    stream: TokioIo<TlsStream<TcpStream>>,
    host: String,
    refusals: Refusals,
}

impl TlsPeer {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read
            && let Some(Reason::NotAccepted(why)) = reason(error)
        {
            self.refusals.note(&self.host, why);
        }
        read
    }
}

impl Connector {
    pub(crate) fn new(peers: Peers, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(timeout));
        Self { tcp, peers, timeout, refusals: Refusals::default() }
    }

    /// Why a request to `host`, which is host and port, failed with `error`.
    pub fn reason(&self, host: &str, error: &(dyn std::error::Error + 'static)) -> Option<Reason> {
        let refused = self.refusals.take(host).map(Reason::NotAccepted);
        match reason(error) {
            None | Some(Reason::Other(_)) if refused.is_some() => refused,
            found => found,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = PeerStream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<PeerStream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.tcp.poll_ready(context).map_err(|error| ConnectError::Tcp(error.into()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (allowed, plain) = (self.peers.allow(&uri), is_plain(&uri));
        let peers = self.peers.clone();
        let name = server_name(&uri);
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let refusals = self.refusals.clone();
        let (timeout, tcp) = (self.timeout, self.tcp.call(uri));
        let connect = async move {
            allowed.map_err(ConnectError::Plain)?;
            if plain {
                return tcp.await.map(PeerStream::Plain).map_err(|error| ConnectError::Tcp(error.into()));
            }
            let (name, config) = (name.ok_or(ConnectError::Name)?, peers.current()?);
            let stream = tcp.await.map_err(|error| ConnectError::Tcp(error.into()))?;
            let stream = handshake(config, name, stream.into_inner()).await?;
            Ok(PeerStream::Tls(Box::new(TlsPeer { stream, host, refusals })))
        };
        Box::pin(
            async move { tokio::time::timeout(timeout, connect).await.unwrap_or(Err(ConnectError::Timeout)) },
        )
    }
}

async fn handshake(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<TokioIo<TlsStream<TcpStream>>, ConnectError> {
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(ConnectError::Tls)?;
    Ok(TokioIo::new(stream))
}

fn server_name(uri: &Uri) -> Option<ServerName<'static>> {
    let host = uri.host()?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => Some(ServerName::IpAddress(address.into())),
        Err(_) => ServerName::try_from(bare.to_owned()).ok(),
    }
}

impl Connection for PeerStream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_) => Connected::new(),
            Self::Tls(stream) => {
                let (_, connection) = stream.stream.inner().get_ref();
                let connected = Connected::new();
                if connection.alpn_protocol() == Some(b"h2") { connected.negotiated_h2() } else { connected }
            }
        }
    }
}

impl Read for PeerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => stream.poll_read(context, buffer),
        }
    }
}

impl Write for PeerStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(&mut stream.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(&mut stream.stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(&mut stream.stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Self::Tls(stream) => Pin::new(&mut stream.stream).poll_write_vectored(context, buffers),
        }
    }
}
