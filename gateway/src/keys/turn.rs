//! Carrying out what is due in the lives of keys, in one transaction that one replica at a time is in. Whatever changes
//! the list that is published writes it into the history in the same transaction.

use mica_envelope::{GatewayKey, GatewayKeys, Kem, history::Entry};
use mica_service::{
    key_life::{self, CALM_SECONDS, Change, Due, KeyLife, KeyState, Known, Moment},
    store::{Store, StoreError, Tx},
};

use super::{Schedule, history, table, table::KeyRow};

/// The keys as they are now.
pub(super) struct Picture {
    pub(super) rows: Vec<KeyRow>,
    /// What is published.
    pub(super) newest: Option<Entry>,
}

/// The keys as they are now, without their secrets, and what is due.
pub(super) async fn look(
    tx: &mut Tx,
    schedule: &Schedule,
    moment: Moment,
    rotate: &[Kem],
) -> Result<(Picture, Due<Kem>), StoreError> {
    let rows = table::lives(tx).await?;
    let known: Vec<Known<Kem>> =
        rows.iter().map(|row| Known { id: row.key_id, kind: row.kem, life: row.life }).collect();
    let mut due = key_life::due(&known, &schedule.terms(), moment, rotate);
    if !moment.is_sure {
        due.keep_what_needs_no_clock(rotate);
    }
    let is_told_longer = |row: &KeyRow| {
        matches!(row.life.state, KeyState::Pending | KeyState::Advertised)
            && row.life.cached_for < schedule.cache_for()
    };
    let set_back = key_life::set_back(&known, moment);
    if !set_back.is_empty() {
        // What is due by the times that they ought to have is seen at the next look.
        due.changes = set_back;
    }
    if rows.iter().any(is_told_longer) {
        due.changes.push(Change::Note);
    }
    Ok((Picture { rows, newest: history::newest(tx).await? }, due))
}

/// Whether another list is to be published than is.
pub(super) fn is_outdated(picture: &Picture, schedule: &Schedule, moment: Moment) -> bool {
    let Some(newest) = &picture.newest else { return true };
    let (wanted, published) = (advertised(&picture.rows, schedule), ids(&newest.list));
    let is_of_the_same = wanted.len() == published.len() && wanted.iter().all(|id| published.contains(id));
    // Replicas that differ in nothing but the order do not write it back and forth.
    let is_calm = moment.is_sure && newest.since.saturating_add(CALM_SECONDS) <= moment.now;
    !is_of_the_same || (wanted != published && is_calm)
}

/// Carries out all that is due, and returns the keys as they are then and whether an identifier was lacking.
pub(super) async fn turn(
    store: &Store,
    schedule: &Schedule,
    moment: Moment,
    rotate: &[Kem],
) -> Result<(Vec<KeyRow>, bool), StoreError> {
    let now = moment.now;
    store
        .tx("turn_gateway_keys", move |mut tx| async move {
            table::lock(&mut tx).await?;
            loop {
                let (picture, due) = look(&mut tx, schedule, moment, rotate).await?;
                for change in &due.changes {
                    carry_out(&mut tx, schedule, *change, now).await?;
                }
                if due.changes.is_empty() {
                    if is_outdated(&picture, schedule, moment) {
                        publish(&mut tx, &picture, schedule, now).await?;
                    }
                    return Ok((tx, (picture.rows, due.lacks_identifier)));
                }
            }
        })
        .await
}

async fn carry_out(
    tx: &mut Tx,
    schedule: &Schedule,
    change: Change<Kem>,
    now: u64,
) -> Result<(), StoreError> {
    let done = match change {
        Change::Make { id, kind, state, leaves_at } => {
            let cached_for = schedule.cache_for();
            let life = KeyLife { state, created_at: now, entered_at: now, leaves_at, cached_for };
            // The transaction may be begun anew.
            tx.after_commit(move || tracing::info!(key_id = id, kem = kind.name(), "made a key"));
            table::insert(tx, (id, kind), life).await?
        }
        Change::Move { id, states, leaves_at } => table::advance(tx, id, states, now, leaves_at).await?,
        Change::Destroy { id, leaves_at, .. } => table::destroy(tx, id, now, leaves_at).await?,
        Change::Forget { id } => table::forget(tx, id).await?,
        Change::SetBack { id, created_at, entered_at, leaves_at } => {
            tx.after_commit(move || tracing::warn!(key_id = id, "{}", key_life::WAS_AHEAD));
            table::set_back(tx, id, [created_at, entered_at], leaves_at).await?
        }
        Change::Note => {
            table::note_cached_for(tx, schedule.cache_for()).await?;
            true
        }
    };
    // Everybody who changes a key holds the lock.
    if done { Ok(()) } else { Err(StoreError::Contended) }
}

async fn publish(tx: &mut Tx, picture: &Picture, schedule: &Schedule, now: u64) -> Result<(), StoreError> {
    let rows = table::keys(tx).await?;
    let find = |id: u8| rows.iter().find(|row| row.key_id == id).and_then(|row| key(row).transpose());
    let keys = advertised(&picture.rows, schedule).into_iter().filter_map(find).collect::<Result<_, _>>()?;
    let keys = GatewayKeys::new(keys).map_err(|_| StoreError::corrupt("gateway_keys", "state"))?;
    let signing_key = history::signing_key(tx).await?;
    let list = keys.config_list().to_vec();
    history::append(tx, &Entry::after(picture.newest.as_ref(), now, list, &signing_key)).await
}

/// The key pair of a row; nothing if it is destroyed, or of a newer version.
pub(super) fn key(row: &KeyRow) -> Result<Option<GatewayKey>, StoreError> {
    let (Some(kem), Some(ikm)) = (row.kem, &row.ikm) else { return Ok(None) };
    let key = GatewayKey::from_ikm(row.key_id, kem, ikm);
    key.map(Some).map_err(|_| StoreError::corrupt("gateway_keys", "ikm"))
}

/// The identifiers of the advertised keys that this version knows, the most preferred first.
fn advertised(rows: &[KeyRow], schedule: &Schedule) -> Vec<u8> {
    let rank = |kem: Kem| schedule.kems().iter().position(|wanted| *wanted == kem).unwrap_or(usize::MAX);
    let is_advertised = |row: &&KeyRow| row.life.state == KeyState::Advertised;
    let ranked = rows.iter().filter(is_advertised).filter_map(|row| Some((rank(row.kem?), row.key_id)));
    let mut ranked: Vec<(usize, u8)> = ranked.collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, id)| id).collect()
}

/// The identifiers in a list that we wrote (RFC 9458 3.2).
pub(super) fn ids(list: &[u8]) -> Vec<u8> {
    let (mut ids, mut rest) = (Vec::new(), list);
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let Some((entry, more)) = more.split_at_checked(u16::from_be_bytes(*length).into()) else { break };
        ids.extend(entry.first());
        rest = more;
    }
    ids
}
