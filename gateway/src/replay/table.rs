//! The tables of answers and the generations that take turns in them: one statement per function.
//!
//! What the column `answer` holds is not the binary HTTP that its first comment speaks of, but that locked with the request
//! which it answers: a nonce, then ciphertext.

use std::time::Duration;

use mica_envelope::EncDigest;
use mica_service::key_life::{CLOCKS_DIFFER, Moment};
use mica_service::steady::Steady;
use mica_service::store::{Dialect, Fields, Store, StoreError, Tx, signed};

use super::Answer;
use super::blocks::{self, Known};

/// What the database remembers when a gateway starts.
#[derive(Default)]
pub(super) struct Found {
    /// When the current generation began.
    pub(super) since: u64,
    /// Since when answers are remembered at all.
    pub(super) promised_from: u64,
    /// Requests of the current generation.
    pub(super) requests: usize,
    /// Bytes of their answers.
    pub(super) bytes: usize,
    /// What was answered in the current generation, where nobody else adds to it.
    pub(super) current: Vec<Known>,
    /// And in the one before.
    pub(super) previous: Vec<Known>,
}

/// The table of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Even,
    Odd,
}

/// The generation that takes new answers.
#[derive(Clone, Copy)]
pub(super) struct Current {
    pub(super) table: Table,
    pub(super) generation: i64,
    since: u64,
}

/// What is stored of one request.
pub(super) struct Row {
    pub(super) enc: EncDigest,
    pub(super) answer: Option<Answer>,
    pub(super) claimed_until: u64,
}

/// An answer to be stored.
pub(super) struct Left {
    pub(super) enc: EncDigest,
    pub(super) answer: Vec<u8>,
}

struct State {
    generation: i64,
    since: u64,
    promised_from: u64,
}

/// Reads what is remembered. The first start of all makes a memory that remembers nothing from before.
pub(super) async fn open(store: &Store, clock: &Steady, window: Duration) -> Result<Found, StoreError> {
    let moment = clock.look();
    store
        .tx("open_answers", move |mut tx| async move {
            begin(&mut tx, moment.now).await?;
            if tx.dialect() == Dialect::Sqlite {
                let before = Current::of(&state(&mut tx).await?);
                blocks::take_in(&mut tx, before).await?;
            }
            let current = turn(&mut tx, moment, window).await?;
            let State { since, promised_from, .. } = state(&mut tx).await?;
            let mut found = Found { since, promised_from, ..Found::default() };
            match tx.dialect() {
                // Replicas ask each other through the table; one process alone looks into its own map first.
                Dialect::Postgres => (found.requests, found.bytes) = count(&mut tx, current.table).await?,
                Dialect::Sqlite => {
                    found.current = blocks::all(&mut tx, current.table).await?;
                    found.previous = blocks::all(&mut tx, current.table.other()).await?;
                    found.requests = found.current.len();
                    found.bytes = found.current.iter().map(|known| known.bytes).sum();
                }
            }
            Ok((tx, found))
        })
        .await
}

/// The table that takes new answers. When its time is over, the older one is emptied and takes them from now on; that one
/// stays until the next turn however late it is, for it took answers until now. By a clock that is sure: what is forgotten
/// too early may be forwarded twice.
pub(super) async fn turn(tx: &mut Tx, moment: Moment, window: Duration) -> Result<Current, StoreError> {
    let (before, now) = (state(tx).await?, moment.now);
    // A clock was ahead. What is here lives one window longer by it. A replica whose own clock is the wrong one has found
    // that out after a minute, by the clock of the database.
    if moment.is_sure && moment.even_for >= CLOCKS_DIFFER && moment.is_before(before.since) {
        set_back(tx, before.since, now).await?;
        return Ok(Current::of(&state(tx).await?));
    }
    if moment.age_of(before.since) < window.as_secs() || !moment.is_sure {
        return Ok(Current::of(&before));
    }
    if !advance(tx, before.generation, now).await? {
        return Ok(Current::of(&state(tx).await?));
    }
    let generation = before.generation + 1;
    let current = Current { table: Table::of(generation), generation, since: now };
    empty(tx, current.table).await?;
    Ok(current)
}

/// The same, and that generation goes on until the transaction ends: else another could end it after the look at both
/// tables, and what is claimed then would be seen by nobody who claims in the next.
pub(super) async fn turn_and_stay(
    tx: &mut Tx,
    moment: Moment,
    window: Duration,
) -> Result<Current, StoreError> {
    loop {
        let current = turn(tx, moment, window).await?;
        if stay(tx, current.generation).await? {
            return Ok(current);
        }
    }
}

/// Since when the current generation takes answers, how many it has, and their bytes. Nothing before the first start.
pub(super) async fn filled(tx: &mut Tx) -> Result<Option<(u64, usize, usize)>, StoreError> {
    let Some(state) = find_state(tx).await? else { return Ok(None) };
    let table = Table::of(state.generation);
    let (requests, bytes) = match tx.dialect() {
        Dialect::Postgres => count(tx, table).await?,
        Dialect::Sqlite => {
            let known = blocks::all(tx, table).await?;
            (known.len(), known.iter().map(|known| known.bytes).sum())
        }
    };
    Ok(Some((state.since, requests, bytes)))
}

/// Claims requests that nobody has claimed: those of `encs` that are ours now.
pub(super) async fn claim(
    tx: &mut Tx,
    table: Table,
    encs: &[EncDigest],
    until: u64,
) -> Result<Vec<EncDigest>, StoreError> {
    let until = signed(until)?;
    let insert = match table {
        Table::Even => "-- claim\nINSERT INTO gateway_answers_even (enc, claimed_until)",
        Table::Odd => "-- claim\nINSERT INTO gateway_answers_odd (enc, claimed_until)",
    };
    let words = (insert, "ON CONFLICT (enc) DO NOTHING RETURNING enc");
    let rows = tx
        .insert_many_returning(words, 2, encs, |query, enc| query.bind(enc.as_bytes().to_vec()).bind(until))
        .await?;
    let digest = |row| Ok(EncDigest::from_bytes(Fields::of("gateway_answers", row).array("enc")?));
    rows.iter().map(digest).collect()
}

/// Takes over what somebody claimed in this generation and never answered. Whether it is ours now.
pub(super) async fn take_over(
    tx: &mut Tx,
    table: Table,
    enc: EncDigest,
    now: u64,
    until: u64,
) -> Result<bool, StoreError> {
    let statement = match table {
        Table::Even => {
            "-- take_over\nUPDATE gateway_answers_even SET claimed_until = $1 \
             WHERE enc = $2 AND answer IS NULL AND claimed_until < $3"
        }
        Table::Odd => {
            "-- take_over\nUPDATE gateway_answers_odd SET claimed_until = $1 \
             WHERE enc = $2 AND answer IS NULL AND claimed_until < $3"
        }
    };
    let query = sqlx::query(statement).bind(signed(until)?).bind(enc.as_bytes().to_vec()).bind(signed(now)?);
    Ok(query.execute(tx.connection()).await?.rows_affected() == 1)
}

/// Takes back what we claimed until then and nobody answered. A claim that somebody has taken over since ends later.
pub(super) async fn release(tx: &mut Tx, table: Table, enc: EncDigest, until: u64) -> Result<(), StoreError> {
    let statement = match table {
        Table::Even => {
            "-- release\nDELETE FROM gateway_answers_even \
             WHERE enc = $1 AND answer IS NULL AND claimed_until = $2"
        }
        Table::Odd => {
            "-- release\nDELETE FROM gateway_answers_odd \
             WHERE enc = $1 AND answer IS NULL AND claimed_until = $2"
        }
    };
    let query = sqlx::query(statement).bind(enc.as_bytes().to_vec()).bind(signed(until)?);
    query.execute(tx.connection()).await?;
    Ok(())
}

/// Stores answers. One that is there already stays.
pub(super) async fn leave(tx: &mut Tx, table: Table, answers: &[&Left]) -> Result<(), StoreError> {
    let words = match table {
        Table::Even => (
            "-- leave\nINSERT INTO gateway_answers_even (enc, answer, claimed_until)",
            "ON CONFLICT (enc) DO UPDATE SET answer = COALESCE(gateway_answers_even.answer, excluded.answer)",
        ),
        Table::Odd => (
            "-- leave\nINSERT INTO gateway_answers_odd (enc, answer, claimed_until)",
            "ON CONFLICT (enc) DO UPDATE SET answer = COALESCE(gateway_answers_odd.answer, excluded.answer)",
        ),
    };
    tx.insert_many(words, 3, answers, |query, left| {
        query.bind(left.enc.as_bytes().to_vec()).bind(left.answer.clone()).bind(0_i64)
    })
    .await?;
    Ok(())
}

/// A claim that is lost in a crash is a claim nobody works on: it need not wait for the disk.
pub(super) async fn commit_lightly(tx: &mut Tx) -> Result<(), StoreError> {
    if tx.dialect() == Dialect::Postgres {
        sqlx::query("SET LOCAL synchronous_commit = off").execute(tx.connection()).await?;
    }
    Ok(())
}

impl Current {
    fn of(state: &State) -> Self {
        Self { table: Table::of(state.generation), generation: state.generation, since: state.since }
    }

    /// Whether it takes new answers still, unless a replica thinks otherwise.
    pub(super) fn goes_on(&self, moment: Moment, window: Duration) -> bool {
        !moment.is_before(self.since) && moment.age_of(self.since) < window.as_secs()
    }
}

impl Table {
    fn of(generation: i64) -> Self {
        if generation % 2 == 0 { Self::Even } else { Self::Odd }
    }

    /// The table of the generation before, which is also that of the next.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }
}

async fn begin(tx: &mut Tx, now: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- begin\nINSERT INTO gateway_memory (id, generation, since, promised_from, updated_by) \
         VALUES (1, 0, $1, $1, 'open_answers') ON CONFLICT (id) DO NOTHING",
    )
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

async fn state(tx: &mut Tx) -> Result<State, StoreError> {
    find_state(tx).await?.ok_or_else(|| StoreError::corrupt("gateway_memory", "id"))
}

async fn find_state(tx: &mut Tx) -> Result<Option<State>, StoreError> {
    let query = "-- state\nSELECT generation, since, promised_from FROM gateway_memory WHERE id = 1";
    let Some(row) = sqlx::query(query).fetch_optional(tx.connection()).await? else { return Ok(None) };
    let fields = Fields::of("gateway_memory", &row);
    Ok(Some(State {
        generation: fields.integer("generation")?,
        since: fields.unsigned("since")?,
        promised_from: fields.unsigned("promised_from")?,
    }))
}

/// Has the generation begun now that a clock began which was ahead, and the promise at the latest.
async fn set_back(tx: &mut Tx, since: u64, now: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- set_back\nUPDATE gateway_memory SET since = $1, updated_by = 'turn', \
         promised_from = CASE WHEN promised_from > $1 THEN $1 ELSE promised_from END \
         WHERE id = 1 AND since = $2",
    )
    .bind(signed(now)?)
    .bind(signed(since)?)
    .execute(tx.connection())
    .await?;
    tx.after_commit(|| {
        tracing::warn!(
            "a clock was ahead when the memory of answers took its turn: it takes the next by this one"
        );
    });
    Ok(())
}

/// Whether this is the current generation still. If so, nobody begins the next before the transaction ends.
async fn stay(tx: &mut Tx, generation: i64) -> Result<bool, StoreError> {
    let statement = match tx.dialect() {
        // Nobody else writes at all.
        Dialect::Sqlite => "-- stay\nSELECT id FROM gateway_memory WHERE id = 1 AND generation = $1",
        Dialect::Postgres => {
            "-- stay\nSELECT id FROM gateway_memory WHERE id = 1 AND generation = $1 FOR SHARE"
        }
    };
    let row = sqlx::query(statement).bind(generation).fetch_optional(tx.connection()).await?;
    Ok(row.is_some())
}

/// Whether we are the one who begins the next generation.
async fn advance(tx: &mut Tx, generation: i64, now: u64) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "-- advance\nUPDATE gateway_memory SET generation = generation + 1, since = $1, updated_by = 'turn' \
         WHERE id = 1 AND generation = $2",
    );
    let done = query.bind(signed(now)?).bind(generation).execute(tx.connection()).await?;
    Ok(done.rows_affected() == 1)
}

/// Without a condition SQLite gives the pages back without looking at the rows.
async fn empty(tx: &mut Tx, table: Table) -> Result<(), StoreError> {
    let statement = match (tx.dialect(), table) {
        (Dialect::Sqlite, Table::Even) => "-- empty\nDELETE FROM gateway_blocks_even",
        (Dialect::Sqlite, Table::Odd) => "-- empty\nDELETE FROM gateway_blocks_odd",
        (Dialect::Postgres, Table::Even) => "-- empty\nTRUNCATE gateway_answers_even",
        (Dialect::Postgres, Table::Odd) => "-- empty\nTRUNCATE gateway_answers_odd",
    };
    sqlx::query(statement).execute(tx.connection()).await?;
    Ok(())
}

async fn count(tx: &mut Tx, table: Table) -> Result<(usize, usize), StoreError> {
    let statement = match table {
        Table::Even => {
            "-- count\nSELECT COUNT(*) AS requests, CAST(COALESCE(SUM(LENGTH(answer)), 0) AS BIGINT) AS bytes \
             FROM gateway_answers_even"
        }
        Table::Odd => {
            "-- count\nSELECT COUNT(*) AS requests, CAST(COALESCE(SUM(LENGTH(answer)), 0) AS BIGINT) AS bytes \
             FROM gateway_answers_odd"
        }
    };
    let row = sqlx::query(statement).fetch_one(tx.connection()).await?;
    let fields = Fields::of("gateway_answers", &row);
    let number = |name| Ok::<_, StoreError>(usize::try_from(fields.unsigned(name)?).unwrap_or(usize::MAX));
    Ok((number("requests")?, number("bytes")?))
}
