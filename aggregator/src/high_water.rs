//! The high-water mark: how far this aggregator has seen its ledger go, kept in a file outside the database.
//!
//! A ledger is only worth something if it never goes back. Whoever restores a database from a backup gives spent budget
//! back and lets a batch be drawn for a second time, and nothing inside the database can tell. So each process writes
//! down the number and the hash of the last entry after each commit and before anything that the entry paid for leaves,
//! and releases nothing on top of a ledger that ends earlier, or is another one. Uploads and verification go on.
//!
//! Replicas have a mark each. One that releases nothing follows what the others release, every few seconds and before it
//! decides anything: an old mark vouches for an old ledger.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mica_dp::{ChainHead, LedgerEntry};
use mica_service::shutdown::Shutdown;
use mica_service::store::{Store, StoreError, Tx};
use thiserror::Error;

use crate::store::ledger;

/// The mark of one process; clones share it.
#[derive(Clone, Default)]
pub struct HighWater(Option<Arc<Marked>>);

struct Marked {
    path: PathBuf,
    /// What the file says; nothing when there is none.
    known: Mutex<Option<ChainHead>>,
    /// Held by whoever writes the file.
    writing: tokio::sync::Mutex<()>,
}

/// Why nothing is released on top of this ledger. In sentences for the operator, who alone can do something about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Setback {
    /// Nobody knows how far the ledger had come.
    #[error(
        "there is no high-water mark at {path}, and the ledger has {entries} entries: it cannot be told whether the \
         database was restored from an older copy; {ACCEPT}"
    )]
    Unmarked {
        /// Where it should be.
        path: String,
        /// How far the ledger goes.
        entries: u64,
    },
    /// The ledger ends before the mark.
    #[error(
        "the ledger ends at entry {entries} and had come to entry {mark}: the database was restored from an older copy, \
         and {} charges, refunds or commits are missing; {ACCEPT}",
        .mark.saturating_sub(*.entries)
    )]
    Older {
        /// How far it had come.
        mark: u64,
        /// How far it goes.
        entries: u64,
    },
    /// The ledger has another past.
    #[error(
        "entry {mark} of the ledger is not the one that was written here: the database is another one, or was restored \
         from an older copy and used since; {ACCEPT}"
    )]
    Other {
        /// The entry that differs.
        mark: u64,
    },
}

impl Setback {
    /// Every word that [`Self::word`] has.
    pub const WORDS: [&'static str; 3] = ["unmarked", "older", "other"];

    /// Which of the three it is, for figures.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unmarked { .. } => "unmarked",
            Self::Older { .. } => "older",
            Self::Other { .. } => "other",
        }
    }

    /// What an entry of the ledger says of it: the same on every machine.
    fn in_short(&self) -> String {
        match self {
            Self::Unmarked { entries, .. } => {
                format!("there was no mark, and the ledger ended at entry {entries}")
            }
            Self::Older { mark, entries } => {
                format!("the ledger had come to entry {mark} and ended at entry {entries}")
            }
            Self::Other { mark } => format!("entry {mark} of the ledger was another"),
        }
    }
}

/// Who takes on a ledger that was set back, and why: for whoever reads the ledger later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    by: String,
    why: String,
}

/// What nobody could read later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("who accepts a restored ledger and why is said in 1 to {LONGEST} printable characters each")]
pub struct Unsaid;

impl Acceptance {
    /// In the words of whoever does it.
    ///
    /// # Errors
    /// When one of them is empty, long, or not printable.
    pub fn new(by: &str, why: &str) -> Result<Self, Unsaid> {
        let readable =
            |text: &str| (1..=LONGEST).contains(&text.chars().count()) && !text.contains(char::is_control);
        let (by, why) = (by.trim(), why.trim());
        if !readable(by) || !readable(why) {
            return Err(Unsaid);
        }
        Ok(Self { by: by.to_owned(), why: why.to_owned() })
    }

    fn note(&self, setback: &Setback) -> String {
        format!("{}: {} ({})", self.by, self.why, setback.in_short())
    }
}

const LONGEST: usize = 200;

/// How often a process that releases nothing looks how far the ledger has come.
const KEEP_UP: Duration = Duration::from_secs(5);

const ACCEPT: &str = "see `mica budget accept-restored --help`";

/// The file of a mark cannot be read or written.
#[derive(Debug, Error)]
#[error("the high-water mark of the ledger, {path}: {why}")]
pub struct MarkError {
    path: String,
    why: String,
}

/// Why a mark does not follow its ledger.
#[derive(Debug, Error)]
pub enum FollowError {
    /// The file.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl HighWater {
    /// The mark in this file. A new file for a ledger without entries; otherwise it stays missing, and that is a
    /// [`Setback`].
    ///
    /// # Errors
    /// When the file cannot be read or written, or says something else; or when the database fails.
    pub async fn open(path: &Path, store: &Store) -> Result<Self, FollowError> {
        let mark = Self::at(path)?;
        mark.follow(store).await?;
        Ok(mark)
    }

    /// The mark as the file says, to look at.
    ///
    /// # Errors
    /// When the file cannot be read, or says something else.
    pub fn at(path: &Path) -> Result<Self, MarkError> {
        let known = Mutex::new(read(path)?);
        Ok(Self(Some(Arc::new(Marked {
            path: path.to_owned(),
            known,
            writing: tokio::sync::Mutex::default(),
        }))))
    }

    /// Whether a ledger that ends at `head` may grow. Asked in the transaction that is about to let it grow.
    pub(crate) async fn check(
        &self,
        tx: &mut Tx,
        head: ChainHead,
    ) -> Result<Result<(), Setback>, StoreError> {
        let Some(marked) = &self.0 else { return Ok(Ok(())) };
        let found = marked.compare(tx, head).await?;
        if found.is_ok() {
            return Ok(found);
        }
        // Somebody may have accepted the ledger since, beside this process.
        match read(&marked.path) {
            Ok(known) => {
                marked.set(known);
                marked.compare(tx, head).await
            }
            Err(_) => Ok(found),
        }
    }

    /// What is wrong with the ledger of `store`, if anything is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn setback(&self, store: &Store) -> Result<Option<Setback>, StoreError> {
        let found = store.read("check_high_water", move |mut tx| async move {
            let head = ledger::end(&mut tx).await?;
            let found = self.check(&mut tx, head).await?;
            Ok((tx, found))
        });
        Ok(found.await?.err())
    }

    /// Moves the mark to the end of the ledger, and returns when it would survive a power cut. Called after the commit of
    /// whatever appends, and before anything that was paid for leaves. A ledger that is set back does not move it.
    ///
    /// # Errors
    /// When the file cannot be written or the database fails: then nothing may leave.
    pub(crate) async fn follow(&self, store: &Store) -> Result<(), FollowError> {
        let Some(marked) = &self.0 else { return Ok(()) };
        let head = store.read("follow_high_water", move |mut tx| async move {
            let head = ledger::end(&mut tx).await?;
            // A ledger without entries is where every mark begins.
            let grows = head == ChainHead::EMPTY || marked.compare(&mut tx, head).await?.is_ok();
            Ok((tx, grows.then_some(head)))
        });
        match head.await? {
            Some(head) => Ok(marked.advance(head).await?),
            None => Ok(()),
        }
    }

    /// Follows what other processes release, for as long as this one runs.
    pub(crate) async fn keep_up(&self, store: &Store, shutdown: Shutdown) {
        let mut failed = false;
        while self.0.is_some() && !shutdown.is_triggered() {
            tokio::select! {
                () = tokio::time::sleep(KEEP_UP) => {}
                () = shutdown.wait() => return,
            }
            let followed = self.follow(store).await;
            if let Err(error) = followed.as_ref()
                && !failed
            {
                tracing::error!(%error, "the mark of the ledger was not moved");
            }
            failed = followed.is_err();
        }
    }

    /// Takes a ledger of so many entries for the truth, however far it had come before, and writes into it who did. What
    /// was spent and released since the copy was made is not counted any more. Returns where it ends then; nothing, and
    /// nothing is changed, when it has another number of entries.
    ///
    /// # Errors
    /// When the file cannot be read or written, or the database fails. If it fails after the entry was written, the ledger
    /// is still set back, and has an entry more.
    pub async fn accept(
        path: &Path,
        store: &Store,
        entries: u64,
        by: &Acceptance,
        now: u64,
    ) -> Result<Option<ChainHead>, FollowError> {
        let mark = Self::at(path)?;
        let mark = &mark;
        let head = store.tx("accept_ledger", move |mut tx| async move {
            let head = ledger::head(&mut tx).await?;
            if head.sequence != entries {
                return Ok((tx, None));
            }
            let Err(setback) = mark.check(&mut tx, head).await? else { return Ok((tx, Some(head))) };
            let entry = LedgerEntry::accepted_restore(by.note(&setback), now, head);
            ledger::append(&mut tx, &entry).await?;
            Ok((tx, Some(entry.head())))
        });
        let Some(head) = head.await? else { return Ok(None) };
        let path = path.to_owned();
        on_disk(move || write(&path, head)).await?;
        Ok(Some(head))
    }
}

impl Marked {
    async fn compare(&self, tx: &mut Tx, head: ChainHead) -> Result<Result<(), Setback>, StoreError> {
        let entries = head.sequence;
        let Some(mark) = self.get() else {
            let unmarked = Setback::Unmarked { path: self.path.display().to_string(), entries };
            return Ok(if entries == 0 { Ok(()) } else { Err(unmarked) });
        };
        if entries < mark.sequence {
            return Ok(Err(Setback::Older { mark: mark.sequence, entries }));
        }
        let there = match mark.sequence {
            0 => Some(ChainHead::EMPTY.hash),
            sequence if sequence == entries => Some(head.hash),
            sequence => ledger::hash_at(tx, sequence).await?,
        };
        let same = there == Some(mark.hash);
        Ok(if same { Ok(()) } else { Err(Setback::Other { mark: mark.sequence }) })
    }

    async fn advance(self: &Arc<Self>, head: ChainHead) -> Result<(), MarkError> {
        let behind = |known: Option<ChainHead>| known.is_none_or(|known| known.sequence < head.sequence);
        if !behind(self.get()) {
            return Ok(());
        }
        let _alone = self.writing.lock().await;
        if !behind(self.get()) {
            return Ok(());
        }
        let path = self.path.clone();
        on_disk(move || write(&path, head)).await?;
        self.set(Some(head));
        Ok(())
    }

    fn get(&self) -> Option<ChainHead> {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, known: Option<ChainHead>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

async fn on_disk(write: impl FnOnce() -> Result<(), MarkError> + Send + 'static) -> Result<(), MarkError> {
    match tokio::task::spawn_blocking(write).await {
        Ok(written) => written,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// One line: what it is, the number of the entry, its hash.
const FORMAT: &str = "mica-ledger-mark/1";

fn read(path: &Path) -> Result<Option<ChainHead>, MarkError> {
    let fail = |why: String| MarkError { path: path.display().to_string(), why };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error.to_string())),
    };
    parse(&text).map(Some).ok_or_else(|| fail("this is not a high-water mark".to_owned()))
}

fn parse(text: &str) -> Option<ChainHead> {
    let mut words = text.strip_suffix('\n')?.split(' ');
    let (format, sequence, hash) = (words.next()?, words.next()?, words.next()?);
    let mark = ChainHead { sequence: sequence.parse().ok()?, hash: hex::decode(hash).ok()?.try_into().ok()? };
    (format == FORMAT && words.next().is_none()).then_some(mark)
}

/// The whole file or nothing of it: a power cut leaves the old mark or the new one.
fn write(path: &Path, mark: ChainHead) -> Result<(), MarkError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        writeln!(file, "{FORMAT} {} {}", mark.sequence, hex::encode(mark.hash))?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|error| MarkError { path: path.display().to_string(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_as_it_was_written_and_nothing_else_is_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("mark");
        assert_eq!(read(&path).expect("a missing file is no failure"), None);
        for mark in [ChainHead::EMPTY, ChainHead { sequence: u64::MAX, hash: [0xab; 32] }] {
            write(&path, mark).expect("a folder of our own");
            assert_eq!(read(&path).expect("it was written"), Some(mark));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1, "no temporary file stays");
        let good = fs::read_to_string(&path).expect("it was written");
        let others = [
            String::new(),
            good.replace('1', "2"),
            good.trim().to_owned(),
            format!("{good}x"),
            good.replace("ab", "a"),
        ];
        for other in others {
            fs::write(&path, &other).expect("a folder of our own");
            assert!(read(&path).is_err(), "{other}");
        }
    }
}
