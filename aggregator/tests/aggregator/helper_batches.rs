//! DAP 4.6.4 and 5.2 at the helper: batches of the leader's choice, and the order of the checks of a share.

use http::{Method, StatusCode};
use mica_dap::aggregation::AggregationJobInitReq;
use mica_dap::codec::Encode as _;
use mica_dap::collection::{AggregateShareReq, BatchSelector, CollectionJobReq, Query};
use mica_dap::extension::Extension;
use mica_dap::id::BatchId;
use mica_dap::report_error::ReportError;
use mica_dap::task::BatchMode;
use mica_dap::time::{Duration, Interval, Time};
use mica_service::testing::{databases, sqlite};

use crate::support::leader::{self, ids, job, job_in, now, share_of, share_request, verdicts};
use crate::support::task::Kind;
use crate::support::{Crafted, Flaw, NOW, PRECISION, ScriptedLeader, Server, TestTask};

const ONE: BatchId = BatchId::new([1; 32]);
const OTHER: BatchId = BatchId::new([2; 32]);

fn selected() -> TestTask {
    TestTask::new(&Kind { batch_mode: BatchMode::LeaderSelected, epsilon: Some("1/10"), ..Kind::default() })
}

async fn add(leader: &ScriptedLeader, batch: BatchId, reports: &[Crafted]) -> Vec<Option<ReportError>> {
    let reply = leader.patiently(leader.post_job(job_in(batch, reports)).await).await;
    leader.errors(&verdicts(&reply, reports))
}

#[tokio::test]
async fn a_batch_of_the_leaders_choice_is_summed_released_once_and_closed() {
    for database in databases().await {
        for deferring in [false, true] {
            if deferring && database.url.starts_with("postgres") {
                continue;
            }
            let task = TestTask::new(&Kind { batch_mode: BatchMode::LeaderSelected, ..Kind::default() });
            let database = if deferring { &sqlite() } else { &database };
            let server = if deferring {
                Server::deferring(&task, database).await
            } else {
                Server::helper(&task, database).await
            };
            let leader = ScriptedLeader::of(&task, &server);
            let reports = vec![leader.report_at(10, Time(now().0 - 90), Flaw::None), leader.report(20)];
            let elsewhere = leader.reports(&[1, 2, 3]);
            assert_eq!(add(&leader, OTHER, &elsewhere).await, [None; 3]);
            let reply = leader.patiently(leader.post_job(job_in(ONE, &reports)).await).await;
            let counted = ids(&reports);
            let outputs = leader.finish(&reply, reports);
            let request = share_of(ONE, &counted);
            let share = leader.patiently(leader.post_share(request.encoded()).await).await;
            assert_eq!(share.status, StatusCode::OK, "{}: {share:?}", database.kind);
            assert_eq!(leader.unshard(&share.body, &request, &outputs), [30]);
            assert_eq!(leader.post_share(request.encoded()).await, share);

            let late = [leader.report(7)];
            assert_eq!(add(&leader, ONE, &late).await, [Some(ReportError::BatchCollected)]);
            assert_eq!(add(&leader, OTHER, &late).await, [None], "it may be in another batch");
            // Another request for the same batch, and one for a batch that nobody has named.
            let mut again = share_of(ONE, &counted);
            again.report_count = 3;
            for (request, problem) in
                [(again, "batchOverlap"), (share_of(BatchId::new([9; 32]), &counted), "invalidBatchSize")]
            {
                let refused = leader.patiently(leader.post_share(request.encoded()).await).await;
                assert_eq!(refused.problem(), problem);
            }
        }
    }
}

/// H5: exactly one extension of exactly 32 bytes.
#[tokio::test]
async fn a_job_of_a_leader_selected_task_names_its_batch_exactly_once() {
    let (task, database) = (selected(), sqlite());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    let of = |code, length| Extension { extension_type: code, data: vec![1; length] };
    for (extensions, problem) in [
        (vec![], "invalidMessage"),
        (vec![of(1, 31)], "invalidMessage"),
        (vec![of(1, 33)], "invalidMessage"),
        (vec![of(1, 0)], "invalidMessage"),
        (vec![of(1, 32), of(1, 32)], "invalidMessage"),
        (vec![of(2, 0), of(1, 32)], "invalidMessage"),
        (vec![of(0, 0), of(1, 32)], "unsupportedExtension"),
        (vec![of(1, 32), of(9, 0)], "unsupportedExtension"),
    ] {
        let request = AggregationJobInitReq { extensions, ..leader::request(&reports) };
        assert_eq!(leader.post_job(request.encoded()).await.problem(), problem);
    }
    assert_eq!(server.tallies().await, []);
    assert_eq!(add(&leader, ONE, &reports).await, [None; 2], "nothing was taken");
}

/// S50.
#[tokio::test]
async fn a_time_interval_task_knows_no_batches_of_the_leaders_choice() {
    let (task, database) = (TestTask::plain(), sqlite());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    assert_eq!(leader.post_job(job_in(ONE, &reports)).await.problem(), "invalidMessage");
    assert_eq!(leader.errors(&leader.aggregate(&reports).await), [None; 2]);
    assert_eq!(leader.post_share(share_of(ONE, &ids(&reports)).encoded()).await.problem(), "invalidMessage");
}

/// H23, H24: query and selector of one mode, and that of the task.
#[tokio::test]
async fn a_share_of_a_leader_selected_task_is_asked_for_by_the_name_of_its_batch() {
    let (task, database) = (selected(), sqlite());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    add(&leader, ONE, &reports).await;
    let good = share_of(ONE, &ids(&reports));
    let by_time = share_request(now(), 1, &ids(&reports));
    let mut mixed = good.clone();
    mixed.collection_job_req = by_time.collection_job_req.clone();
    let mut other = good.clone();
    other.batch_selector = by_time.batch_selector.clone();
    let mut short = good.clone();
    short.batch_selector.config.pop();
    let mut huge = good.clone();
    huge.report_count = u64::MAX;
    let mut empty = good.clone();
    empty.report_count = 0;
    for (request, problem) in [
        (by_time, "invalidMessage"),
        (mixed, "invalidMessage"),
        (other, "invalidMessage"),
        (huge, "batchMismatch"),
        (empty, "batchMismatch"),
    ] {
        assert_eq!(leader.post_share(request.encoded()).await.problem(), problem);
    }
    let refused = leader.post_share(short.encoded()).await.problem();
    assert!(["batchInvalid", "invalidMessage"].contains(&refused.as_str()), "{refused}");
    assert_eq!(leader.post_share(good.encoded()).await.status, StatusCode::OK);
    assert_eq!(server.spent().await, [(100_000_000_000, 2)]);
}

/// A12: the selector may be narrower; what is closed is the query.
#[tokio::test]
async fn a_selector_may_be_narrower_than_its_query_and_all_of_the_query_is_closed() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let (inside, beside) =
            (leader.reports(&[1, 2]), [leader.report_at(50, Time(now().0 - 2), Flaw::None)]);
        leader.aggregate(&beside).await;
        let counted = ids(&inside);
        let outputs = leader.count(inside).await;
        let query = Interval::new(Time(now().0 - 3), Duration(4)).expect("an interval");
        let request = AggregateShareReq {
            collection_job_req: CollectionJobReq::new(Query::time_interval(query), Vec::new()),
            ..share_request(now(), 1, &counted)
        };
        let share = leader.post_share(request.encoded()).await;
        assert_eq!(leader.unshard(&share.body, &request, &outputs), [3], "{}", database.kind);
        for hour in 0..4 {
            let late = [leader.report_at(1, Time(now().0 - hour), Flaw::None)];
            assert_eq!(leader.errors(&leader.aggregate(&late).await), [Some(ReportError::BatchCollected)]);
        }
        let mut wider = request.clone();
        let selector = Interval::new(Time(now().0 - 4), Duration(5)).expect("an interval");
        wider.batch_selector = BatchSelector::time_interval(selector);
        assert_eq!(leader.post_share(wider.encoded()).await.problem(), "batchInvalid");
    }
}

/// The order of the checks: the share that is there, then what was collected, then how many there are, then whether they
/// are the same.
#[tokio::test]
async fn what_was_collected_is_said_before_what_is_missing() {
    let (task, database) = (TestTask::plain(), sqlite());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    leader.aggregate(&reports).await;
    let request = share_request(now(), 1, &ids(&reports)).encoded();
    let share = leader.post_share(request.clone()).await;
    assert_eq!(leader.post_share(request).await, share);
    // Too few, other ones, and a day that has not come: all of it is collected first of all.
    for wrong in [share_request(now(), 1, &[]), share_request(now(), 40, &ids(&reports))] {
        assert_eq!(leader.post_share(wrong.encoded()).await.problem(), "batchOverlap");
    }
    let few = [leader.report_at(1, Time(now().0 - 5), Flaw::None)];
    leader.aggregate(&few).await;
    let both_wrong = share_request(Time(now().0 - 5), 1, &ids(&reports));
    assert_eq!(leader.post_share(both_wrong.encoded()).await.problem(), "invalidBatchSize");
}

/// S145.
#[tokio::test]
async fn a_count_of_all_that_fits_is_a_mismatch() {
    let (task, database) = (TestTask::plain(), sqlite());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    leader.aggregate(&reports).await;
    let mut request = share_request(now(), 1, &ids(&reports));
    for count in [u64::MAX, u64::MAX - 1, 1 << 63, 0, 3] {
        request.report_count = count;
        assert_eq!(leader.post_share(request.encoded()).await.problem(), "batchMismatch", "{count}");
    }
    assert_eq!(leader.errors(&leader.aggregate(&[leader.report(3)]).await), [None], "nothing was closed");
}

/// A query may end a day from now and no later: what is collected is closed for ever.
#[tokio::test]
async fn a_query_that_ends_more_than_a_day_from_now_is_refused_by_the_helper_itself() {
    let (task, database) = (TestTask::plain(), sqlite());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    leader.aggregate(&reports).await;
    let day = 86_400 / PRECISION;
    let until = |units: u64| share_request(now(), units, &ids(&reports)).encoded();
    for units in [day + 2, u64::MAX - now().0] {
        assert_eq!(leader.post_share(until(units)).await.problem(), "batchInvalid", "{units}");
    }
    assert_eq!(leader.errors(&leader.aggregate(&[leader.report(3)]).await), [None], "nothing was closed");
    server.clock.set(NOW + PRECISION);
    assert_eq!(
        leader.post_share(until(day + 2)).await.problem(),
        "batchMismatch",
        "an hour later it may be asked for"
    );
}

/// S64.
#[tokio::test]
async fn what_nobody_has_made_is_unknown_whatever_is_done_with_it() {
    for task in [TestTask::plain(), selected()] {
        let database = sqlite();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        for id in
            ["AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB", "AA", "%2e%2e", "AAAAAAAAAAAAAAAAAAAAAA=="]
        {
            let job = format!("/api/dap/tasks/{}/aggregation_jobs/{id}", task.id);
            let share = format!("/api/dap/tasks/{}/aggregate_shares/{id}", task.id);
            for method in [Method::GET, Method::DELETE, Method::DELETE] {
                let unknown = leader.follow(method.clone(), &format!("{job}?step=0")).await;
                assert_eq!(unknown.problem(), "unrecognizedAggregationJob", "{method} {id}");
                let unknown = leader.follow(method, &share).await;
                assert_eq!((unknown.status, unknown.problem().as_str()), (StatusCode::NOT_FOUND, "blank"));
            }
            let next = leader.post_next(&job, vec![0, 1]).await;
            assert_eq!(next.problem(), "unrecognizedAggregationJob");
        }
        // What was made in one mode of addressing is not found in the other.
        let reports = leader.reports(&[1, 2]);
        let body = if task.configuration.batch_mode() == BatchMode::TimeInterval {
            job(&reports)
        } else {
            job_in(ONE, &reports)
        };
        let place = leader.post_job(body).await.location.expect("a job has a place");
        let share = place.replace("aggregation_jobs", "aggregate_shares");
        assert_eq!(leader.follow(Method::GET, &share).await.status, StatusCode::NOT_FOUND);
    }
}
