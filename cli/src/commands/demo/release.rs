//! The end of the demonstration: collect once, ask again in the same words, ask for a second release.

use std::time::Duration;

use mica_aggregator::store::{ledger, tallies, tasks};
use mica_collector::{CollectError, Collector, Outcome};
use mica_dap::id::TaskId;
use mica_dap::problem::Problem;
use mica_dap::time::{Interval, Time};
use mica_dp::ledger::verify_chain;
use mica_dp::{Book, LedgerEntry};
use mica_service::store::{Store, StoreError};

use crate::exit::Failure;
use crate::screen::Progress;

/// How many reports of the task met which end, at one aggregator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tallies(Vec<(String, u64)>);

impl Tallies {
    pub(super) async fn read(store: &Store, task: TaskId) -> Result<Self, Failure> {
        let task = &task;
        let tallies = store
            .read("demo_tallies", move |mut tx| async move {
                let row = tasks::task_by_id(&mut tx, task).await?;
                let row = row.ok_or_else(|| StoreError::corrupt("tasks", "task_id"))?;
                let tallies = tallies::of_task(&mut tx, row.key).await?;
                Ok((tx, tallies))
            })
            .await?;
        Ok(Self(tallies))
    }

    pub(super) fn of(&self, outcome: &str) -> u64 {
        self.0.iter().find(|(name, _)| name == outcome).map_or(0, |(_, reports)| *reports)
    }

    /// Reports that were written down.
    pub(super) fn uploaded(&self) -> u64 {
        self.of("uploaded")
    }

    /// Reports that both aggregators found valid.
    pub(super) fn aggregated(&self) -> u64 {
        self.of("aggregated")
    }

    /// Reports that were refused, by reason.
    pub(super) fn rejected(&self) -> impl Iterator<Item = (&str, u64)> {
        let reasons = self.0.iter().filter(|(name, _)| name != "uploaded" && name != "aggregated");
        reasons.map(|(name, reports)| (name.as_str(), *reports))
    }
}

/// Waits until every report that was written down has met its end. `refused` were refused before they were.
///
/// # Errors
/// When it takes too long.
pub(super) async fn settled(
    leader: &Store,
    task: TaskId,
    refused: u64,
    progress: &Progress,
) -> Result<Tallies, Failure> {
    let mut last = (0, std::time::Instant::now());
    loop {
        let tallies = Tallies::read(leader, task).await?;
        let invalid = tallies.rejected().map(|(_, reports)| reports).sum::<u64>().saturating_sub(refused);
        let done = tallies.aggregated() + invalid;
        progress.reach(done);
        if done >= tallies.uploaded() {
            return Ok(tallies);
        }
        if done > last.0 {
            last = (done, std::time::Instant::now());
        } else if last.1.elapsed() > PATIENCE {
            return Err(Failure::unexpected(format!(
                "{done} of {} reports were verified, and for {} s not one more; see leader.log",
                tallies.uploaded(),
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Collects a batch.
///
/// # Errors
/// When it is refused, or not ready in time.
pub(super) async fn collect(collector: &Collector, batch: Interval) -> Result<Outcome, Failure> {
    let collection = collector.collect(batch).await.map_err(Failure::unexpected)?;
    let waiting = collector.wait(&collection, || {});
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(outcome) => outcome.map_err(Failure::unexpected),
        Err(_) => Err(Failure::unexpected("the batch was not released in time; see leader.log")),
    }
}

/// Asks for the batch once more, in other words: for an interval that contains it. Returns why that is refused.
///
/// # Errors
/// When it is not, or not by the rule that is shown here.
pub(super) async fn second(collector: &Collector, batch: Interval) -> Result<String, Failure> {
    let start = Time(batch.start().0.saturating_sub(1));
    let wider = Interval::between(start, batch.end()).map_err(Failure::unexpected)?;
    match collector.collect(wider).await {
        Err(CollectError::Refused(problem)) if problem.problem() == Some(Problem::BatchOverlap) => {
            let detail = problem.detail.as_deref().or(problem.title.as_deref()).unwrap_or_default();
            Ok(format!("{}: {detail}", Problem::BatchOverlap.token()))
        }
        Err(error) => Err(Failure::unexpected(format!(
            "the second release was refused, but not because the batch had been released: {error}"
        ))),
        Ok(_) => Err(Failure::unexpected("the second release of the same batch was not refused")),
    }
}

/// The ledger of one aggregator, verified from its first entry, and what it says of the budgets.
///
/// # Errors
/// When the chain is broken.
pub(super) async fn accounts(store: &Store) -> Result<(Vec<LedgerEntry>, Vec<Book>), Failure> {
    let entries = store
        .read("demo_ledger", move |mut tx| async move {
            let entries = ledger::entries(&mut tx).await?;
            Ok((tx, entries))
        })
        .await?;
    let budgets = verify_chain(&entries).map_err(Failure::unexpected)?;
    Ok((entries, budgets))
}

const PATIENCE: Duration = Duration::from_mins(1);
