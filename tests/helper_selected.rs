//! `mica dev --only helper` against a scripted leader that selects the batches: every VDAF, at once and deferred, over
//! real sockets.

use mica_dap::aggregation::{AggregationJobInitReq, AggregationJobResp, VerifyResult};
use mica_dap::codec::Encode as _;
use mica_dap::collection::{AggregateShareReq, BatchSelector, CollectionJobReq, Query};
use mica_dap::id::{BatchId, ReportId};
use mica_dap::report_error::ReportError;
use mica_dap::time::Interval;
use mica_tests::{Dev, LoneLeader, Reply, Split, checksum, small_vdafs};

const FIRST: BatchId = BatchId::new([5; 32]);
const SECOND: BatchId = BatchId::new([6; 32]);

fn flags<'f>(vdaf: &[&'f str], deferred: bool) -> Vec<&'f str> {
    let ours =
        ["--only", "helper", "--leader-url", "http://127.0.0.1:9/", "--no-dp", "--min-batch-size", "2"];
    let mode = ["--batch-mode", "leader_selected"];
    let mut flags = [&ours[..], &mode, vdaf].concat();
    if deferred {
        flags.push("--deferred");
    }
    flags
}

fn share_of(batch: BatchId, ids: &[ReportId]) -> AggregateShareReq {
    AggregateShareReq {
        collection_job_req: CollectionJobReq::new(Query::leader_selected(), Vec::new()),
        batch_selector: BatchSelector::leader_selected(batch),
        report_count: ids.len() as u64,
        checksum: checksum(ids),
    }
}

fn ids(reports: &[Split]) -> Vec<ReportId> {
    reports.iter().map(|report| report.id).collect()
}

/// The answer to a job, at once or later.
async fn settled(leader: &LoneLeader, job: &AggregationJobInitReq) -> Reply {
    leader.patiently(leader.post_job(job.encoded()).await).await.0
}

/// The answer to a request for a share, at once or later.
async fn share(leader: &LoneLeader, request: &AggregateShareReq) -> Reply {
    leader.patiently(leader.post_share(request.encoded()).await).await.0
}

/// With which error each report of a job was refused; nothing for those that count.
fn errors(dev: &Dev, answer: &Reply) -> Vec<Option<ReportError>> {
    let answer = AggregationJobResp::decode_limited(&answer.body, 100).expect("an answer");
    let error = |result| match result {
        VerifyResult::Reject(code) => Some(ReportError::from_code(code, dev.task.draft)),
        _ => None,
    };
    answer.verify_resps.into_iter().map(|resp| error(resp.result)).collect()
}

async fn two_batches(vdaf: &[&str], deferred: bool) {
    let dev = Dev::start(flags(vdaf, deferred));
    let leader = LoneLeader::of(&dev.task).await;
    let sample = dev.task.sample(7);
    let mut reports: Vec<Split> =
        sample.measurements.iter().map(|measurement| leader.report(measurement)).collect();
    let second = reports.split_off(4);
    let (first_ids, second_ids) = (ids(&reports), ids(&second));

    // One batch of two jobs, another beside it, and the reports of one are never counted in the other.
    let elsewhere = leader.job(Some(SECOND), &reports);
    let rest = reports.split_off(2);
    let jobs = [leader.job(Some(FIRST), &reports), leader.job(Some(FIRST), &rest)];
    let mut outputs = leader.finish(&settled(&leader, &jobs[0]).await, reports);
    outputs.extend(leader.finish(&settled(&leader, &jobs[1]).await, rest));
    let answer = settled(&leader, &elsewhere).await;
    assert_eq!(errors(&dev, &answer), [Some(ReportError::ReportReplayed); 4], "{vdaf:?}");
    let others = leader.finish(&settled(&leader, &leader.job(Some(SECOND), &second)).await, second);

    // What was counted and promised outlives a power cut.
    let dev = dev.kill_and_restart();
    let wanted = share_of(FIRST, &first_ids);
    let mixed = share_of(SECOND, &first_ids);
    assert_eq!(share(&leader, &mixed).await.problem(), "batchMismatch", "{vdaf:?}");
    let released = share(&leader, &wanted).await;
    let vdaf_config = dev.task.vdaf();
    let total = leader.total(&released, &wanted, &outputs);
    assert_eq!(total, sample.total_of(vdaf_config, 0..4), "{vdaf:?}, deferred: {deferred}");
    assert_eq!(share(&leader, &wanted).await.body, released.body, "drawn once");

    // A batch that was released takes no more; the other is released by itself.
    let late = [leader.report(&sample.measurements[0])];
    let answer = settled(&leader, &leader.job(Some(FIRST), &late)).await;
    assert_eq!(errors(&dev, &answer), [Some(ReportError::BatchCollected)], "{vdaf:?}");
    let wanted = share_of(SECOND, &second_ids);
    let total = leader.total(&share(&leader, &wanted).await, &wanted, &others);
    assert_eq!(total, sample.total_of(vdaf_config, 4..7), "{vdaf:?}, deferred: {deferred}");
    assert_eq!(dev.database("helper").await.tally("aggregated").await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_alone_serves_a_leader_that_selects_batches_at_once_with_every_vdaf() {
    for (_, vdaf) in small_vdafs() {
        two_batches(&vdaf, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_alone_serves_a_leader_that_selects_batches_later_with_every_vdaf() {
    for (_, vdaf) in small_vdafs() {
        two_batches(&vdaf, true).await;
    }
}

/// S48, S50, and their like for batches of the leader's choice.
#[tokio::test(flavor = "multi_thread")]
async fn a_helper_alone_refuses_jobs_and_shares_that_name_no_batch() {
    let dev = Dev::start(flags(&["--vdaf", "count"], false));
    let leader = LoneLeader::of(&dev.task).await;
    let reports: Vec<Split> =
        dev.task.sample(2).measurements.iter().map(|measurement| leader.report(measurement)).collect();
    assert_eq!(leader.post_job(leader.job(None, &reports).encoded()).await.problem(), "invalidMessage");
    let mut short = leader.job(Some(FIRST), &reports);
    short.extensions[0].data.pop();
    assert_eq!(leader.post_job(short.encoded()).await.problem(), "invalidMessage");
    let mut unknown = leader.job(Some(FIRST), &reports);
    unknown.extensions[0].extension_type = 9;
    assert_eq!(leader.post_job(unknown.encoded()).await.problem(), "unsupportedExtension");

    let counted = ids(&reports);
    let answer = leader.post_job(leader.job(Some(FIRST), &reports).encoded()).await;
    assert_eq!(leader.finish(&answer, reports).len(), 2, "nothing of what was refused is kept");
    let good = share_of(FIRST, &counted);
    let hour = Interval::unit(dev.task.current_time()).expect("an hour");
    let mut interval = good.clone();
    interval.batch_selector = BatchSelector::time_interval(hour);
    let mut query = good.clone();
    query.collection_job_req = CollectionJobReq::new(Query::time_interval(hour), Vec::new());
    for wrong in [interval, query] {
        assert_eq!(leader.post_share(wrong.encoded()).await.problem(), "invalidMessage");
    }
    let nobody = share_of(BatchId::new([7; 32]), &counted);
    assert_eq!(leader.post_share(nobody.encoded()).await.problem(), "invalidBatchSize");
    assert_eq!(leader.post_share(good.encoded()).await.status, 200, "a refusal collects nothing");
}
