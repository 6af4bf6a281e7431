//! How many reports of a task met which end. One summed update per group of reports, in the transaction that
//! decides their end: a retried transaction counts once.

use std::collections::BTreeMap;

use mica_service::store::{Fields, StoreError, Tx, signed};

/// Adds to the tallies of a task; an outcome may occur several times.
pub async fn add(tx: &mut Tx, task: i64, outcomes: &[(&str, u64)]) -> Result<(), StoreError> {
    // In order, so that two who add to the same tallies cannot wait for each other.
    let mut sums = BTreeMap::new();
    for (outcome, reports) in outcomes {
        *sums.entry(*outcome).or_insert(0_u64) += reports;
    }
    for (outcome, reports) in sums.into_iter().filter(|(_, reports)| *reports > 0) {
        sqlx::query(
            "-- add_to_tally
             INSERT INTO tallies (task, outcome, reports) VALUES ($1, $2, $3)
             ON CONFLICT (task, outcome) DO UPDATE SET reports = tallies.reports + excluded.reports",
        )
        .bind(task)
        .bind(outcome)
        .bind(signed(reports)?)
        .execute(tx.connection())
        .await?;
    }
    Ok(())
}

/// Removes the tallies of tasks that came with uploads, never had a report that was verified, and are forgotten: none of
/// their reports was counted, and nobody can upload to them again.
pub async fn remove_untried(tx: &mut Tx, now: u64) -> Result<(), StoreError> {
    sqlx::query(
        "-- remove_untried_tallies
         DELETE FROM tallies WHERE task IN (SELECT id FROM tasks WHERE upload_trial = 1 AND expires_at <= $1)",
    )
    .bind(signed(now)?)
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The tallies of a task by outcome, in alphabetical order.
pub async fn of_task(tx: &mut Tx, task: i64) -> Result<Vec<(String, u64)>, StoreError> {
    let rows = sqlx::query(
        "-- tallies_of_task
         SELECT outcome, reports FROM tallies WHERE task = $1",
    )
    .bind(task)
    .fetch_all(tx.connection())
    .await?;
    let mut tallies = rows
        .iter()
        .map(|row| {
            let fields = Fields::of("tallies", row);
            Ok((fields.text("outcome")?, fields.unsigned("reports")?))
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    tallies.sort_unstable();
    Ok(tallies)
}

/// The tallies of all tasks from `first` through `last`.
pub async fn between(tx: &mut Tx, first: i64, last: i64) -> Result<Vec<(i64, String, u64)>, StoreError> {
    let rows = sqlx::query(
        "-- tallies_between_tasks
         SELECT task, outcome, reports FROM tallies WHERE task >= $1 AND task <= $2",
    )
    .bind(first)
    .bind(last)
    .fetch_all(tx.connection())
    .await?;
    rows.iter()
        .map(|row| {
            let fields = Fields::of("tallies", row);
            Ok((fields.integer("task")?, fields.text("outcome")?, fields.unsigned("reports")?))
        })
        .collect()
}
