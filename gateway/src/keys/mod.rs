//! The keys that clients seal requests to: their lives, their publication, and the ring that requests find them in.
//!
//! The table decides. Each process has a picture of it, which is renewed every few seconds; whoever finds something due
//! carries it out, one replica at a time. A key is accepted before it is advertised, so that every replica has it by
//! then, and for twice as long as a client may keep the list after that; then its secret is erased, and its number
//! rests. Of each KEM no more than two keys open at any time: who holds which key says as little as possible about who
//! they are (RFC 9458 7). Secrets never leave the ring but to be stored.

mod history;
mod ring;
mod schedule;
mod table;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use mica_envelope::Kem;
use mica_service::{
    key_life::{KeyLife, KeyState, Moment},
    shutdown::Shutdown,
    steady::Steady,
    store::{Store, StoreError},
};
use thiserror::Error;

pub(crate) use self::ring::Ring;
pub use self::schedule::Schedule;
use self::{
    ring::Mark,
    table::KeyRow,
    turn::{Picture, is_outdated},
};
use crate::deadline::in_time;

/// The keys of one gateway, as this process sees them.
pub struct Keys {
    store: Store,
    steady: Steady,
    schedule: Schedule,
    ring: RwLock<Arc<Ring>>,
    /// One renewal at a time.
    renewing: tokio::sync::Mutex<()>,
    /// A secret was destroyed, and older copies of its page may still be in the log of the database.
    traces: AtomicBool,
    /// A key is lacking because no identifier is free, which the log says once.
    lacks_identifier: AtomicBool,
}

impl Keys {
    /// The keys in the database; fresh ones where there are none yet.
    pub(crate) async fn load(store: Store, steady: Steady, schedule: Schedule) -> Result<Self, StoreError> {
        steady.compare(&store).await?;
        let moment = steady.look();
        let mut picture = looked(&store, &schedule, moment).await?.settled;
        if picture.is_none() {
            turn::turn(&store, &schedule, moment, &[]).await?;
            picture = looked(&store, &schedule, moment).await?.settled;
        }
        let ring = fresh_ring(&store, &schedule).await?;
        let lasts = schedule.history_lasts(ring.list.body().len());
        if lasts < schedule::LONG_ENOUGH {
            tracing::warn!(days = lasts / 86_400, "{SHORT_LIVED}");
        }
        let destroyed = |row: &KeyRow| row.life.state == KeyState::Destroyed;
        // Whoever destroyed it may have died before the log was emptied.
        let traces = picture.is_none_or(|picture| picture.rows.iter().any(destroyed));
        let keys = Self {
            store,
            steady,
            schedule,
            ring: RwLock::new(Arc::new(ring)),
            renewing: tokio::sync::Mutex::default(),
            traces: AtomicBool::new(traces),
            lacks_identifier: AtomicBool::default(),
        };
        keys.scrub().await?;
        Ok(keys)
    }

    /// The keys of this moment.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The time by which keys are accepted.
    pub(crate) fn moment(&self) -> Moment {
        self.steady.look()
    }

    /// Whether the clock of the database shows another time than ours: then nothing that is due is done.
    pub(crate) fn has_wrong_clock(&self) -> bool {
        self.steady.is_wrong()
    }

    /// The published list of key configurations (`application/ohttp-keys`).
    pub fn list(&self) -> Vec<u8> {
        self.ring().list.body().to_vec()
    }

    /// The published history of the lists.
    pub fn history(&self) -> Vec<u8> {
        self.ring().history.body().to_vec()
    }

    /// Follows the table, and carries out what is due, until `shutdown`.
    pub(crate) async fn follow(&self, shutdown: Shutdown) {
        while !shutdown.is_triggered() {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = shutdown.wait() => return,
            }
            if let Err(error) = in_time(self.store.dialect(), self.renew()).await {
                tracing::error!(%error, "could not look for changed keys");
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
        let moment = self.steady.look();
        let looked = looked(&self.store, &self.schedule, moment).await?;
        if looked.settled.is_none() {
            turn::turn(&self.store, &self.schedule, moment, &[]).await?;
        }
        if !self.lacks_identifier.swap(looked.lacks_identifier, Ordering::SeqCst) && looked.lacks_identifier {
            tracing::error!("{NO_IDENTIFIER}");
        }
        let is_same = looked
            .settled
            .is_some_and(|Picture { rows, newest }| self.ring().is_of(&Mark::of(&rows, newest.as_ref())));
        if !is_same {
            let ring = fresh_ring(&self.store, &self.schedule).await?;
            *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
            tracing::info!("the keys have changed");
            self.traces.store(true, Ordering::SeqCst);
        }
        self.scrub().await
    }

    /// Empties the log of the database after a secret was destroyed; if somebody is reading in it, then the next time.
    async fn scrub(&self) -> Result<(), StoreError> {
        if self.traces.load(Ordering::SeqCst) && self.store.scrub().await? {
            self.traces.store(false, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// What was found at a look.
struct Looked {
    /// The keys as they are; nothing when something is due.
    settled: Option<Picture>,
    lacks_identifier: bool,
}

async fn looked(store: &Store, schedule: &Schedule, moment: Moment) -> Result<Looked, StoreError> {
    let (picture, due) = store
        .read("look_at_gateway_keys", move |mut tx| async move {
            let looked = turn::look(&mut tx, schedule, moment, &[]).await?;
            Ok((tx, looked))
        })
        .await?;
    let is_settled = due.changes.is_empty() && !is_outdated(&picture, schedule, moment);
    Ok(Looked { settled: is_settled.then_some(picture), lacks_identifier: due.lacks_identifier })
}

async fn fresh_ring(store: &Store, schedule: &Schedule) -> Result<Ring, StoreError> {
    let read = store.read("load_gateway_keys", |mut tx| async move {
        let rows = table::keys(&mut tx).await?;
        let history = history::whole(&mut tx).await?;
        Ok((tx, (rows, history)))
    });
    let (rows, history) = read.await?;
    Ring::new(&rows, &history, schedule.cache_for())
}

/// A key as an operator may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The identifier that clients name it by.
    pub key_id: u8,
    /// The mechanism; nothing for one of a newer version.
    pub kem: Option<Kem>,
    /// Where in its life it is.
    pub life: KeyLife,
    /// When the schedule has it leave its state, if it does.
    pub until: Option<u64>,
}

/// All keys that there are, the newest first, without their secrets.
///
/// # Errors
/// When the database fails.
pub async fn list(store: &Store, schedule: &Schedule) -> Result<Vec<KeyFacts>, StoreError> {
    let rows = store.read("list_gateway_keys", |mut tx| async move {
        let rows = table::lives(&mut tx).await?;
        Ok((tx, rows))
    });
    Ok(rows.await?.iter().map(|row| facts(row, schedule)).collect())
}

fn facts(row: &KeyRow, schedule: &Schedule) -> KeyFacts {
    let until = match row.life.state {
        KeyState::Advertised => Some(row.life.entered_at.saturating_add(schedule.rotate_every())),
        _ => row.life.leaves_at,
    };
    KeyFacts { key_id: row.key_id, kem: row.kem, life: row.life, until }
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
    /// A KEM without a key.
    #[error("kems under [keys] does not name {0}")]
    OtherKem(Kem),
    /// Two keys of the KEM open already.
    #[error(
        "the {kem} key before the advertised one, {key_id}, is still accepted: a third would tell clients apart; \
         wait until it is destroyed{}",
        also(made)
    )]
    StillAccepted {
        /// The KEM.
        kem: Kem,
        /// The key that was replaced last.
        key_id: u8,
        /// Keys of other KEMs, which were made all the same.
        made: Vec<KeyFacts>,
    },
}

/// The end of a sentence about what was refused.
fn also(made: &[KeyFacts]) -> String {
    let name = |key: &KeyFacts| key.kem.map_or("?", Kem::name);
    let each = made.iter().map(|key| format!("; made all the same: key {} for {}", key.key_id, name(key)));
    each.collect::<Vec<_>>().concat()
}

/// Makes a new key for each of `kems`, or for all of the schedule when none is named, and returns them; where one is on
/// its way already, that one. They are advertised a minute later, by any server that runs on the database.
///
/// # Errors
/// When a key that was replaced is still accepted, no identifier is free, or the database fails.
pub async fn rotate(
    store: &Store,
    schedule: &Schedule,
    kems: &[Kem],
    now: u64,
) -> Result<Vec<KeyFacts>, RotateError> {
    if let Some(other) = kems.iter().find(|kem| !schedule.kems().contains(kem)) {
        return Err(RotateError::OtherKem(*other));
    }
    let kems = if kems.is_empty() { schedule.kems() } else { kems };
    // What else may be due is for servers, who have looked at their clocks for longer.
    let moment = Moment::at_first_sight(now);
    let (rows, lacks_identifier) = turn::turn(store, schedule, moment, kems).await?;
    if lacks_identifier {
        return Err(RotateError::NoIdentifier);
    }
    let (mut made, mut refused) = (Vec::new(), None);
    for kem in kems {
        let of_kem =
            |state: KeyState| rows.iter().find(move |row| row.kem == Some(*kem) && row.life.state == state);
        match (of_kem(KeyState::Pending), of_kem(KeyState::Accepted)) {
            (Some(pending), _) => made.push(facts(pending, schedule)),
            (None, Some(row)) => refused = refused.or(Some((*kem, row.key_id))),
            (None, None) => {}
        }
    }
    match refused {
        Some((kem, key_id)) => Err(RotateError::StillAccepted { kem, key_id, made }),
        None => Ok(made),
    }
}

const NO_IDENTIFIER: &str = "all 256 key identifiers are in use: an identifier rests for twice the cache lifetime after its \
                             key; wait, and rotate less often";

const SHORT_LIVED: &str = "rotate_every is so short that after so many days the history of keys is longer than clients read \
                           (4 MiB): none of them would take a new key then; rotate less often";

/// How often the table is looked at: how long a replica may lag.
const POLL: Duration = Duration::from_secs(2);
