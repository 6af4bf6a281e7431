//! One connection, from its first byte to its last.
//!
//! What a connection needs to speak is made when its first byte is there: one that says nothing costs next to nothing.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{Request, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::callers::{Caller, Callers};
use super::farewell::Attended;
use super::gauge::Gauge;
use super::pace::TimedBody;
use super::pulse::Pulse;
use super::unread::Unread;
use super::{Limits, Listening};
use crate::gathering::Gathering;
use crate::shutdown::Shutdown;
use crate::tls::{Acceptor, ClientCertificate, reason};

/// What all connections of one listener share.
pub(super) struct Server {
    pub(super) tls: Option<Acceptor>,
    /// For those who have not said yet which version they speak, and for each of the versions. What can be either takes
    /// the memory of the larger, and most connections are of HTTP/1.1.
    either: Builder<InSpan>,
    http1: http1::Builder,
    http2: Builder<InSpan>,
    router: Router,
    pub(super) limits: Limits,
    pub(super) shutdown: Shutdown,
    pub(super) callers: Option<Callers>,
    pub(super) gauge: Gauge,
}

/// What a client was heard to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    /// Too little was heard.
    Either,
}

/// Who is at the other end, as far as handlers may know.
#[derive(Clone)]
struct Peer {
    certificate: Option<Arc<ClientCertificate>>,
    caller: Option<Caller>,
}

impl Server {
    pub(super) fn new(listening: Listening, shutdown: Shutdown) -> Self {
        let Listening { tls, router, limits, callers, gauge } = listening;
        let (mut http1, mut either) = (http1::Builder::new(), Builder::new(InSpan));
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(HTTP1_BUFFER)
            .max_header_size(HTTP1_HEADERS)
            .max_headers(MAX_HEADERS);
        either
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            // Knows no other bound of headers.
            .max_buf_size(HTTP1_HEADERS)
            .max_headers(MAX_HEADERS);
        either
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.idle_timeout / 4)
            .keep_alive_timeout(limits.header_timeout)
            .max_concurrent_streams(limits.max_streams)
            .max_header_list_size(HTTP2_HEADERS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let http2 = either.clone().http2_only();
        Self { tls, either, http1, http2, router, limits, shutdown, callers, gauge }
    }

    /// Serves until the peer leaves, stays silent for too long, or the server drains.
    pub(super) async fn connection(&self, stream: TcpStream, caller: Option<Caller>) {
        if let Some(tls) = &self.tls {
            return Box::pin(self.secured(tls, stream, caller)).await;
        }
        let pulse = Pulse::new();
        let until = Instant::now() + self.limits.header_timeout;
        let Some(spoken) = self.first_words(&stream, &pulse, until).await else { return };
        let peer = Peer { certificate: None, caller };
        Box::pin(self.talk(stream, spoken, peer, (pulse, until))).await;
    }

    async fn secured(&self, tls: &Acceptor, stream: TcpStream, caller: Option<Caller>) {
        let handshake = timeout(self.limits.handshake_timeout, tls.accept(stream));
        let outcome = tokio::select! {
            outcome = handshake => outcome,
            // Nothing was asked yet, so nothing is lost.
            () = self.shutdown.wait() => return,
        };
        match outcome {
            Ok(Ok((stream, certificate))) => {
                let until = Instant::now() + self.limits.header_timeout;
                let spoken = Spoken::agreed(stream.get_ref().1.alpn_protocol());
                let peer = Peer { certificate, caller };
                Box::pin(self.talk(stream, spoken, peer, (Pulse::new(), until))).await;
            }
            Ok(Err(error)) => tracing::debug!(why = ?reason(&error), "a handshake failed"),
            Err(_) => tracing::debug!("a handshake took too long"),
        }
    }

    /// What is spoken, once anything is. Nothing, if the connection is over before that.
    async fn first_words(&self, stream: &TcpStream, pulse: &Pulse, until: Instant) -> Option<Spoken> {
        let mut words = [0; HTTP2_PREFACE.len()];
        tokio::select! {
            heard = stream.peek(&mut words) => match heard {
                Ok(0) | Err(_) => None,
                Ok(length) => Some(Spoken::heard(words.get(..length).unwrap_or_default())),
            },
            () = self.shutdown.wait() => None,
            () = self.in_the_way(pulse) => None,
            () = sleep_until(until) => None,
        }
    }

    /// `until` the first request must be there.
    async fn talk<S>(&self, stream: S, spoken: Spoken, peer: Peer, (pulse, until): (Arc<Pulse>, Instant))
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let unread = Unread::new(self.limits.body_pace);
        let (stream, vitals) = (TokioIo::new(stream), (&*pulse, &*unread));
        let service = service_fn(|mut request: Request<Incoming>| {
            if let Some(certificate) = &peer.certificate {
                request.extensions_mut().insert(Arc::clone(certificate));
            }
            if let Some(caller) = peer.caller {
                request.extensions_mut().insert(caller);
            }
            self.answer(request, &pulse, &unread)
        });
        match spoken {
            Spoken::Http1 => {
                self.watch(Box::pin(self.http1.serve_connection(stream, service)), vitals, until).await;
            }
            Spoken::Http2 => {
                let stream = Gathering::new(stream, self.limits.gathers);
                self.watch(Box::pin(self.http2.serve_connection(stream, service)), vitals, until).await;
            }
            Spoken::Either => {
                self.watch(Box::pin(self.either.serve_connection(stream, service)), vitals, until).await;
            }
        }
    }

    async fn watch(
        &self,
        mut connection: Pin<Box<impl GracefulConnection>>,
        (pulse, unread): (&Pulse, &Unread),
        until: Instant,
    ) {
        let mut first_request = pin!(sleep_until(until));
        let mut overdue = pin!(unread.overdue());
        let mut in_the_way = pin!(self.in_the_way(pulse));
        let (mut waiting, mut draining, mut closing) = (true, false, false);
        let mut makes_room = false;
        loop {
            tokio::select! {
                // Errors of a connection are the peer's affair: it left, or it does not speak HTTP.
                _ = connection.as_mut() => return,
                // Who does not take what was asked for is not told anything else.
                () = overdue.as_mut() => return,
                () = self.shutdown.wait(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = in_the_way.as_mut(), if !makes_room && !draining => {
                    if !pulse.has_asked() {
                        return;
                    }
                    makes_room = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = first_request.as_mut(), if waiting => {
                    if !pulse.has_asked() {
                        return;
                    }
                    waiting = false;
                }
                () = sleep(self.limits.idle_timeout), if !waiting => {
                    if pulse.is_idle_for(self.limits.idle_timeout) {
                        if closing {
                            return;
                        }
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }

    /// Returns when others cannot connect and nothing happens here.
    async fn in_the_way(&self, pulse: &Pulse) {
        loop {
            self.gauge.until_stalled().await;
            if pulse.is_idle_for(CROWDED_IDLE) {
                return;
            }
            sleep(CROWDED_IDLE).await;
        }
    }

    fn answer(
        &self,
        request: Request<Incoming>,
        pulse: &Arc<Pulse>,
        unread: &Arc<Unread>,
    ) -> impl Future<Output = Result<Response, Infallible>> + Send + 'static {
        let (in_flight, unread) = (pulse.request(), Arc::clone(unread));
        let (time, pace) = (self.limits.body_timeout, self.limits.body_pace);
        let (head, body) = request.into_parts();
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            let body = Attended::new(body, head.version, &head.headers);
            Body::new(TimedBody::new(body, (time, pace), self.gauge.clone()))
        };
        let is_addressed = names_one_host(&head);
        let answer = self.router.clone().oneshot(Request::from_parts(head, body));
        async move {
            let response =
                if is_addressed { answer.await } else { Ok(StatusCode::BAD_REQUEST.into_response()) };
            drop(in_flight);
            let count = |body: Body| {
                if body.is_end_stream() { body } else { Body::new(unread.count(body)) }
            };
            response.map(|response| response.map(count))
        }
    }
}

impl Spoken {
    /// By the first bytes of a connection.
    fn heard(words: &[u8]) -> Self {
        if words == HTTP2_PREFACE {
            Self::Http2
        } else if HTTP2_PREFACE.starts_with(words) {
            Self::Either
        } else {
            Self::Http1
        }
    }

    /// By what TLS agreed on.
    fn agreed(protocol: Option<&[u8]>) -> Self {
        match protocol {
            Some(b"h2") => Self::Http2,
            Some(b"http/1.1") => Self::Http1,
            _ => Self::Either,
        }
    }
}

/// Whether a request says once whom it is for, as one of HTTP/1.1 must (RFC 9112 3.2). HTTP/2 says it elsewhere too.
fn names_one_host(head: &Parts) -> bool {
    let hosts = head.headers.get_all(header::HOST).iter().count();
    if head.version == Version::HTTP_11 { hosts == 1 } else { hosts <= 1 }
}

/// Runs the streams of an HTTP/2 connection inside the span of its listener.
#[derive(Clone)]
pub(super) struct InSpan;

impl<F> Executor<F> for InSpan
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(stream.in_current_span());
    }
}

/// How long a connection on which nothing happens is kept while others cannot connect.
const CROWDED_IDLE: Duration = Duration::from_secs(1);
/// RFC 9113 3.4.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HTTP1_BUFFER: usize = 128 * 1024;
/// The lines of a request without its body.
const HTTP1_HEADERS: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
const HTTP2_HEADERS: u32 = 32 * 1024;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_by_its_first_words() {
        assert_eq!(Spoken::heard(HTTP2_PREFACE), Spoken::Http2);
        for half in [&b"P"[..], b"PRI", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert_eq!(Spoken::heard(half), Spoken::Either);
        }
        for other in [&b"G"[..], b"POST / HTTP/1.1\r\nhost: x", b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n"] {
            assert_eq!(Spoken::heard(other), Spoken::Http1);
        }
    }
}
