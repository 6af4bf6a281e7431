//! Which reports of a job the helper is asked about: decided once, before anything is sent, and stored with the job, so
//! that every retry asks the same (DAP 4.5.3.1).

use std::collections::BTreeMap;

use mica_dap::report_error::ReportError;
use mica_dap::time::{Interval, Time};
use mica_service::store::StoreError;

use super::aggregate::Opened;
use crate::jobs::{Held, JobError};
use crate::shared::Shared;
use crate::store;
use crate::store::aggregation_jobs::JobRow;
use crate::task::Task;

/// The reports this job asks the helper about: decided once, and counted once if they are refused.
pub(super) async fn freeze(
    shared: &Shared,
    task: &Task,
    job: &Held<JobRow>,
    opened: &[Opened],
) -> Result<Vec<bool>, JobError> {
    if let Some(bitmap) = &job.row.included {
        return Ok((0..opened.len()).map(|at| bit(bitmap, at)).collect());
    }
    let token = job.token;
    let frozen = shared
        .store
        .tx("freeze_aggregation_job", move |mut tx| async move {
            store::tasks::share_task(&mut tx, task.key).await?;
            let closed = closed_around(&mut tx, task, opened).await?;
            let verdicts: Vec<Option<ReportError>> =
                opened.iter().map(|report| verdict(report, &closed)).collect();
            let included: Vec<bool> = verdicts.iter().map(Option::is_none).collect();
            if !store::aggregation_jobs::freeze(&mut tx, job.row.id, token, &bitmap(&included)).await? {
                tx.abandon();
                return Ok((tx, None));
            }
            let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
            for error in verdicts.into_iter().flatten() {
                *tally.entry(error.label()).or_default() += 1;
            }
            store::tallies::add(&mut tx, task.key, &tally.into_iter().collect::<Vec<_>>()).await?;
            Ok((tx, Some(included)))
        })
        .await?;
    frozen.ok_or(JobError::LeaseLost)
}

async fn closed_around(
    tx: &mut store::Tx,
    task: &Task,
    opened: &[Opened],
) -> Result<Vec<Interval>, StoreError> {
    let times = || opened.iter().map(|report| report.report.metadata.time);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(Vec::new()) };
    // A batch that is closing waits for this job, so that its reports belong to it.
    store::closed_intervals::released_times(tx, task.key, first, last).await
}

fn verdict(opened: &Opened, closed: &[Interval]) -> Option<ReportError> {
    let time: Time = opened.report.metadata.time;
    match &opened.outcome {
        Err(error) => Some(*error),
        Ok(_) if closed.iter().any(|interval| interval.contains(time)) => Some(ReportError::BatchCollected),
        Ok(_) => None,
    }
}

fn bit(bitmap: &[u8], at: usize) -> bool {
    bitmap.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

/// One bit for each report.
pub(super) fn bitmap(bits: &[bool]) -> Vec<u8> {
    bits.chunks(8)
        .map(|byte| byte.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{bit, bitmap};

    #[test]
    fn a_bitmap_reads_what_it_writes() {
        let bits: Vec<bool> = (0..21).map(|at| at % 3 == 0).collect();
        let written = bitmap(&bits);
        assert_eq!(written.len(), 3);
        assert_eq!((0..21).map(|at| bit(&written, at)).collect::<Vec<_>>(), bits);
        assert!(!bit(&written, 21) && !bit(&written, 1_000));
    }
}
