//! A database that an older version wrote is taken over with everything that was spent.

use std::collections::BTreeMap;

use http::StatusCode;
use mica_aggregator::budget::{Unsound, verify};
use mica_aggregator::high_water::HighWater;
use mica_aggregator::store::{ledger, migrator};
use mica_dap::codec::Encode as _;
use mica_dap::time::Time;
use mica_dp::{ChainHead, EntryKind, LedgerEntry, ReleaseKey, ReleasePlan};
use mica_service::store::{Store, Tx};
use mica_service::testing::databases;
use sha2::{Digest as _, Sha256};
use sqlx::migrate::Migrator;

use crate::support::leader::{ids, now, share_request};
use crate::support::{Flaw, ScriptedLeader, Server, TestTask};

/// The migrations of a version that knew no more than these.
fn up_to(version: i64) -> Migrator {
    let known = migrator().iter().filter(|migration| migration.version <= version).cloned();
    Migrator::with_migrations(known.collect())
}

/// The ledger as it was written before budgets had windows: eight releases, and one that was refunded.
fn old_ledger(task: &TestTask, plan: &ReleasePlan) -> Vec<LedgerEntry> {
    let mut ledger = Vec::new();
    let mut head = ChainHead::EMPTY;
    for batch in 0..9_u8 {
        let end = if batch == 8 { EntryKind::Refund } else { EntryKind::Commit };
        for kind in [EntryKind::Charge, end] {
            let entry = old_entry(task, plan, (batch, kind), head);
            head = entry.head();
            ledger.push(entry);
        }
    }
    ledger
}

fn old_entry(
    task: &TestTask,
    plan: &ReleasePlan,
    (batch, kind): (u8, EntryKind),
    head: ChainHead,
) -> LedgerEntry {
    let charge = &plan.charges()[0];
    let units = match kind {
        EntryKind::Charge => charge.units,
        EntryKind::Refund => -charge.units,
        EntryKind::Commit | EntryKind::AcceptedRestore => 0,
    };
    let mut entry = LedgerEntry {
        sequence: head.sequence + 1,
        kind,
        budget_id: charge.budget_id.clone(),
        units,
        limit: charge.limit,
        key: ReleaseKey::new(*task.id.as_bytes(), &[batch], &[]),
        release_id: plan.release_id().to_owned(),
        mechanism: plan.mechanism().to_string(),
        counted: None,
        policy: plan.policy().clone(),
        note: None,
        created_at: 1_790_000_000,
        prev_hash: head.hash,
        entry_hash: [0; 32],
    };
    entry.entry_hash = old_hash(&entry);
    entry
}

/// The hash of the first schema: of an object with its names in order and every value a string.
fn old_hash(entry: &LedgerEntry) -> [u8; 32] {
    let fields = BTreeMap::from([
        ("schema", "dp-ledger/1".to_owned()),
        ("sequence", entry.sequence.to_string()),
        ("kind", entry.kind.to_string()),
        ("budget", entry.budget_id.clone()),
        ("units", entry.units.to_string()),
        ("limit", entry.limit.to_string()),
        ("task_id", hex::encode(entry.key.task_id())),
        ("batch", hex::encode(entry.key.batch())),
        ("aggregation_parameter", hex::encode(entry.key.aggregation_parameter_sha256())),
        ("release", entry.release_id.clone()),
        ("mechanism", entry.mechanism.clone()),
        ("policy_id", entry.policy.id.clone()),
        ("policy_version", entry.policy.version.to_string()),
        ("policy_sha256", hex::encode(entry.policy.sha256)),
        ("created_at", entry.created_at.to_string()),
        ("prev_hash", hex::encode(entry.prev_hash)),
    ]);
    Sha256::digest(serde_json::to_string(&fields).expect("strings are JSON")).into()
}

async fn insert(tx: &mut Tx, entry: &LedgerEntry) -> Result<(), sqlx::Error> {
    let number = |n: u64| i64::try_from(n).expect("a small number");
    sqlx::query(
        "INSERT INTO ledger (seq, budget_id, task, batch_key, parameter_sha256, kind, units, limit_units, policy_id,
             policy_version, policy_sha256, policy_release, mechanism, prev_hash, entry_hash, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(number(entry.sequence))
    .bind(entry.budget_id.as_str())
    .bind(entry.key.task_id().as_slice())
    .bind(entry.key.batch())
    .bind(entry.key.aggregation_parameter_sha256().as_slice())
    .bind(entry.kind.name())
    .bind(entry.units)
    .bind(entry.limit)
    .bind(entry.policy.id.as_str())
    .bind(i64::from(entry.policy.version))
    .bind(entry.policy.sha256.as_slice())
    .bind(entry.release_id.as_str())
    .bind(entry.mechanism.as_str())
    .bind(entry.prev_hash.as_slice())
    .bind(entry.entry_hash.as_slice())
    .bind(number(entry.created_at))
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// What a server of that version left behind.
async fn write(store: &Store, task: &TestTask, old: &[LedgerEntry], with_policies: bool) {
    let written = store.tx("old", move |mut tx| async move {
        for entry in old {
            insert(&mut tx, entry).await?;
        }
        let statement = "INSERT INTO budgets (budget_id, limit_units, spent) VALUES ($1, $2, 800000000000)";
        let (budget, limit) = (old[0].budget_id.as_str(), old[0].limit);
        sqlx::query(statement).bind(budget).bind(limit).execute(tx.connection()).await?;
        if with_policies {
            let statement = "INSERT INTO policies (policy_id, version, sha256, text, loaded_at)
                 VALUES ('demo', 1, $1, $2, 1790000000)";
            let policy = sqlx::query(statement).bind(old[0].policy.sha256.as_slice());
            policy.bind(task.policy.as_str()).execute(tx.connection()).await?;
        }
        Ok((tx, ()))
    });
    written.await.expect("the old tables take it");
    store.close().await;
}

/// The releases behind the entries, now that their task is in the database.
async fn released(store: &Store, old: &[LedgerEntry]) {
    let written = store.tx("old_releases", move |mut tx| async move {
        for entry in old.iter().filter(|entry| entry.kind != EntryKind::Charge) {
            let state = if entry.kind == EntryKind::Refund { "refunded" } else { "committed" };
            sqlx::query(
                "INSERT INTO releases (task, batch_key, request, state, report_count, checksum, interval_start,
                     interval_duration, sealed_share, policy_id, policy_version, policy_sha256, mechanism, created_at)
                 SELECT id, $1, $2, $3, 2, $4, 1, 1, $2, $5, $6, $7, $8, 1790000000 FROM tasks",
            )
            .bind(entry.key.batch())
            .bind([].as_slice())
            .bind(state)
            .bind([0; 32].as_slice())
            .bind(entry.policy.id.as_str())
            .bind(i64::from(entry.policy.version))
            .bind(entry.policy.sha256.as_slice())
            .bind(entry.mechanism.as_str())
            .execute(tx.connection())
            .await?;
        }
        Ok((tx, ()))
    });
    written.await.expect("the releases of that version");
}

async fn entries(store: &Store) -> Vec<LedgerEntry> {
    let entries = store.read("entries", |mut tx| async move {
        let entries = ledger::entries(&mut tx).await?;
        Ok((tx, entries))
    });
    entries.await.expect("the database answers")
}

#[tokio::test]
async fn what_was_spent_before_budgets_had_windows_is_counted_in_full_after_the_upgrade() {
    // The last versions that kept no texts of policies, and no windows.
    for version in [12, 13] {
        for database in databases().await {
            let task = TestTask::noised();
            let plan = task.policy().plans().next().expect("it has a release");
            let old = old_ledger(&task, &plan);
            let store = database.open(&up_to(version)).await.expect("an old version opens it");
            write(&store, &task, &old, version == 13).await;

            let store = database.open(migrator()).await.expect("it is brought up to date");
            assert_eq!(entries(&store).await, old, "{}: nothing is rewritten", database.kind);
            let found = verify(&store, &HighWater::default()).await.expect("the database answers");
            match found {
                Err(Unsound::Charge(unread)) if version == 12 => {
                    let said = "ledger entry 1: the text of policy demo v1 is not kept";
                    assert_eq!(unread.to_string(), said);
                }
                found => assert_eq!(found.expect("all of it follows").charges, 9),
            }
            let server = Server::helper(&task, &database).await;
            released(&store, &old).await;
            let verified = verify(&store, &HighWater::default()).await.expect("the database answers");
            let verified = verified.expect("since its start the policy is kept");
            assert_eq!((verified.charges, verified.refunds, verified.commits), (9, 1, 8));
            assert_eq!(server.spent().await, [(800_000_000_000, 18)], "{}", database.kind);

            let leader = ScriptedLeader::of(&task, &server);
            let mut statuses = Vec::new();
            for hour in 0..3 {
                let time = Time(now().0 - hour);
                let reports = [1, 2].map(|value| leader.report_at(value, time, Flaw::None));
                leader.aggregate(&reports).await;
                let reply = leader.post_share(share_request(time, 1, &ids(&reports)).encoded()).await;
                statuses.push(reply.status);
            }
            let (granted, refused) = (StatusCode::OK, StatusCode::FORBIDDEN);
            assert_eq!(statuses, [granted, granted, refused], "{} of version {version}", database.kind);
            assert_eq!(entries(&store).await[..18], old, "nothing is rewritten later either");
            let verified = verify(&store, &HighWater::default()).await.expect("the database answers");
            assert_eq!(verified.expect("old and new follow from each other").charges, 11);
        }
    }
}
