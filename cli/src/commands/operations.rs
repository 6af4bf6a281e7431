//! Where a relay or a gateway tells its operator how it is, and to whom it does.

use std::net::SocketAddr;
use std::path::Path;

use mica_service::config::Provenance;
use mica_service::listener::{self, Limits};
use mica_service::operations::Operations;
use mica_service::shutdown::Shutdown;
use mica_service::tls::{Acceptor, ListenTls, TlsError};
use mica_service::token::TokenHash;

use super::server;
use crate::exit::Failure;
use crate::settings::Settings;

/// What a configuration says of it.
pub(super) struct Admin<'a> {
    pub(super) listen: Option<SocketAddr>,
    pub(super) token_file: Option<&'a Path>,
    pub(super) token_sha256: Option<&'a str>,
    pub(super) tls: Option<&'a ListenTls>,
}

/// A listener of the operator's own.
pub(super) struct Place {
    address: SocketAddr,
    token: Option<TokenHash>,
    tls: Option<Acceptor>,
}

impl Admin<'_> {
    /// Reads the token. Other machines are told nothing without TLS and a token.
    pub(super) fn read(
        &self,
        settings: &Settings,
        provenance: &Provenance,
    ) -> Result<Option<Place>, Failure> {
        let wrong = |key: &str, what: &str, fix: &str| Err(settings.wrong(provenance, key, what, fix));
        let Some(address) = self.listen else { return Ok(None) };
        let token = match (self.token_sha256, self.token_file) {
            (Some(_), Some(_)) => {
                let fix = "keep one of admin_token_file and admin_token_sha256";
                return wrong("admin_token_file", "there are two tokens", fix);
            }
            (Some(hash), None) => {
                let Some(hash) = TokenHash::from_hex(hash) else {
                    let fix = "write the 64 digits of `sha256sum`, of the token without a line break";
                    return wrong("admin_token_sha256", "this is not the hash of a token", fix);
                };
                Some(hash)
            }
            (None, Some(file)) => match TokenHash::from_file(file) {
                Ok(hash) => Some(hash),
                Err(what) => return wrong("admin_token_file", &what, "name a file that holds a token"),
            },
            (None, None) => None,
        };
        if !address.ip().is_loopback() && (self.tls.is_none() || token.is_none()) {
            let what = "the figures can be reached from other machines, without TLS or without a token";
            let fix = "listen on 127.0.0.1, or add a table [tls] and admin_token_file";
            return wrong("admin_listen", what, fix);
        }
        let tls = operators_tls(address, self.tls).transpose();
        let tls = tls.map_err(|error| server::explain_tls(settings, provenance, &error))?;
        Ok(Some(Place { address, token, tls }))
    }
}

/// An operator's tools have no certificate, and on the machine itself they need no TLS either.
pub(super) fn operators_tls(
    address: SocketAddr,
    tls: Option<&ListenTls>,
) -> Option<Result<Acceptor, TlsError>> {
    let tls = tls.filter(|_| !address.ip().is_loopback())?;
    Some(Acceptor::load(&tls.asking_nobody()))
}

/// Answers the operator until `shutdown`, if there is a place for it.
pub(super) async fn serve(
    place: Option<Place>,
    operations: Operations,
    shutdown: Shutdown,
) -> Result<impl Future<Output = ()>, Failure> {
    let serving = match place {
        Some(Place { address, token, tls }) => {
            let listener = listener::bind(address).await?;
            tracing::info!(address = %listener.local_addr()?, "the operator's address is open");
            Some(listener::serve_over(tls, listener, operations.router(token), Limits::default(), shutdown))
        }
        None => None,
    };
    Ok(async {
        if let Some(serving) = serving {
            serving.await;
        }
    })
}
