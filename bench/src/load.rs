//! The load: kept-alive connections, each sending its next report as soon as the last one is answered.
//!
//! What one connection is and does is here for both versions of HTTP; `ohttp::pace` sends on the same connections at a rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use tokio::net::TcpStream;

/// Where uploads go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: Uri,
    /// What is sent.
    pub(crate) media: &'static str,
    pub(crate) http: Http,
}

/// The version that is spoken from the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Http {
    #[serde(rename = "HTTP/1.1")]
    One,
    #[serde(rename = "HTTP/2")]
    Two,
}

impl Http {
    pub(crate) const BOTH: [Self; 2] = [Self::One, Self::Two];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "HTTP/1.1",
            Self::Two => "HTTP/2",
        }
    }
}

/// One open connection, on which one request at a time is sent.
pub(crate) struct Line {
    sender: Sender,
    target: Target,
    host: HeaderValue,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// What came of it.
pub(crate) struct Sent {
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// From request to answer, ascending.
    pub(crate) latencies: Vec<Duration>,
    /// The contents of the answers with the numbers of their requests; empty answers are left out.
    pub(crate) answers: Vec<(usize, Bytes)>,
}

/// Sends every body once. Anything but a success ends the run: what is not the work is not measured.
pub(crate) async fn send(target: &Target, bodies: Vec<Bytes>, connections: u16) -> Result<Sent> {
    let work = Arc::new(Work { bodies, next: AtomicUsize::new(0) });
    let mut lines = Vec::new();
    for _ in 0..connections {
        lines.push(Line::open(target).await?);
    }
    let started = Instant::now();
    let running: Vec<_> =
        lines.into_iter().map(|line| tokio::spawn(one_connection(line, Arc::clone(&work)))).collect();
    let (mut latencies, mut answers) = (Vec::with_capacity(work.bodies.len()), Vec::new());
    for connection in running {
        let (took, contents) = connection.await.context("a connection of the load has failed")??;
        latencies.extend(took);
        answers.extend(contents);
    }
    let took = started.elapsed();
    latencies.sort_unstable();
    Ok(Sent { took, latencies, answers })
}

struct Work {
    bodies: Vec<Bytes>,
    next: AtomicUsize,
}

impl Line {
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(target.address).await.context("cannot connect")?;
        stream.set_nodelay(true).context("cannot connect")?;
        let stream = TokioIo::new(stream);
        // The failure of a connection is seen by its sender.
        let sender = match target.http {
            Http::One => {
                let (sender, connection) = http1::handshake(stream).await.context("cannot speak HTTP")?;
                tokio::spawn(async move { drop(connection.await) });
                Sender::One(sender)
            }
            Http::Two => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), stream).await.context("cannot speak HTTP")?;
                tokio::spawn(async move { drop(connection.await) });
                Sender::Two(sender)
            }
        };
        let host = HeaderValue::from_str(&target.address.to_string()).context("an address is no header")?;
        Ok(Self { sender, target: target.clone(), host })
    }

    /// Whether the other end has left.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }

    /// Sends one body and reads the answer. Anything but a success is an error.
    pub(crate) async fn ask(&mut self, body: Bytes) -> Result<Bytes> {
        let request = self.request(body)?;
        let answer = match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await.context("a connection broke")?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                sender.ready().await.context("a connection broke")?;
                sender.send_request(request).await
            }
        };
        let answer = answer.context("no answer to an upload")?;
        let status = answer.status();
        let content = answer.into_body().collect().await.context("an answer broke off")?.to_bytes();
        if !status.is_success() {
            bail!("an upload was answered with {status}: {}", String::from_utf8_lossy(&content));
        }
        Ok(content)
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let Target { address, path, media, http } = &self.target;
        let request = match http {
            Http::One => Request::post(path.clone()).header(header::HOST, &self.host),
            Http::Two => Request::post(format!("http://{address}{path}")),
        };
        request.header(header::CONTENT_TYPE, *media).body(Full::new(body)).context("cannot write a request")
    }
}

async fn one_connection(mut line: Line, work: Arc<Work>) -> Result<(Vec<Duration>, Vec<(usize, Bytes)>)> {
    let (mut latencies, mut answers) = (Vec::new(), Vec::new());
    loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        let Some(body) = work.bodies.get(number) else { return Ok((latencies, answers)) };
        let started = Instant::now();
        let content = line.ask(body.clone()).await?;
        latencies.push(started.elapsed());
        if !content.is_empty() {
            answers.push((number, content));
        }
    }
}

/// The latency that `permille` of a thousand requests stay within; `sorted` is ascending.
pub(crate) fn percentile(sorted: &[Duration], permille: usize) -> Duration {
    let rank = (sorted.len() * permille).div_ceil(1_000).max(1);
    sorted.get(rank - 1).or(sorted.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 500), Duration::from_millis(100));
        assert_eq!(percentile(&sorted, 990), Duration::from_millis(198));
        assert_eq!(percentile(&sorted, 1_000), Duration::from_millis(200));
        assert_eq!(percentile(&[], 500), Duration::ZERO);
    }
}
