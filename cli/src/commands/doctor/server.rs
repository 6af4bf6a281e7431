//! Does the server itself run, at the address that its configuration names?

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use mica_service::config::bounds::asked_at;
use mica_service::http::{HttpClient, PeerError};

use super::finding::Finding;
use crate::exit::Exit;

/// Asks the server for its health, from this machine. Its certificate is for another name than its address, so that one
/// that is shown is taken for a sign of life.
pub(super) async fn examine(http: &HttpClient, listen: &str, tls: bool, findings: &mut Vec<Finding>) {
    let what = format!("the server at {listen}");
    let Some(url) = url_of(listen, tls, "/health") else {
        findings.push(Finding::warn("server", what, "it has no address that can be asked; ask it by hand"));
        return;
    };
    let Ok(request) = Request::get(url).body(Bytes::new()) else { return };
    findings.push(match http.send(request).await {
        Ok(answer) if answer.status().is_success() => Finding::ok("server", what),
        Ok(answer) => {
            let todo = format!("it answers {} when it is asked for its health; see its log", answer.status());
            Finding::fail("server", what, todo, Exit::Unreachable)
        }
        Err(PeerError::Certificate { .. } | PeerError::NotAccepted { .. }) if tls => {
            Finding::ok("server", format!("{what} answers inside TLS"))
        }
        Err(error) => Finding::fail("server", what, format!("{error}; is it running?"), Exit::Unreachable),
    });
}

/// Where to ask a server of this machine that listens so.
pub(super) fn url_of(listen: &str, tls: bool, path: &str) -> Option<String> {
    let scheme = if tls { "https" } else { "http" };
    let Ok(address) = listen.parse::<SocketAddr>().map(asked_at) else {
        return listen.contains(':').then(|| format!("{scheme}://{listen}{path}"));
    };
    (address.port() != 0).then(|| format!("{scheme}://{address}{path}"))
}

#[cfg(test)]
mod tests {
    use super::url_of;

    #[test]
    fn a_server_on_every_address_is_asked_on_this_machine() {
        let url = |listen| url_of(listen, false, "/health");
        assert_eq!(url("127.0.0.1:8481").as_deref(), Some("http://127.0.0.1:8481/health"));
        assert_eq!(url("0.0.0.0:80").as_deref(), Some("http://127.0.0.1:80/health"));
        assert_eq!(url("[::]:80").as_deref(), Some("http://[::1]:80/health"));
        assert_eq!(url("localhost:80").as_deref(), Some("http://localhost:80/health"));
        assert_eq!((url("127.0.0.1:0"), url("nonsense")), (None, None));
        assert_eq!(url_of("127.0.0.1:1", true, "/health").as_deref(), Some("https://127.0.0.1:1/health"));
    }
}
