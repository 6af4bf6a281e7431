//! Takes changed files up without a restart: new handshakes use the new ones, and files that do not do leave all as it
//! was and say so.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::TlsError;

/// How often the files are looked at; a SIGHUP makes it at once.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

type Build<T> = dyn Fn() -> Result<T, TlsError> + Send + Sync;

/// A value that is made of files.
pub(crate) struct Reloading<T> {
    files: Vec<PathBuf>,
    build: Box<Build<T>>,
    seen: Mutex<[u8; 32]>,
    current: RwLock<Arc<T>>,
}

impl<T: Send + Sync + 'static> Reloading<T> {
    /// Reads the files for the first time.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        build: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let seen = Mutex::new(digest(&files));
        let current = RwLock::new(Arc::new(build()?));
        Ok(Self { files, build: Box::new(build), seen, current })
    }

    /// What the files say, or said when they last made sense.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the files; if they have changed, reads them.
    pub(crate) fn refresh(&self) {
        // The digest is older than what is read: a change in between is seen the next time.
        let found = digest(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == found {
            return;
        }
        *seen = found;
        match (self.build)() {
            Ok(value) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!("certificates were read again");
            }
            Err(error) => {
                tracing::error!(%error, "the changed certificates do not do; the old ones stay in use");
            }
        }
    }

    /// Looks at the files every `interval`, and when told to by a signal, for as long as the value is in use. Must be
    /// called inside a tokio runtime.
    pub(crate) fn watch(self: &Arc<Self>, interval: Duration) {
        if self.files.is_empty() {
            return;
        }
        tokio::spawn(watch(Arc::downgrade(self), interval));
    }
}

async fn watch<T: Send + Sync + 'static>(value: Weak<Reloading<T>>, interval: Duration) {
    let mut hangup = Hangup::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = hangup.next() => {}
        }
        let Some(value) = value.upgrade() else { return };
        // Files may lie on a disk that is slow.
        if tokio::task::spawn_blocking(move || value.refresh()).await.is_err() {
            return;
        }
    }
}

/// The signal that has always meant "read your files again".
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    #[cfg(unix)]
    fn new() -> Self {
        Self { signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok() }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// What is in the files. Times of files cannot be trusted to tell: two changes in one second look like one.
fn digest(files: &[PathBuf]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for file in files {
        let content = std::fs::read(file).map(Zeroizing::new).unwrap_or_default();
        digest.update(content.len().to_be_bytes());
        digest.update(&*content);
    }
    digest.finalize().into()
}
