//! DAP 3.1 at the helper: it takes a request in, and answers when the leader asks again.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use mica_aggregator::Role;
use mica_aggregator::config::Answers;
use mica_aggregator::shared::Limits;
use mica_aggregator::store::helper_jobs::{self, HelperJobRow};
use mica_aggregator::store::helper_work::{self, NewWork, WorkKind};
use mica_dap::codec::Encode as _;
use mica_dap::id::AggregationJobId;
use mica_dap::media::Media;
use mica_dap::resource::Resource;
use mica_service::testing::{databases, postgres, sqlite};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::support::leader::{self, ids, job, now, share_request, verdicts};
use crate::support::{NOW, ScriptedLeader, Server, TestTask};

#[tokio::test]
async fn a_deferring_helper_says_where_to_ask_and_answers_there() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::deferring(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[10, 20, 30]);
        let first = leader.post_job(job(&reports)).await;
        assert!(first.is_deferred(), "{}: {first:?}", database.kind);
        let location = first.location.clone().expect("it has a place");
        let (path, step) = location.split_once('?').expect("it says which step");
        assert!(path.starts_with(&format!("/api/dap/tasks/{}/aggregation_jobs/", task.id)), "{location}");
        assert_eq!(step, "step=0");

        let answer = leader.patiently(first).await;
        assert_eq!(leader.errors(&verdicts(&answer, &reports)), [None; 3]);
        assert_eq!(answer.location.as_deref(), Some(path));
        // The request that began it now gets the answer at once.
        assert_eq!(leader.post_job(job(&reports)).await, answer);
        for (query, problem) in
            [("", "invalidMessage"), ("?step=", "invalidMessage"), ("?step=1", "stepMismatch")]
        {
            let refused = leader.follow(Method::GET, &format!("{path}{query}")).await;
            assert_eq!(refused.problem(), problem, "{query}");
        }
        assert_eq!(server.counted().await, 3);
        assert_eq!(server.tallies().await, [("aggregated".to_owned(), 3)]);
    }
}

/// S59.
#[tokio::test]
async fn a_job_that_fails_late_is_answered_with_the_same_problem_every_time() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::deferring(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2]);
        let mut parameter = leader::request(&reports);
        parameter.agg_param = vec![1];
        let mut other_key = leader::request(&reports);
        other_key.verification_key_id = 7;
        let mut twice = leader::request(&reports);
        twice.verify_inits.push(twice.verify_inits[0].clone());
        for (request, problem) in [
            (parameter, "invalidAggregationParameter"),
            (other_key, "invalidMessage"),
            (twice, "invalidMessage"),
        ] {
            let deferred = leader.post_job(request.encoded()).await;
            let location = deferred.location.clone().expect("it has a place");
            let failed = leader.patiently(deferred).await;
            assert_eq!(failed.problem(), problem, "{}", database.kind);
            for _ in 0..2 {
                assert_eq!(leader.follow(Method::GET, &location).await, failed);
                assert_eq!(leader.post_job(request.encoded()).await, failed);
            }
        }
        assert_eq!(server.tallies().await, []);
        assert_eq!(leader.errors(&leader.aggregate(&reports).await), [None; 2], "the reports are free");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_at_once_and_not_taken_in() {
    let database = sqlite();
    let task = TestTask::plain();
    let server = Server::deferring(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let good = job(&leader.reports(&[1, 2]));
    let empty = leader::request(&[]).encoded();
    for bytes in [&good[..good.len() - 1], &[good.as_slice(), &[0]].concat(), &empty, &[]] {
        assert_eq!(leader.post_job(bytes.to_vec()).await.problem(), "invalidMessage");
    }
    assert_eq!(server.waiting_work().await, 0);
}

#[tokio::test]
async fn the_same_request_from_sixteen_at_once_on_two_replicas_is_one_job() {
    let mut all = vec![sqlite()];
    all.extend(postgres().await);
    for database in all {
        let task = TestTask::plain();
        let server = Server::deferring(&task, &database).await;
        // Two processes never share an SQLite file.
        let replica = if database.url.starts_with("sqlite") {
            None
        } else {
            Some(Server::deferring(&task, &database).await)
        };
        let leaders: Vec<_> = [Some(&server), replica.as_ref()]
            .into_iter()
            .flatten()
            .map(|s| ScriptedLeader::of(&task, s))
            .collect();
        let leaders = Arc::new(leaders);
        let reports = leaders[0].reports(&[1, 2, 3, 4]);
        let bytes = job(&reports);
        let mut asked = JoinSet::new();
        for at in 0..16_usize {
            let (leaders, bytes) = (Arc::clone(&leaders), bytes.clone());
            asked.spawn(async move {
                let leader = &leaders[at % leaders.len()];
                leader.patiently(leader.post_job(bytes).await).await
            });
        }
        let answers = asked.join_all().await;
        assert_eq!(answers[0].status, StatusCode::OK, "{}: {:?}", database.kind, answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{}", database.kind);
        assert_eq!(server.tallies().await, [("aggregated".to_owned(), 4)]);
        assert_eq!(server.counted().await, 4);
    }
}

#[tokio::test]
async fn a_deferring_helper_killed_in_the_middle_of_its_work_counts_every_report_once() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::deferring(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let jobs: Vec<_> = (0..6).map(|round| leader.reports(&[round; 12])).collect();
        server.kill();
        for (round, reports) in jobs.iter().enumerate() {
            let server = Server::deferring(&task, &database).await;
            let leader = ScriptedLeader::of(&task, &server);
            let media = Some(Media::AggregationJobInitReq.header());
            let url = leader.job_url();
            let asked = leader.send(Method::POST, &url, media, job(reports));
            // From before the request is taken in until after the work is done.
            let _ = tokio::time::timeout(Duration::from_millis(4 * round as u64), asked).await;
            tokio::time::sleep(Duration::from_millis(3 * round as u64)).await;
            server.kill();
        }
        let server = Server::deferring(&task, &database).await;
        // On PostgreSQL somebody else might live who holds the leases of the dead.
        server.clock.set(NOW + 60);
        let leader = ScriptedLeader::of(&task, &server);
        let mut all = Vec::new();
        let mut outputs = Vec::new();
        for reports in jobs {
            let answer = leader.patiently(leader.post_job(job(&reports)).await).await;
            assert_eq!(leader.errors(&verdicts(&answer, &reports)), [None; 12], "{}", database.kind);
            all.extend(ids(&reports));
            outputs.extend(leader.finish(&answer, reports));
        }
        assert_eq!(server.tallies().await, [("aggregated".to_owned(), 72)]);
        let request = share_request(now(), 1, &all);
        let share = leader.patiently(leader.post_share(request.encoded()).await).await;
        assert_eq!(leader.unshard(&share.body, &request, &outputs), [12 * 15]);
    }
}

/// Work that was taken in and that nobody takes up before `due`.
pub(crate) async fn parked(server: &Server, request: &[u8], due: u64) -> AggregationJobId {
    let id = AggregationJobId::random(&mut rand::rng());
    let digest = Sha256::digest(request).into();
    let parked = server.store.tx("park", move |mut tx| async move {
        let row = HelperJobRow::new(1, id, digest, Vec::new(), NOW);
        assert!(helper_jobs::insert(&mut tx, &row).await?, "it is new");
        let work = NewWork { id: *id.as_bytes(), task: 1, kind: WorkKind::Init, request, created_at: due };
        helper_work::insert(&mut tx, &work).await?;
        Ok((tx, ()))
    });
    parked.await.expect("the database answers");
    id
}

#[tokio::test]
async fn a_job_that_is_deleted_before_it_was_worked_on_is_never_worked_on() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::deferring(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2]);
        let id = parked(&server, &job(&reports), NOW + 1_000).await;
        let place =
            Resource::AggregationJob(task.id, id, Some(0)).absolute_path(task.configuration.helper_url());
        assert!(leader.follow(Method::GET, &place).await.is_deferred());
        let again = leader.post_job(job(&reports)).await;
        assert!(again.is_deferred() && again.location.as_deref() == Some(&place), "{again:?}");
        assert_eq!(leader.follow(Method::DELETE, &place).await.status, StatusCode::NO_CONTENT);
        server.clock.set(NOW + 2_000);
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(leader.follow(method, &place).await.problem(), "unrecognizedAggregationJob");
        }
        assert_eq!(leader.post_job(job(&reports)).await.problem(), "unrecognizedAggregationJob");
        // Whatever is worked on after this was taken in after the deleted job.
        let other = leader.patiently(leader.post_job(job(&leader.reports(&[3]))).await).await;
        assert_eq!(other.status, StatusCode::OK);
        assert_eq!(server.counted().await, 1, "{}", database.kind);
    }
}

#[tokio::test]
async fn no_more_is_taken_in_than_the_limit_says() {
    let database = sqlite();
    let task = TestTask::plain();
    let limits = Limits { answers: Answers::Deferred, waiting_jobs: 2, ..Limits::default() };
    let server = Server::limited(Role::Helper, &task, &database, limits).await;
    let leader = ScriptedLeader::of(&task, &server);
    for at in 0..2 {
        parked(&server, &job(&leader.reports(&[at])), NOW + 1_000).await;
    }
    let reports = leader.reports(&[7]);
    let full = leader.post_job(job(&reports)).await;
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(full.retry_after.is_some_and(|seconds| seconds >= 1), "{full:?}");
    let share = leader.post_share(share_request(now(), 1, &ids(&reports)).encoded()).await;
    assert_eq!(share.status, StatusCode::SERVICE_UNAVAILABLE);
    server.clock.set(NOW + 1_000);
    let mut reply = full;
    for _ in 0..200 {
        reply = leader.post_job(job(&reports)).await;
        if reply.status == StatusCode::OK {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(leader.patiently(reply).await.status, StatusCode::OK);
}

#[tokio::test]
async fn no_more_bytes_are_taken_in_than_the_limit_says() {
    for database in databases().await {
        let task = TestTask::plain();
        // Not even one request, and then one is taken all the same.
        let limits = Limits { answers: Answers::Deferred, waiting_bytes: 100, ..Limits::default() };
        let server = Server::limited(Role::Helper, &task, &database, limits).await;
        let leader = ScriptedLeader::of(&task, &server);
        parked(&server, &job(&leader.reports(&[1])), NOW + 1_000).await;
        let reports = leader.reports(&[7]);
        let full = leader.post_job(job(&reports)).await;
        assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE, "{}", database.kind);
        assert!(full.retry_after.is_some_and(|seconds| seconds >= 1), "{full:?}");
        let share = leader.post_share(share_request(now(), 1, &ids(&reports)).encoded()).await;
        assert_eq!(share.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn a_deferred_share_is_drawn_once_and_is_the_same_ever_after() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::deferring(&task, &database).await;
        let leader = Arc::new(ScriptedLeader::of(&task, &server));
        let reports = leader.reports(&[1, 2, 3]);
        leader.aggregate(&reports).await;
        let request = share_request(now(), 1, &ids(&reports)).encoded();
        let mut asked = JoinSet::new();
        for _ in 0..16 {
            let (leader, request) = (Arc::clone(&leader), request.clone());
            asked.spawn(async move { leader.patiently(leader.post_share(request).await).await });
        }
        let shares = asked.join_all().await;
        assert_eq!(shares[0].status, StatusCode::OK, "{}: {:?}", database.kind, shares[0]);
        assert_eq!(shares[0].media.as_deref(), Some(Media::AggregateShare.header()));
        assert!(shares.iter().all(|share| *share == shares[0]));
        let location = shares[0].location.clone().expect("a share has a place");
        assert!(location.starts_with(&format!("/api/dap/tasks/{}/aggregate_shares/", task.id)));
        assert!(!location.contains('?'));
        assert_eq!(leader.follow(Method::GET, &location).await, shares[0]);
        assert_eq!(server.spent().await, [(100_000_000_000, 2)]);
        assert_eq!(leader.follow(Method::DELETE, &location).await.status, StatusCode::NO_CONTENT);
        let again = leader.patiently(leader.post_share(request).await).await;
        assert_eq!(again.problem(), "batchOverlap");
        assert_eq!(server.spent().await, [(100_000_000_000, 2)]);
    }
}

/// A8, A13: the same problem under that path for ever, and another try for the same request.
#[tokio::test]
async fn a_deferred_share_that_is_refused_can_be_asked_for_again() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::deferring(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let (first, second) = (leader.reports(&[40]), leader.reports(&[2]));
        let both = [ids(&first), ids(&second)].concat();
        let request = share_request(now(), 1, &both).encoded();
        leader.aggregate(&first).await;
        let deferred = leader.post_share(request.clone()).await;
        let place = deferred.location.clone().expect("it has a place");
        let refused = leader.patiently(deferred).await;
        assert_eq!(refused.problem(), "invalidBatchSize", "{}", database.kind);
        leader.aggregate(&second).await;
        assert_eq!(leader.follow(Method::GET, &place).await, refused);
        let again = leader.post_share(request.clone()).await;
        assert_ne!(again.location.as_deref(), Some(place.as_str()));
        let share = leader.patiently(again).await;
        assert_eq!(share.status, StatusCode::OK, "{share:?}");
        assert_eq!(leader.follow(Method::GET, &place).await, refused, "what failed has failed");
        assert_eq!(leader.follow(Method::DELETE, &place).await.status, StatusCode::NO_CONTENT);
        assert_eq!(leader.follow(Method::GET, &place).await.status, StatusCode::NOT_FOUND);
        assert_eq!(leader.post_share(request).await, share);
        assert_eq!(server.spent().await, [(100_000_000_000, 2)]);
    }
}

#[tokio::test]
async fn a_deferring_helper_killed_in_the_middle_of_a_release_draws_and_charges_once() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::deferring(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2, 3]);
        let request = share_request(now(), 1, &ids(&reports)).encoded();
        leader.aggregate(&reports).await;
        server.kill();
        for round in 0..6 {
            let server = Server::deferring(&task, &database).await;
            let leader = ScriptedLeader::of(&task, &server);
            let asked = leader.post_share(request.clone());
            let _ = tokio::time::timeout(Duration::from_millis(3 * round), asked).await;
            tokio::time::sleep(Duration::from_millis(round)).await;
            server.kill();
        }
        let server = Server::deferring(&task, &database).await;
        server.clock.set(NOW + 60);
        let leader = ScriptedLeader::of(&task, &server);
        let share = leader.patiently(leader.post_share(request.clone()).await).await;
        assert_eq!(share.status, StatusCode::OK, "{}: {share:?}", database.kind);
        assert_eq!(leader.post_share(request).await, share);
        assert_eq!(server.spent().await, [(100_000_000_000, 2)]);
    }
}
