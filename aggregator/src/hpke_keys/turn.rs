//! Carrying out what is due in the lives of keys, in one transaction that one replica at a time is in.

use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::{HpkeKeypair, Suite};
use mica_dap::hpke_config::HpkeConfig;
use mica_service::key_life::{self, CLOCKS_DIFFER, Change, Due, Known, Moment};
use mica_service::store::{Store, StoreError, Tx};
use zeroize::Zeroizing;

use super::Schedule;
use crate::store::hpke_keys::{self, HpkeKeyRow, KeyLife, KeyState};

/// The keys as they are now, and what is due.
pub(super) async fn look(
    tx: &mut Tx,
    schedule: &Schedule,
    moment: Moment,
    rotate: &[Suite],
) -> Result<(Vec<HpkeKeyRow>, Due<Suite>), StoreError> {
    let rows = hpke_keys::keys(tx).await?;
    let known: Vec<Known<Suite>> = rows.iter().map(known).collect();
    let mut due = key_life::due(&known, &schedule.terms(), moment, rotate);
    if !moment.is_sure {
        due.keep_what_needs_no_clock(rotate);
    }
    let set_back = key_life::set_back(&known, moment);
    if !set_back.is_empty() {
        // What is due by the times that they ought to have is seen at the next look.
        due.changes = set_back;
    }
    let mut changes = Vec::with_capacity(due.changes.len());
    for change in due.changes {
        // The leader may have to repeat what it sent to the helper, byte for byte.
        let is_needed = match change {
            Change::Destroy { accepted: [from, until], .. } => {
                let formed = [from.saturating_sub(CLOCKS_DIFFER), until.saturating_add(CLOCKS_DIFFER)];
                // One that was formed while a clock was ahead may hold what was sealed to any.
                let ahead = [moment.now.saturating_add(CLOCKS_DIFFER), i64::MAX.unsigned_abs()];
                hpke_keys::is_needed_by_a_job(tx, formed).await?
                    || hpke_keys::is_needed_by_a_job(tx, ahead).await?
            }
            _ => false,
        };
        if !is_needed {
            changes.push(change);
        }
    }
    due.changes = changes;
    let is_told_longer = |row: &HpkeKeyRow| {
        matches!(row.life.state, KeyState::Pending | KeyState::Advertised)
            && row.life.cached_for < schedule.cache_for()
    };
    if rows.iter().any(is_told_longer) {
        due.changes.push(Change::Note);
    }
    Ok((rows, due))
}

/// Carries out all that is due, and returns the keys as they are then and whether an identifier was lacking.
pub(super) async fn turn(
    store: &Store,
    schedule: &Schedule,
    moment: Moment,
    rotate: &[Suite],
) -> Result<(Vec<HpkeKeyRow>, bool), StoreError> {
    let now = moment.now;
    store
        .tx("turn_hpke_keys", move |mut tx| async move {
            hpke_keys::lock_keys(&mut tx).await?;
            loop {
                let (rows, due) = look(&mut tx, schedule, moment, rotate).await?;
                if due.changes.is_empty() {
                    return Ok((tx, (rows, due.lacks_identifier)));
                }
                for change in due.changes {
                    carry_out(&mut tx, schedule, change, now).await?;
                }
            }
        })
        .await
}

async fn carry_out(
    tx: &mut Tx,
    schedule: &Schedule,
    change: Change<Suite>,
    now: u64,
) -> Result<(), StoreError> {
    let done = match change {
        Change::Make { id, kind: suite, state, leaves_at } => {
            let keypair = HpkeKeypair::generate_for(suite, id, &mut rand::rng());
            let row = HpkeKeyRow {
                config_id: id,
                config: keypair.config.encoded(),
                private_key: Some(Zeroizing::new(keypair.private_key.to_bytes().to_vec())),
                life: KeyLife {
                    state,
                    created_at: now,
                    entered_at: now,
                    leaves_at,
                    cached_for: schedule.cache_for(),
                },
            };
            hpke_keys::insert_key(tx, &row).await?
        }
        Change::Move { id, states, leaves_at } => hpke_keys::move_key(tx, id, states, now, leaves_at).await?,
        Change::Destroy { id, leaves_at, .. } => hpke_keys::destroy_key(tx, id, now, leaves_at).await?,
        Change::Forget { id } => hpke_keys::forget_key(tx, id).await?,
        Change::SetBack { id, created_at, entered_at, leaves_at } => {
            tx.after_commit(move || tracing::warn!(config_id = id, "{}", key_life::WAS_AHEAD));
            hpke_keys::set_key_back(tx, id, [created_at, entered_at], leaves_at).await?
        }
        Change::Note => {
            hpke_keys::note_cached_for(tx, schedule.cache_for()).await?;
            true
        }
    };
    // Everybody who changes a key holds the lock.
    if done { Ok(()) } else { Err(StoreError::Contended) }
}

fn known(row: &HpkeKeyRow) -> Known<Suite> {
    let suite = HpkeConfig::decoded(&row.config).ok().and_then(|config| Suite::of(&config));
    Known { id: row.config_id, kind: suite, life: row.life }
}
