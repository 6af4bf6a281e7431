//! A crowd of connections that say nothing, or begin a request and never end it, before a relay that takes few; and two
//! honest clients among them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::costs::Ruler;
use super::figures::{Crowd, Honest};
use super::stage::{Plan, Stage};
use crate::load::{Http, Line, Target};
use crate::procfs;

pub(super) async fn measure(ruler: &Ruler<'_>) -> Result<Crowd> {
    ruler.progress.step("a crowd");
    let lines = format!("max_connections = {MAX_CONNECTIONS}");
    let stage = Stage::start(&Plan { relay_lines: &lines, ..ruler.plan(None) }).await?;
    let (bodies, _) = ruler.work.sealed(&stage.keys, HONEST_REQUESTS)?;
    let target = stage.through_relay(Http::One);
    let (memory_before, _) = procfs::memory(stage.relay.pid)?;
    let (most, over) = (Arc::new(AtomicU64::new(memory_before)), Arc::new(AtomicBool::new(false)));
    let watching = tokio::spawn(watch(stage.relay.pid, Arc::clone(&most), Arc::clone(&over)));
    let half = bodies.len() / 2;
    let for_one = bodies.get(..half).context("no requests")?.to_vec();
    let for_other = bodies.get(half..).context("no requests")?.to_vec();
    let kept = tokio::spawn(honest(target.clone(), for_one, true, Arc::clone(&over)));
    let anew = tokio::spawn(honest(target.clone(), for_other, false, Arc::clone(&over)));
    let started = Instant::now();
    let (mut attempts, mut connected) = (0, 0);
    while attempts < ruler.options.attempts {
        let size = WAVE.min(ruler.options.attempts - attempts);
        connected += wave(target.address, size, attempts).await;
        attempts += size;
    }
    let seconds = started.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let (kept, anew) =
        (kept.await.context("a client has failed")?, anew.await.context("a client has failed")?);
    watching.await.context("nobody watched the memory")?;
    let memory_most = most.load(Ordering::Relaxed);
    stage.stop().await?;
    let max_connections = MAX_CONNECTIONS;
    Ok(Crowd { attempts, connected, max_connections, seconds, memory_before, memory_most, kept, anew })
}

/// So many attempts at once; those that come about are kept for a while. Half of them begin a request.
async fn wave(relay: SocketAddr, size: u32, number: u32) -> u32 {
    let attempts: Vec<_> = (0..size).map(|at| tokio::spawn(attempt(relay, number + at))).collect();
    let mut open = Vec::new();
    for attempt in attempts {
        if let Ok(Some(stream)) = attempt.await {
            open.push(stream);
        }
    }
    sleep(HELD).await;
    u32::try_from(open.len()).unwrap_or(u32::MAX)
}

/// From an address of its own, as far as this machine has any.
async fn attempt(relay: SocketAddr, number: u32) -> Option<TcpStream> {
    let [_, high, low, _] = (number << 4).to_be_bytes();
    let socket = TcpSocket::new_v4().ok()?;
    // Closed connections leave nothing behind that would keep a port from the next wave.
    socket.set_zero_linger().ok()?;
    socket.bind((Ipv4Addr::new(127, 1 + high % 200, low, 1), 0).into()).ok()?;
    let mut stream = timeout(PATIENCE, socket.connect(relay)).await.ok()?.ok()?;
    if number.is_multiple_of(2) {
        stream.write_all(b"POST / HTTP/1.1\r\nhost: relay\r\ncontent-type: mess").await.ok()?;
    }
    Some(stream)
}

/// A client that goes on asking until all is over, and tries again when it is cut off.
async fn honest(target: Target, bodies: Vec<Bytes>, keeps: bool, over: Arc<AtomicBool>) -> Honest {
    let (mut latencies, mut failed, mut kept) = (Vec::new(), 0, None);
    for body in bodies {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        let exchange = async {
            let mut line = match kept.take() {
                Some(line) => line,
                None => Line::open(&target).await?,
            };
            line.ask(body).await?;
            Ok::<_, anyhow::Error>(line)
        };
        match timeout(CLIENT_PATIENCE, exchange).await {
            Ok(Ok(line)) => {
                latencies.push(begun.elapsed());
                kept = keeps.then_some(line);
            }
            _ => failed += 1,
        }
        sleep(HONEST_PAUSE).await;
    }
    Honest::new(latencies, failed)
}

async fn watch(pid: u32, most: Arc<AtomicU64>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        if let Ok((resident, _)) = procfs::memory(pid) {
            most.fetch_max(resident, Ordering::Relaxed);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

const MAX_CONNECTIONS: u32 = 1_000;
/// Attempts at the same time.
const WAVE: u32 = 5_000;
/// How long one of a crowd tries.
const PATIENCE: Duration = Duration::from_millis(500);
/// And how long it stays.
const HELD: Duration = Duration::from_millis(500);
/// How long an honest client waits for its answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
const HONEST_PAUSE: Duration = Duration::from_millis(20);
const HONEST_REQUESTS: usize = 8_000;
