//! What a client says on the network: a POST of a sealed request to the relay, a GET of what it shows everybody, and nothing
//! that tells them from the requests of others. Nothing is resent by itself.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use mica_tls::{Connector, Peers, Reason};

use crate::ClientError;
use crate::patience::{Again, Failed};

/// Sends over kept-alive connections.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
}

impl Transport {
    pub(crate) fn new(peers: &Peers) -> Self {
        let connector = peers.connector(PATIENCE);
        let client = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector.clone());
        Self { client, connector }
    }

    /// Posts `body` and returns the whole answer, or why there is none and whether anybody can have acted on it.
    pub(crate) async fn post(
        &self,
        url: &str,
        media: &str,
        body: Vec<u8>,
    ) -> Result<Response<Bytes>, Failed> {
        let request = Request::post(url).header(header::CONTENT_TYPE, media).body(Full::from(body));
        self.send(request, url, LARGEST_ANSWER).await
    }

    /// Gets what is at `url`, unless it is what `known` is the tag of, and no more than `largest` bytes of it.
    pub(crate) async fn get(
        &self,
        url: &str,
        media: &str,
        known: Option<&HeaderValue>,
        largest: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        let mut request = Request::get(url).header(header::ACCEPT, media);
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        self.send(request.body(Full::default()), url, largest).await.map_err(|failed| failed.error)
    }

    async fn send(
        &self,
        request: Result<Request<Full<Bytes>>, http::Error>,
        url: &str,
        largest: usize,
    ) -> Result<Response<Bytes>, Failed> {
        let never = |why: &str| {
            let error = ClientError::Unreachable { origin: origin(url), why: why.to_owned() };
            Failed { error, again: Again::Never }
        };
        let request = request.map_err(|_| never("this is not a URL"))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| self.explain(url, &error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, largest)
                .collect()
                .await
                .map_err(|_| never("the answer broke off or is too large"))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(never("no answer in time")),
        }
    }

    /// What went wrong, without the address that lower layers like to add.
    fn explain(&self, url: &str, error: &hyper_util::client::legacy::Error) -> Failed {
        let origin = origin(url);
        let host = origin.split_once("://").map_or(origin.as_str(), |(_, host)| host).to_owned();
        let again = if is_unheard(error) { Again::Unheard } else { Again::Never };
        let error = match self.connector.reason(&host, error) {
            Some(Reason::Certificate(why)) => ClientError::Certificate { host, why },
            Some(Reason::NotAccepted(why)) => ClientError::NotAccepted { origin, why },
            Some(Reason::Unusable(why)) => ClientError::Unusable(why),
            Some(Reason::Other(why)) => ClientError::Unreachable { origin, why },
            None => ClientError::Unreachable { origin, why: "no connection".to_owned() },
        };
        // Trying again changes nothing of who the two are.
        let is_about_now = matches!(error, ClientError::Unreachable { .. });
        Failed { error, again: if is_about_now { again } else { Again::Never } }
    }
}

/// Whether it is certain that nobody has acted on a request: there was no connection, or it was closed before any of the
/// request was written, or the server says that it has not looked at it (RFC 9113 8.7).
fn is_unheard(error: &hyper_util::client::legacy::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    error.is_connect()
        || causes.any(|cause| {
            let is_unsent = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
            let refused = |error: &h2::Error| error.reason() == Some(h2::Reason::REFUSED_STREAM);
            is_unsent || cause.downcast_ref::<h2::Error>().is_some_and(refused)
        })
}

/// Scheme, host and port of a URL.
pub(crate) fn origin(url: &str) -> String {
    let uri = url.parse::<Uri>().unwrap_or_default();
    format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority().map_or("?", |host| host.as_str()))
}

const PATIENCE: Duration = Duration::from_secs(30);
/// Shorter than servers keep a silent connection, so that none is used in the moment it is closed.
const IDLE: Duration = Duration::from_secs(15);
const LARGEST_ANSWER: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::mpsc;

    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// Whoever sends an envelope again sends a fresh one (RFC 9458 6.5), which a transport cannot make.
    #[tokio::test]
    async fn an_envelope_whose_pooled_connection_was_closed_meanwhile_is_not_sent_again_by_the_transport() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (close, closing) = mpsc::channel();
        let (closed, is_closed) = mpsc::channel();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1_000];
            assert!(stream.read(&mut head).unwrap() > 0);
            stream.write_all(OK).unwrap();
            closing.recv().unwrap();
            drop(stream);
            closed.send(()).unwrap();
            closing.recv().unwrap();
            listener.set_nonblocking(true).unwrap();
            listener.accept().is_ok()
        });
        let transport = Transport::new(&Peers::default());
        let post = || transport.post(&url, "message/ohttp-req", vec![7; 100]);
        assert!(post().await.is_ok_and(|answer| answer.body() == "ok"));
        // Until it is back in the pool.
        tokio::time::sleep(Duration::from_millis(300)).await;
        close.send(()).unwrap();
        // The runtime stands still meanwhile. Then it sees the end of the connection and lets us go on first, so that the
        // request is queued when whoever serves the connection comes to it: that is what could be sent again.
        is_closed.recv().unwrap();
        tokio::task::yield_now().await;
        let sending = tokio::time::timeout(Duration::from_secs(5), post()).await.expect("it fails at once");
        assert_eq!(
            sending.map(drop).map_err(|failed| failed.again),
            Err(Again::Unheard),
            "for the caller to send again"
        );
        close.send(()).unwrap();
        assert!(!server.join().unwrap(), "nobody came again");
    }
}
