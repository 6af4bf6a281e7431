//! Listens in between two servers, without changing a byte.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A port that leads to another one, and hears what is said.
pub struct Wiretap {
    /// Where to connect.
    pub port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
    server: JoinHandle<()>,
}

impl Wiretap {
    /// In front of `target`.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let heard = Arc::new(Mutex::default());
        let server = tokio::spawn(accept(listener, target, Arc::clone(&heard)));
        Self { port, heard, server }
    }

    /// Everything that was said so far, in both directions.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, target: u16, heard: Arc<Mutex<Vec<u8>>>) {
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { continue };
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::spawn(pass_on(near_in, far_out, Arc::clone(&heard)));
        tokio::spawn(pass_on(far_in, near_out, Arc::clone(&heard)));
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, heard: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let said = buffer.get(..length).unwrap_or_default();
        heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(said);
        if to.write_all(said).await.is_err() {
            return;
        }
    }
    // The other side hears that this one has ended.
    let _ = to.shutdown().await;
}
