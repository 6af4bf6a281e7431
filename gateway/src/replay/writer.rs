//! Group commit: while one transaction is on its way the next group gathers, so that a durable write is shared by all
//! who wait for one.
//!
//! Answers go to the disk before they go to anybody. When the database does not take them, they are given all the same,
//! kept in memory and tried again; and until they are written, no new request is taken in.

use std::{
    cmp,
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mica_envelope::EncDigest;
use mica_service::{
    key_life::Moment as Look,
    steady::Steady,
    store::{Dialect, Line, Store, StoreError, Tx},
    telemetry,
    trouble::Trouble,
};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::{
    Answer,
    blocks::{self, Place},
    group,
    questions::Questions,
    table::{self, Current, Left, Row, Table},
};
use crate::{
    deadline::in_time,
    under_way::{Begun, UnderWay},
};

/// Writes for everybody. Clones share the queues.
#[derive(Clone)]
pub(super) struct Writer {
    store: Store,
    answers: mpsc::Sender<ToLeave>,
    claims: mpsc::Sender<ToClaim>,
    questions: Questions,
    stuck: Arc<AtomicBool>,
    claims_failed: Arc<Mutex<Option<Instant>>>,
    unreleased: Arc<Trouble>,
    under_way: UnderWay,
}

/// What the database says of a request that is new to this process.
#[derive(Clone)]
pub(super) enum Standing {
    /// It is ours until then.
    Claimed { until: u64 },
    /// A replica has answered it.
    Answered(Answer),
    /// A replica works on it, or did when it ended: it is free after so many seconds.
    Claimable { after: u64 },
}

struct ToLeave {
    left: Left,
    written: Option<oneshot::Sender<()>>,
    /// Until it is written.
    _begun: Begun,
}

struct ToClaim {
    enc: EncDigest,
    lease: u64,
    told: oneshot::Sender<Result<Standing, Unwritable>>,
}

/// The database did not take it; the log says why.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the database did not take a claim")]
pub(super) struct Unwritable;

#[derive(Clone)]
struct Setting {
    store: Store,
    clock: Steady,
    window: Duration,
    stuck: Arc<AtomicBool>,
    claims_failed: Arc<Mutex<Option<Instant>>>,
    unwritten: Arc<Trouble>,
    unclaimed: Arc<Trouble>,
}

impl Writer {
    /// Starts the two who write.
    pub(super) fn start(store: Store, clock: Steady, window: Duration, under_way: UnderWay) -> Self {
        let stuck = Arc::new(AtomicBool::new(false));
        let (answers, to_leave) = mpsc::channel(QUEUE);
        let (claims, to_claim) = mpsc::channel(QUEUE);
        let claims_failed = Arc::<Mutex<Option<Instant>>>::default();
        let setting = Setting {
            store: store.clone(),
            clock,
            window,
            stuck: Arc::clone(&stuck),
            claims_failed: Arc::clone(&claims_failed),
            unwritten: Arc::default(),
            unclaimed: Arc::default(),
        };
        if store.dialect() == Dialect::Postgres {
            telemetry::spawn(setting.clone().write_claims(to_claim));
        }
        telemetry::spawn(setting.write_answers(to_leave));
        let (questions, unreleased) = (Questions::start(&store), Arc::default());
        Self { store, answers, claims, questions, stuck, claims_failed, unreleased, under_way }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.store.dialect()
    }

    /// Whether answers cannot be written at the moment, or requests not be claimed, and after how many seconds to ask again.
    pub(super) fn stuck(&self) -> Option<u64> {
        let failed = *self.claims_failed.lock().unwrap_or_else(PoisonError::into_inner);
        let claims_fail = failed.is_some_and(|at| at.elapsed() < RETRY);
        (claims_fail || self.stuck.load(Ordering::Relaxed)).then_some(RETRY.as_secs())
    }

    /// Returns when the answer would survive the end of the process, or when that takes too long.
    pub(super) async fn leave(&self, enc: EncDigest, answer: Vec<u8>) {
        let (written, told) = oneshot::channel();
        let left = Left { enc, answer };
        let to_leave = ToLeave { left, written: Some(written), _begun: self.under_way.begin() };
        let sent = self.answers.send(to_leave).await;
        if sent.is_err() || tokio::time::timeout(PATIENCE, told).await.is_err() {
            self.stuck.store(true, Ordering::Relaxed);
        }
    }

    /// Claims a request among all replicas, for so long.
    pub(super) async fn claim(&self, enc: EncDigest, lease: Duration) -> Result<Standing, Unwritable> {
        let (told, standing) = oneshot::channel();
        // Rounded up.
        let lease = lease.as_secs() + 1;
        self.claims.send(ToClaim { enc, lease, told }).await.map_err(|_| Unwritable)?;
        tokio::time::timeout(PATIENCE, standing).await.map_err(|_| Unwritable)?.map_err(|_| Unwritable)?
    }

    /// Takes a claim of ours back, and returns when replicas can see that, or when that takes too long.
    pub(super) async fn release(&self, enc: EncDigest, until: u64) {
        let released = self.store.tx("release_claim", move |mut tx| async move {
            table::commit_lightly(&mut tx).await?;
            for table in [Table::Even, Table::Odd] {
                table::release(&mut tx, table, enc, until).await?;
            }
            Ok((tx, ()))
        });
        let failed = match tokio::time::timeout(PATIENCE, released).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => StoreError::Contended,
        };
        // Whoever sends decides how often.
        if let Some(times) = self.unreleased.occurs() {
            warn!(times, error = %failed, "claims cannot be taken back before they end");
        }
    }

    /// The stored answer, wherever a replica has left it.
    pub(super) async fn look_up(&self, enc: EncDigest) -> Result<Option<Answer>, StoreError> {
        self.questions.ask(enc).await
    }

    /// The stored answer that is in this place.
    pub(super) async fn look_up_in(
        &self,
        place: Place,
        enc: EncDigest,
    ) -> Result<Option<Answer>, StoreError> {
        let found = self.store.read("look_up_answer", move |mut tx| async move {
            let answer = blocks::look_up(&mut tx, place, enc).await?;
            Ok((tx, answer))
        });
        found.await
    }
}

impl Setting {
    async fn write_answers(self, mut queue: mpsc::Receiver<ToLeave>) {
        let (line, mut group, mut known) = (self.store.line(), Vec::<ToLeave>::new(), None);
        loop {
            let pause = if group.is_empty() { self.window.min(IDLE) } else { RETRY };
            let more = tokio::time::timeout(pause, queue.recv_many(&mut group, LARGEST)).await;
            if more == Ok(0) && group.is_empty() {
                return;
            }
            let written = in_time(self.store.dialect(), self.write(&line, &group, known)).await;
            let written = written.map(|current| known = Some(current));
            for answer in &mut group {
                // Nobody waits any longer for the disk than it takes to learn that it does not answer.
                let _ = answer.written.take().map(|written| written.send(()));
            }
            self.stuck.store(written.is_err(), Ordering::Relaxed);
            match written {
                Ok(()) => group.clear(),
                Err(reason) => {
                    if let Some(times) = self.unwritten.occurs() {
                        error!(times, error = %reason, answers = group.len(), "answers cannot be written");
                    }
                }
            }
            if more == Ok(0) {
                return;
            }
        }
    }

    /// One transaction for all of them, which also lets the older generation go when it is time.
    async fn write(
        &self,
        line: &Line,
        group: &[ToLeave],
        known: Option<Current>,
    ) -> Result<Current, StoreError> {
        let mut answers: Vec<&Left> = group.iter().map(|it| &it.left).collect();
        answers.sort_by(|one, other| one.enc.as_bytes().cmp(other.enc.as_bytes()));
        answers.dedup_by(|one, other| one.enc == other.enc);
        let (answers, look, window) = (&answers, self.clock.look(), self.window);
        let known = known.filter(|current| !answers.is_empty() && current.goes_on(look, window));
        if let Some(current) = known {
            let left = match self.store.dialect() {
                Dialect::Sqlite => blocks::leave_at_once(line, current, answers).await?,
                Dialect::Postgres => group::leave(line, current, answers).await?,
            };
            if left {
                return Ok(current);
            }
        }
        self.store
            .tx("leave_answers", move |mut tx| async move {
                let current = table::turn(&mut tx, look, window).await?;
                match tx.dialect() {
                    Dialect::Sqlite => blocks::leave(&mut tx, current, answers).await?,
                    Dialect::Postgres => table::leave(&mut tx, current.table, answers).await?,
                }
                Ok((tx, current))
            })
            .await
    }

    async fn write_claims(self, mut queue: mpsc::Receiver<ToClaim>) {
        let (line, mut group, mut known) = (self.store.line(), Vec::new(), None);
        while queue.recv_many(&mut group, LARGEST).await > 0 {
            let mut encs: Vec<EncDigest> = group.iter().map(|it| it.enc).collect();
            encs.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
            let lease = group.iter().map(|it| it.lease).fold(0, cmp::max);
            let (look, window) = (self.clock.look(), self.window);
            let moment = Moment { look, until: look.now + lease, window };
            let mut standings = Standings::with_capacity(encs.len());
            let claimed = self.claim_all(&line, &encs, (&mut known, &mut standings), moment);
            if let Err(error) = in_time(self.store.dialect(), claimed).await {
                // The others need not wait for the database to fail them as well.
                *self.claims_failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                if let Some(times) = self.unclaimed.occurs() {
                    warn!(times, %error, "requests cannot be claimed");
                }
            }
            for ToClaim { enc, told, .. } in group.drain(..) {
                // Whoever asked may have gone.
                let _ = told.send(standings.get(&enc).cloned().ok_or(Unwritable));
            }
        }
    }

    /// Where each of the requests stands; those that are free are ours now. One statement does for nearly all groups. What
    /// it has claimed stays ours whatever becomes of the others.
    async fn claim_all(
        &self,
        line: &Line,
        encs: &[EncDigest],
        (known, standings): (&mut Option<Current>, &mut Standings),
        moment: Moment,
    ) -> Result<(), StoreError> {
        if let Some(current) = known.filter(|current| current.goes_on(moment.look, moment.window)) {
            let ours = group::claim(line, current, encs, moment.until).await?;
            standings.extend(ours.into_iter().map(|enc| (enc, Standing::Claimed { until: moment.until })));
        }
        let left: Vec<EncDigest> = encs.iter().filter(|enc| !standings.contains_key(enc)).copied().collect();
        if left.is_empty() {
            return Ok(());
        }
        let left = &left;
        let claimed = self.store.tx("claim_answers", move |mut tx| async move {
            let claimed = claim_each(&mut tx, left, moment).await?;
            Ok((tx, claimed))
        });
        let (further, current) = claimed.await?;
        standings.extend(further);
        *known = Some(current);
        Ok(())
    }
}

/// When claims are made.
#[derive(Clone, Copy)]
struct Moment {
    look: Look,
    until: u64,
    window: Duration,
}

type Standings = HashMap<EncDigest, Standing>;

/// Where each of the requests stands, when they are not all new or a generation may have ended.
async fn claim_each(
    tx: &mut Tx,
    encs: &[EncDigest],
    moment: Moment,
) -> Result<(Standings, Current), StoreError> {
    table::commit_lightly(tx).await?;
    let current = table::turn_and_stay(tx, moment.look, moment.window).await?;
    let mut standings = Standings::with_capacity(encs.len());
    let found = group::look_up(tx, encs).await?;
    stand(tx, &mut standings, found, current, moment).await?;
    let free: Vec<EncDigest> = encs.iter().filter(|enc| !standings.contains_key(enc)).copied().collect();
    for enc in table::claim(tx, current.table, &free, moment.until).await? {
        standings.insert(enc, Standing::Claimed { until: moment.until });
    }
    // Somebody was quicker by a moment.
    for enc in free {
        standings.entry(enc).or_insert(Standing::Claimable { after: 1 });
    }
    Ok((standings, current))
}

/// What follows from rows that are there. What somebody claimed in this generation and never answered is taken over; what
/// stands so in the older one is left to be claimed anew, or the claim would end with that.
async fn stand(
    tx: &mut Tx,
    standings: &mut Standings,
    rows: Vec<Row>,
    current: Current,
    Moment { look: Look { now, .. }, until, .. }: Moment,
) -> Result<(), StoreError> {
    for row in rows {
        if let Some(answer) = row.answer {
            standings.insert(row.enc, Standing::Answered(answer));
        } else if row.claimed_until >= now {
            let after = row.claimed_until - now + 1;
            standings.entry(row.enc).or_insert(Standing::Claimable { after });
        } else if !standings.contains_key(&row.enc)
            && table::take_over(tx, current.table, row.enc, now, until).await?
        {
            standings.insert(row.enc, Standing::Claimed { until });
        }
    }
    Ok(())
}

/// As many as may be on their way at once.
const QUEUE: usize = 10_000;
const LARGEST: usize = 512;
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(1);
/// How often the older generation is looked after when nothing comes.
const IDLE: Duration = Duration::from_mins(1);
