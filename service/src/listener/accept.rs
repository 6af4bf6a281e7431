//! The accept loop and the drain at its end.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::Instrument as _;

use super::Drained;
use super::connection::Server;
use super::gauge::Gauge;
use super::shares::{Shares, TurnedAway};
use crate::trouble::Trouble;

pub(super) async fn serve(listener: TcpListener, server: Server) -> Drained {
    let (grace, shutdown) = (server.limits.grace, server.shutdown.clone());
    let places = Arc::new(Semaphore::new(server.limits.max_connections.max(1)));
    let (shares, mut turned_away) = (server.limits.max_per_caller.map(Shares::new), TurnedAway::default());
    let server = Arc::new(server);
    let (mut connections, trouble) = (JoinSet::new(), Trouble::default());
    loop {
        // Dropped connections are collected before the next one is waited for.
        while connections.try_join_next().is_some() {}
        let next = async {
            let place = place(&places, &server.gauge).await;
            (accept(&listener, &server.gauge, &trouble).await, place)
        };
        let ((stream, address), place) = tokio::select! {
            biased;
            () = shutdown.wait() => break,
            accepted = next => accepted,
        };
        let caller = server.callers.as_ref().map(|callers| callers.of(address));
        let share = match (&shares, caller) {
            (Some(shares), Some(caller)) => {
                let Some(share) = shares.take(caller) else {
                    turned_away.one_more();
                    continue;
                };
                Some(share)
            }
            _ => None,
        };
        let (server, entered) = (Arc::clone(&server), server.gauge.enter());
        let connection = async move {
            server.connection(stream, caller).await;
            drop((share, place, entered));
        };
        connections.spawn(connection.in_current_span());
    }
    drop(listener);
    drain(connections, grace).await
}

async fn drain(mut connections: JoinSet<()>, grace: Duration) -> Drained {
    let done = timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
    let cut = if done.is_ok() { 0 } else { connections.len() };
    if cut > 0 {
        tracing::warn!(cut, "connections were cut: the grace period is over");
    }
    connections.shutdown().await;
    Drained { cut }
}

/// A place for one more connection.
async fn place(places: &Arc<Semaphore>, gauge: &Gauge) -> OwnedSemaphorePermit {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return place;
    }
    gauge.stall();
    Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed")
}

/// The next connection, and the address it comes from, which is dropped by the caller.
async fn accept(listener: &TcpListener, gauge: &Gauge, trouble: &Trouble) -> (TcpStream, IpAddr) {
    loop {
        let next = poll_fn(|context| {
            let polled = listener.poll_accept(context);
            if polled.is_pending() {
                // Nobody stands outside.
                gauge.go();
            }
            polled
        });
        match next.await {
            Ok((stream, address)) => {
                gauge.go();
                // Small messages go back and forth: none of them should wait for a fuller packet.
                let _ = stream.set_nodelay(true);
                return (stream, address.ip());
            }
            Err(error) if gone(&error) => {}
            Err(error) => {
                // Out of file descriptors or memory: only connections that end can help.
                gauge.stall();
                // Strangers can have it so for as long as they like.
                if let Some(times) = trouble.occurs() {
                    tracing::error!(times, %error, "cannot accept connections for a moment");
                }
                sleep(BACK_OFF).await;
            }
        }
    }
}

/// Whoever wanted to connect has left again: nothing is wrong here.
fn gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

const BACK_OFF: Duration = Duration::from_millis(500);
