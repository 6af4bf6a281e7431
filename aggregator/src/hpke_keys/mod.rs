//! The keys that clients seal input shares to: their lives, their publication (DAP 4.4.1), and the ring that requests
//! and jobs find them in.
//!
//! The table decides. Each process has a picture of it, which is renewed every few seconds and for the sake of a key
//! that it does not know; whoever finds something due carries it out, one replica at a time. A report is sealed to a
//! key by number: a key is accepted before it is advertised, and for twice as long as a client may keep the list
//! after that; then its private key is erased, and its number rests. Private keys never leave the ring but to be stored.

mod ring;
mod schedule;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mica_dap::codec::Decode as _;
use mica_dap::hpke::Suite;
use mica_dap::hpke_config::HpkeConfig;
use mica_service::key_life::Moment;
use mica_service::shutdown::Shutdown;
use mica_service::steady::Steady;
use mica_service::store::{Store, StoreError};
use thiserror::Error;

use crate::store::hpke_keys::{self, HpkeKeyRow, KeyLife, KeyState};

pub use self::ring::{KeyRing, Openers};
pub use self::schedule::Schedule;

/// The keys of one aggregator, as this process sees them.
pub struct Keys {
    store: Store,
    steady: Steady,
    schedule: Schedule,
    ring: RwLock<Arc<KeyRing>>,
    /// One renewal at a time.
    renewing: tokio::sync::Mutex<()>,
    looked: Mutex<Option<Instant>>,
    /// A key is lacking because no identifier is free, which the log says once.
    lacks_identifier: AtomicBool,
}

impl Keys {
    /// The keys in the database; fresh ones where there are none yet.
    ///
    /// # Errors
    /// When the database fails or holds keys that this program cannot have written.
    pub async fn load(store: Store, steady: Steady, schedule: Schedule) -> Result<Self, StoreError> {
        steady.compare(&store).await?;
        let (rows, _) = renewed(&store, &schedule, steady.look()).await?;
        let ring = RwLock::new(Arc::new(KeyRing::new(&rows, &schedule)?));
        Ok(Self {
            store,
            steady,
            schedule,
            ring,
            renewing: tokio::sync::Mutex::default(),
            looked: Mutex::default(),
            lacks_identifier: AtomicBool::default(),
        })
    }

    /// The keys of this moment. Take it once for a request or a job, not once for a report.
    pub fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys of this moment, after another look at the table if one of these numbers is unknown. Asked for numbers
    /// that nobody knows, it looks only now and then.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn ring_for(
        &self,
        mut config_ids: impl Iterator<Item = u8>,
    ) -> Result<Arc<KeyRing>, StoreError> {
        let ring = self.ring();
        if config_ids.all(|id| ring.whole().find(id).is_some()) || !self.may_look() {
            return Ok(ring);
        }
        self.renew().await?;
        Ok(self.ring())
    }

    fn may_look(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|at| at.elapsed() < BETWEEN_LOOKS) {
            return false;
        }
        *looked = Some(Instant::now());
        true
    }

    /// The time by which keys are accepted.
    pub fn moment(&self) -> Moment {
        self.steady.look()
    }

    /// For how long clients are told to keep the list, in seconds.
    pub fn cache_for(&self) -> u64 {
        self.schedule.cache_for()
    }

    /// Follows the table, and carries out what is due, until `shutdown`.
    pub(crate) async fn follow(&self, shutdown: Shutdown) {
        while !shutdown.is_triggered() {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = shutdown.wait() => return,
            }
            if let Err(error) = self.renew().await {
                tracing::error!(%error, "could not look for changed HPKE keys");
            }
        }
    }

    /// Carries out what is due, and makes the ring what the table is then.
    ///
    /// # Errors
    /// When the database fails; the ring stays as it was.
    pub async fn renew(&self) -> Result<(), StoreError> {
        let _alone = self.renewing.lock().await;
        self.steady.compare(&self.store).await?;
        let (rows, lacks_identifier) = renewed(&self.store, &self.schedule, self.steady.look()).await?;
        if !self.lacks_identifier.swap(lacks_identifier, Ordering::SeqCst) && lacks_identifier {
            tracing::error!("{NO_IDENTIFIER}");
        }
        let old = self.ring();
        if old.is_of(&rows) {
            return Ok(());
        }
        let ring = KeyRing::new(&rows, &self.schedule)?;
        if ring.foreign() != old.foreign() && !ring.foreign().is_empty() {
            tracing::warn!(keys = ring.foreign().len(), "HPKE keys of a newer version cannot be used here");
        }
        tracing::info!(keys = rows.len(), "the HPKE keys have changed");
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(())
    }
}

/// The keys when all is done that is due, and whether an identifier was lacking.
async fn renewed(
    store: &Store,
    schedule: &Schedule,
    moment: Moment,
) -> Result<(Vec<HpkeKeyRow>, bool), StoreError> {
    let (rows, due) = store
        .read("look_at_hpke_keys", move |mut tx| async move {
            let looked = turn::look(&mut tx, schedule, moment, &[]).await?;
            Ok((tx, looked))
        })
        .await?;
    if due.changes.is_empty() {
        return Ok((rows, due.lacks_identifier));
    }
    turn::turn(store, schedule, moment, &[]).await
}

/// A key as an operator may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The identifier in the configuration.
    pub config_id: u8,
    /// The algorithms; nothing for those of a newer version.
    pub suite: Option<Suite>,
    /// Where in its life it is.
    pub life: KeyLife,
    /// When the schedule has it leave its state, if it does.
    pub until: Option<u64>,
}

/// All keys that there are, the newest first, without their private halves.
///
/// # Errors
/// When the database fails.
pub async fn list(store: &Store, schedule: &Schedule) -> Result<Vec<KeyFacts>, StoreError> {
    let rows = store.read("list_hpke_keys", |mut tx| async move {
        let rows = hpke_keys::keys(&mut tx).await?;
        Ok((tx, rows))
    });
    Ok(rows.await?.iter().map(|row| facts(row, schedule)).collect())
}

fn facts(row: &HpkeKeyRow, schedule: &Schedule) -> KeyFacts {
    let suite = HpkeConfig::decoded(&row.config).ok().and_then(|config| Suite::of(&config));
    let advertised = row.life.state == KeyState::Advertised;
    let until = if advertised {
        Some(row.life.entered_at.saturating_add(schedule.rotate_every()))
    } else {
        row.life.leaves_at
    };
    KeyFacts { config_id: row.config_id, suite, life: row.life, until }
}

/// Why keys are not rotated.
#[derive(Debug, Error)]
pub enum RotateError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No identifier is free.
    #[error("{NO_IDENTIFIER}")]
    NoIdentifier,
    /// A suite without a key.
    #[error("suites under [hpke_keys] does not name {0}")]
    OtherSuite(Suite),
}

/// Makes a new key for each of `suites`, or for all of the schedule when none is named, and returns them; where one is
/// on its way already, that one. They are advertised a minute later, by any server that runs on the database.
///
/// # Errors
/// When no identifier is free, or the database fails.
pub async fn rotate(
    store: &Store,
    schedule: &Schedule,
    suites: &[Suite],
    now: u64,
) -> Result<Vec<KeyFacts>, RotateError> {
    if let Some(other) = suites.iter().find(|suite| !schedule.suites().contains(suite)) {
        return Err(RotateError::OtherSuite(*other));
    }
    let suites = if suites.is_empty() { schedule.suites() } else { suites };
    // What else may be due is for servers, who have looked at their clocks for longer.
    let moment = Moment::at_first_sight(now);
    let (rows, lacks_identifier) = turn::turn(store, schedule, moment, suites).await?;
    if lacks_identifier {
        return Err(RotateError::NoIdentifier);
    }
    let is_new = |key: &KeyFacts| {
        key.life.state == KeyState::Pending && key.suite.is_some_and(|suite| suites.contains(&suite))
    };
    Ok(rows.iter().map(|row| facts(row, schedule)).filter(is_new).collect())
}

const NO_IDENTIFIER: &str = "all 256 HPKE key identifiers are in use: an identifier rests for twice the cache lifetime after \
                             its key; wait, and rotate less often";

/// How often the table is looked at: how long a replica may lag.
const POLL: Duration = Duration::from_secs(2);

/// How often it is looked at for the sake of unknown keys: anybody can make those up.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
