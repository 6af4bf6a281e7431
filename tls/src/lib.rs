//! TLS for every connection of mica, in both directions, and the one rule about connections without it.
//!
//! Whoever listens has an [`Acceptor`], whoever asks has [`Peers`]; both read PEM files, both take changed files up
//! without a restart, and both say in a sentence what is wrong with a certificate. Plain HTTP stays on loopback unless
//! somebody has said `insecure` or `insecure_peers`.
//!
//! A crate of its own, because clients need it and must not link a server. In the journey of a report this is the wall
//! of the pipe: it must never learn what flows inside, nor write down who is at the other end.

mod acceptor;
mod certificate;
mod config;
mod connector;
mod error;
mod explain;
mod files;
mod peers;
mod plain;
mod refusals;
mod reload;

pub use acceptor::{Acceptor, ServerStream};
pub use certificate::ClientCertificate;
pub use config::{ListenTls, PeerTls};
pub use connector::{ConnectError, Connector, PeerStream, TlsPeer};
pub use error::TlsError;
pub use explain::{Reason, reason};
pub use peers::Peers;
pub use plain::{is_loopback, is_plain};
pub use reload::RELOAD_INTERVAL;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The one implementation of the cryptography of TLS in this program.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What is spoken inside: HTTP/2 if both can.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
