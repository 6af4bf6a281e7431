//! The accept loop and the drain at its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::Instrument as _;

use super::Drained;
use super::connection::Server;

pub(super) async fn serve(listener: TcpListener, server: Server) -> Drained {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, tls = server.tls.is_some(), "listening");
    }
    let (grace, shutdown) = (server.limits.grace, server.shutdown.clone());
    let places = Arc::new(Semaphore::new(server.limits.max_connections.max(1)));
    let server = Arc::new(server);
    let mut connections = JoinSet::new();
    loop {
        // Dropped connections are collected before the next one is waited for.
        while connections.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (accept(&listener).await, place)
        };
        let (stream, place) = tokio::select! {
            biased;
            () = shutdown.wait() => break,
            accepted = next => accepted,
        };
        let server = Arc::clone(&server);
        let connection = async move {
            server.connection(stream).await;
            drop(place);
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

/// The next connection, without the address it comes from.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small messages go back and forth: none of them should wait for a fuller packet.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) if gone(&error) => {}
            Err(error) => {
                // Out of file descriptors or memory: only connections that end can help.
                tracing::error!(%error, "cannot accept connections for a moment");
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
