//! A target that takes whatever comes: it reads a request, counts it, and answers 200 with nothing.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

/// It serves in a thread of its own until the program ends.
pub(super) struct Sink {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Sink {
    pub(super) fn start() -> Result<Self> {
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
        listener.set_nonblocking(true).context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr().context("a listener has no address")?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let requests = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&requests);
        thread::spawn(move || runtime.block_on(serve(listener, counted)));
        Ok(Self { address, requests })
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve(listener: std::net::TcpListener, requests: Arc<AtomicU64>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let requests = Arc::clone(&requests);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(|request: Request<Incoming>| {
                let requests = Arc::clone(&requests);
                async move {
                    if request.into_body().collect().await.is_ok() {
                        requests.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                }
            });
            // Whoever leaves has left.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
