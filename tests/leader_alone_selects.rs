//! `mica dev --only leader` that selects the batches, against a helper of another make: every VDAF, at once and deferred,
//! over real sockets.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use http::Method;
use mica_collector::{CollectError, Collector, Outcome, Poll};
use mica_dap::codec::Encode as _;
use mica_dap::id::ReportId;
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::report::UploadRequest;
use mica_tests::{Dev, Forge, LoneHelper, Sample, Wire, eventually, small_vdafs};

/// Three batches of three.
const REPORTS: usize = 9;

fn flags<'f>(vdaf: &[&'f str], endpoint: &'f str) -> Vec<&'f str> {
    let ours = ["--only", "leader", "--helper-url", endpoint, "--no-dp", "--min-batch-size", "3"];
    [&ours[..], &["--batch-mode", "leader_selected"], vdaf].concat()
}

/// Uploads a report of each measurement; which measurement each of them is of.
async fn upload(dev: &Dev, sample: &Sample) -> HashMap<ReportId, usize> {
    let forge = Forge::of(&dev.task).await;
    let reports: Vec<_> = sample.measurements.iter().map(|measurement| forge.good(measurement)).collect();
    let ids = reports.iter().enumerate().map(|(at, report)| (report.metadata.report_id, at)).collect();
    let body = UploadRequest { reports }.encoded();
    let media = [("content-type", Media::UploadReq.header())];
    let taken = Wire::default().send(Method::POST, &dev.task.reports_url(), &media, body).await;
    assert_eq!((taken.status, taken.body.len()), (200, 0), "every report is taken");
    ids
}

async fn all_counted(dev: &Dev) {
    let counted = async || {
        let counted = dev.database("leader").await.tally("aggregated").await;
        (counted == REPORTS as u64).then_some(())
    };
    eventually("all reports in their batches", PATIENCE, counted).await;
}

/// The next batch, or why there is none; a result is deleted, for there would be no other before.
async fn next(collector: &Collector) -> Result<Outcome, CollectError> {
    let collection = collector.collect_next().await.expect("the leader takes the request");
    let waiting = tokio::time::timeout(PATIENCE, collector.wait(&collection, || ()));
    let outcome = waiting.await.expect("a batch in time")?;
    collector.delete(&collection).await.expect("deleted");
    Ok(outcome)
}

async fn three_batches(vdaf: &[&str], deferred: bool) {
    let case = format!("{vdaf:?}, deferred: {deferred}");
    let helper = LoneHelper::start(deferred).await;
    let dev = Dev::start(flags(vdaf, &helper.endpoint));
    helper.learn(&dev.task);
    let sample = dev.task.sample(REPORTS as u64);
    let measured = upload(&dev, &sample).await;
    all_counted(&dev).await;

    // A helper that refuses to release a batch costs nothing, and the batch is not forgotten over a power cut.
    let collector = dev.task.collector();
    helper.will_refuse_a_share(Problem::InvalidMessage);
    let refused = next(&collector).await;
    let Err(CollectError::Refused(problem)) = refused else { panic!("{case}: it was refused: {refused:?}") };
    assert_eq!(problem.type_, Problem::InvalidMessage.urn(), "{case}");
    assert_eq!(helper.released().len(), 0, "{case}");
    let dev = dev.kill_and_restart();

    let mut outcomes = Vec::new();
    for _ in 0..3 {
        outcomes.push(next(&collector).await.expect("a batch"));
    }
    let asked_for = helper.asked_for();
    let [refused, first, second, third] = &asked_for[..] else { panic!("{case}: {asked_for:?}") };
    assert!(first != second && [first, second].iter().all(|batch| *batch != refused), "{case}");
    assert_eq!(third, refused, "{case}: it comes when the others had their turn");

    let released = helper.released();
    assert_eq!(released.len(), outcomes.len(), "{case}");
    let mut seen = HashSet::new();
    for (batch, outcome) in released.iter().zip(&outcomes) {
        assert!(batch.iter().all(|report| seen.insert(*report)), "{case}: a report is in two batches");
        assert_eq!((outcome.report_count, batch.len()), (3, 3), "{case}");
        assert_eq!(outcome.values, total(&dev, &sample, batch.iter().map(|id| measured[id])), "{case}");
    }
    assert_eq!(seen, measured.into_keys().collect(), "{case}: every report is in one");

    let nothing = collector.collect_next().await.expect("the leader takes the request");
    assert!(matches!(collector.poll(&nothing).await, Ok(Poll::Waiting { .. })), "{case}: that was all");
}

/// What these measurements of the sample add up to.
fn total(dev: &Dev, sample: &Sample, places: impl Iterator<Item = usize>) -> Vec<i128> {
    let mut total = vec![0; sample.totals.len()];
    for at in places {
        for (sum, value) in total.iter_mut().zip(sample.total_of(dev.task.vdaf(), at..at + 1)) {
            *sum += value;
        }
    }
    total
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_alone_selects_batches_with_a_helper_that_answers_at_once_with_every_vdaf() {
    for (_, vdaf) in small_vdafs() {
        three_batches(&vdaf, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_alone_selects_batches_with_a_helper_that_answers_later_with_every_vdaf() {
    for (_, vdaf) in small_vdafs() {
        three_batches(&vdaf, true).await;
    }
}

const PATIENCE: Duration = Duration::from_secs(40);
