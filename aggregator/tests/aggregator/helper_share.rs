//! DAP 4.6.4: the helper's aggregate share.

use http::{Method, StatusCode};
use mica_dap::codec::Encode as _;
use mica_dap::collection::{BatchSelector, CollectionJobReq, Query};
use mica_dap::media::Media;
use mica_dap::report_error::ReportError;
use mica_dap::time::{Duration, Interval, Time};
use mica_service::testing::databases;

use crate::support::leader::{ids, now, share_request};
use crate::support::{Flaw, ScriptedLeader, Server, TestTask};

#[tokio::test]
async fn a_total_without_noise_is_exactly_the_sum_and_the_share_is_the_same_ever_after() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let (first, second) = (leader.reports(&[10, 20, 30]), leader.reports(&[1, 2]));
        let counted = [ids(&first), ids(&second)].concat();
        let mut outputs = leader.count(first).await;
        outputs.extend(leader.count(second).await);
        let request = share_request(now(), 1, &counted);
        let reply = leader.post_share(request.encoded()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}: {reply:?}", database.kind);
        assert_eq!(reply.media.as_deref(), Some(Media::AggregateShare.header()));
        assert_eq!(leader.unshard(&reply.body, &request, &outputs), [63]);

        assert_eq!(leader.post_share(request.encoded()).await, reply);
        let location = reply.location.clone().expect("a share has a place");
        assert!(location.starts_with(&format!("/api/dap/tasks/{}/aggregate_shares/", task.id)));
        assert_eq!(leader.follow(Method::GET, &location).await, reply);
        assert_eq!(leader.follow(Method::DELETE, &location).await.status, StatusCode::NO_CONTENT);
    }
}

/// H32: what is deleted is gone, and nobody draws for the batch again.
#[tokio::test]
async fn a_deleted_share_is_gone_and_its_batch_stays_collected() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2, 3]);
        leader.aggregate(&reports).await;
        let request = share_request(now(), 1, &ids(&reports)).encoded();
        let location = leader.post_share(request.clone()).await.location.expect("a share has a place");
        let spent = server.spent().await;
        assert_eq!(leader.follow(Method::DELETE, &location).await.status, StatusCode::NO_CONTENT);
        for method in [Method::DELETE, Method::GET] {
            let gone = leader.follow(method, &location).await;
            assert_eq!((gone.status, gone.problem().as_str()), (StatusCode::NOT_FOUND, "blank"));
        }
        assert_eq!(leader.post_share(request).await.problem(), "batchOverlap", "{}", database.kind);
        assert_eq!(server.spent().await, spent);
        let late = [leader.report(4)];
        assert_eq!(leader.errors(&leader.aggregate(&late).await), [Some(ReportError::BatchCollected)]);
    }
}

#[tokio::test]
async fn a_released_batch_takes_no_more_reports_and_is_not_released_again() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2]);
        leader.aggregate(&reports).await;
        // The query reaches back to hours without any report, and these are closed as well.
        let start = Time(now().0 - 3);
        let released = leader.post_share(share_request(start, 4, &ids(&reports)).encoded()).await;
        assert_eq!(released.status, StatusCode::OK);

        let late = [leader.report(3), leader.report_at(4, Time(start.0 + 1), Flaw::None)];
        let errors = leader.errors(&leader.aggregate(&late).await);
        assert_eq!(errors, [Some(ReportError::BatchCollected); 2], "{}", database.kind);
        let outside = [leader.report_at(5, Time(start.0 - 1), Flaw::None)];
        assert_eq!(leader.errors(&leader.aggregate(&outside).await), [None]);
        for (start, units) in [(now().0, 1), (start.0, 3), (start.0 - 1, 5)] {
            let request = share_request(Time(start), units, &ids(&reports));
            assert_eq!(leader.post_share(request.encoded()).await.problem(), "batchOverlap");
        }
    }
}

#[tokio::test]
async fn a_share_request_that_does_not_fit_is_refused_and_closes_nothing() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2, 3]);
        let all = ids(&reports);
        leader.aggregate(&reports).await;
        let good = share_request(now(), 1, &all);

        let mut wrong_count = good.clone();
        wrong_count.report_count = 2;
        let wrong_checksum = share_request(now(), 1, &[all[0], all[1], leader.report(9).id]);
        let nothing_there = share_request(Time(now().0 - 9), 1, &all);
        let mut narrow_query = good.clone();
        let elsewhere = Interval::new(Time(now().0 - 1), Duration(1)).expect("an interval");
        narrow_query.collection_job_req = CollectionJobReq::new(Query::time_interval(elsewhere), Vec::new());
        let mut no_interval = good.clone();
        no_interval.batch_selector.config = [0; 16].to_vec();
        let mut other_mode = good.clone();
        other_mode.batch_selector = BatchSelector::leader_selected(mica_dap::id::BatchId::new([1; 32]));
        let mut parameter = good.clone();
        let query = good.collection_job_req.query().clone();
        parameter.collection_job_req = CollectionJobReq::new(query, vec![1]);
        let bad = [
            (wrong_count, "batchMismatch"),
            (wrong_checksum, "batchMismatch"),
            (nothing_there, "invalidBatchSize"),
            (narrow_query, "batchInvalid"),
            (no_interval, "batchInvalid"),
            (other_mode, "invalidMessage"),
            (parameter, "invalidMessage"),
        ];
        for (request, problem) in bad {
            assert_eq!(leader.post_share(request.encoded()).await.problem(), problem, "{}", database.kind);
        }
        let whole = good.encoded();
        for bytes in [&whole[..whole.len() - 1], &[whole.as_slice(), &[0]].concat()] {
            assert_eq!(leader.post_share(bytes.to_vec()).await.problem(), "invalidMessage");
        }
        assert_eq!(leader.errors(&leader.aggregate(&[leader.report(4)]).await), [None]);
    }
}

#[tokio::test]
async fn an_extension_of_the_collector_is_checked_by_the_helper_itself() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    leader.aggregate(&reports).await;
    let good = share_request(now(), 1, &ids(&reports)).encoded();
    // Query: 1 + 2 + 16 bytes, no aggregation parameter: 4 bytes, then the length of the extensions.
    let (head, tail) = good.split_at(23);
    for (extensions, problem) in [
        (&[0, 4, 0, 9, 0, 0][..], "unsupportedExtension"),
        (&[0, 4, 0, 0, 0, 0], "unsupportedExtension"),
        (&[0, 8, 0, 2, 0, 0, 0, 1, 0, 0], "invalidExtension"),
    ] {
        let body = [head, extensions, &tail[2..]].concat();
        assert_eq!(leader.post_share(body).await.problem(), problem);
    }
    assert_eq!(leader.post_share(good.clone()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_batch_that_is_too_small_can_be_asked_for_again() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let (first, second) = (leader.reports(&[40]), leader.reports(&[2]));
    let counted = [ids(&first), ids(&second)].concat();
    let mut outputs = leader.count(first).await;
    let small = share_request(now(), 1, &counted[..1]).encoded();
    assert_eq!(leader.post_share(small.clone()).await.problem(), "invalidBatchSize");
    outputs.extend(leader.count(second).await);
    assert_eq!(leader.post_share(small).await.problem(), "batchMismatch");
    let request = share_request(now(), 1, &counted);
    let reply = leader.post_share(request.encoded()).await;
    assert_eq!(leader.unshard(&reply.body, &request, &outputs), [42]);
}
