//! The load: kept-alive connections, each sending its next report as soon as the last one is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where uploads go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: Uri,
    /// What is sent.
    pub(crate) media: &'static str,
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
    let mut senders = Vec::new();
    for _ in 0..connections {
        senders.push(connect(target).await?);
    }
    let started = Instant::now();
    let running: Vec<_> = senders
        .into_iter()
        .map(|sender| tokio::spawn(one_connection(sender, target.clone(), Arc::clone(&work))))
        .collect();
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

async fn connect(target: &Target) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(target.address).await.context("cannot connect")?;
    stream.set_nodelay(true).context("cannot connect")?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.context("cannot speak HTTP")?;
    // Its failure is seen by the sender.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn one_connection(
    mut sender: SendRequest<Full<Bytes>>,
    target: Target,
    work: Arc<Work>,
) -> Result<(Vec<Duration>, Vec<(usize, Bytes)>)> {
    let host = HeaderValue::from_str(&target.address.to_string()).context("an address is no header")?;
    let (mut latencies, mut answers) = (Vec::new(), Vec::new());
    loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        let Some(body) = work.bodies.get(number) else { return Ok((latencies, answers)) };
        let request = Request::post(target.path.clone())
            .header(header::HOST, &host)
            .header(header::CONTENT_TYPE, target.media)
            .body(Full::new(body.clone()))
            .context("cannot write a request")?;
        let started = Instant::now();
        sender.ready().await.context("a connection broke")?;
        let answer = sender.send_request(request).await.context("no answer to an upload")?;
        let status = answer.status();
        let content = answer.into_body().collect().await.context("an answer broke off")?.to_bytes();
        latencies.push(started.elapsed());
        if !status.is_success() {
            bail!("an upload was answered with {status}: {}", String::from_utf8_lossy(&content));
        }
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
