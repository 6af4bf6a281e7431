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
    seen: Mutex<Seen>,
    current: RwLock<Arc<T>>,
}

/// What is known of the files.
struct Seen {
    /// The digest of those that are in use.
    taken: [u8; 32],
    /// Why those that were found since do not do: looked at again until they do, because the reason may lie outside of
    /// what they say, such as their mode or the time of day.
    failure: Option<String>,
}

/// What a look at the files led to.
#[derive(Debug, PartialEq, Eq)]
enum Looked {
    /// Nothing: they are those in use.
    Same,
    /// They were read, and are in use.
    Taken,
    /// They do not do, and the log says why.
    Refused,
    /// They still do not do, for a reason that the log has told before.
    StillRefused,
}

impl<T: Send + Sync + 'static> Reloading<T> {
    /// Reads the files for the first time.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        build: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let seen = Mutex::new(Seen { taken: digest(&files), failure: None });
        let current = RwLock::new(Arc::new(build()?));
        Ok(Self { files, build: Box::new(build), seen, current })
    }

    /// What the files say, or said when they last made sense.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the files; if they have changed, did not do when they were last looked at, or somebody `insists`, reads
    /// them.
    fn refresh(&self, insists: bool) -> Looked {
        // The digest is older than what is read: a change in between is seen the next time.
        let found = digest(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.taken == found && seen.failure.is_none() && !insists {
            return Looked::Same;
        }
        match (self.build)() {
            Ok(value) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                *seen = Seen { taken: found, failure: None };
                tracing::info!("certificates were read again");
                Looked::Taken
            }
            Err(error) => {
                let why = Some(error.to_string());
                let is_told = seen.failure == why && !insists;
                seen.failure = why;
                if is_told {
                    return Looked::StillRefused;
                }
                tracing::error!(%error, "the changed certificates do not do; the old ones stay in use");
                Looked::Refused
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
        let insists = tokio::select! {
            () = tokio::time::sleep(interval) => false,
            () = hangup.next() => true,
        };
        let Some(value) = value.upgrade() else { return };
        // Files may lie on a disk that is slow.
        if tokio::task::spawn_blocking(move || value.refresh(insists)).await.is_err() {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const GOOD: u64 = 0;

    /// A value made of one file, which cannot be made while `trouble` has a number, and says that number.
    fn reloading(folder: &tempfile::TempDir, trouble: &Arc<AtomicU64>) -> (PathBuf, Reloading<String>) {
        let file = folder.path().join("file");
        std::fs::write(&file, "first").expect("a file of our own");
        let (read, trouble) = (file.clone(), Arc::clone(trouble));
        let build = move || match trouble.load(Ordering::Relaxed) {
            GOOD => Ok(std::fs::read_to_string(&read).expect("it is there")),
            number => Err(TlsError::new("tls.private_key", format!("trouble {number}"), "wait".to_owned())),
        };
        let value = Reloading::new(vec![file.clone()], build).expect("all is well at first");
        (file, value)
    }

    #[test]
    fn what_failed_for_a_reason_outside_of_the_files_is_tried_again_and_told_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let trouble = Arc::new(AtomicU64::new(GOOD));
        let (file, value) = reloading(&folder, &trouble);
        assert_eq!(value.refresh(false), Looked::Same);
        std::fs::write(&file, "second").expect("a file of our own");
        trouble.store(1, Ordering::Relaxed);
        assert_eq!(value.refresh(false), Looked::Refused);
        assert_eq!(value.refresh(false), Looked::StillRefused);
        trouble.store(2, Ordering::Relaxed);
        assert_eq!(value.refresh(false), Looked::Refused, "for another reason");
        assert_eq!(value.refresh(true), Looked::Refused, "who asks is told");
        assert_eq!(*value.current(), "first");
        trouble.store(GOOD, Ordering::Relaxed);
        assert_eq!(value.refresh(false), Looked::Taken);
        assert_eq!(*value.current(), "second");
        assert_eq!(value.refresh(false), Looked::Same);
    }

    #[test]
    fn a_signal_has_the_files_read_whether_they_changed_or_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let trouble = Arc::new(AtomicU64::new(GOOD));
        let (_, value) = reloading(&folder, &trouble);
        let before = value.current();
        assert_eq!(value.refresh(true), Looked::Taken);
        assert!(!Arc::ptr_eq(&before, &value.current()));
    }
}
