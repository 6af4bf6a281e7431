//! DAP 4.5.3.2: what becomes of the reports of a job.

use http::{Method, StatusCode};
use mica_dap::Draft;
use mica_dap::codec::Encode as _;
use mica_dap::report_error::ReportError;
use mica_dap::time::{Duration, Interval, Time};
use mica_service::testing::databases;

use crate::support::leader::{self, job, now, verdicts};
use crate::support::task::Kind;
use crate::support::{Flaw, NOW, PRECISION, ScriptedLeader, Server, TestTask};

#[tokio::test]
async fn helper_counts_good_reports_and_answers_the_same_bytes_the_same() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[10, 20, 30]);
        let first = leader.post_job(job(&reports)).await;
        assert_eq!(leader.errors(&verdicts(&first, &reports)), [None; 3], "{}", database.kind);
        let location = first.location.clone().expect("a job has a place");
        assert!(location.starts_with(&format!("/api/dap/tasks/{}/aggregation_jobs/", task.id)), "{location}");

        assert_eq!(leader.post_job(job(&reports)).await, first);
        assert_eq!(leader.follow(Method::GET, &format!("{location}?step=0")).await.body, first.body);
        assert_eq!(server.counted().await, 3);
        assert_eq!(server.tallies().await, [("aggregated".to_owned(), 3)]);
    }
}

#[tokio::test]
async fn helper_refuses_every_report_again_in_a_job_that_differs_in_one_byte() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2]);
        let first = leader.post_job(job(&reports)).await;
        let mut changed = leader::request(&reports);
        *changed.verify_inits[1].payload.last_mut().expect("a message has bytes") ^= 1;
        let second = leader.post_job(changed.encoded()).await;
        assert_ne!(second.location, first.location);
        let errors = leader.errors(&verdicts(&second, &reports));
        assert_eq!(errors[0], Some(ReportError::ReportReplayed));
        // The changed message was looked at before the database was.
        assert!(matches!(errors[1], Some(ReportError::ReportReplayed | ReportError::VdafVerifyError)));
        assert_eq!(server.counted().await, 2);
    }
}

#[tokio::test]
async fn helper_refuses_a_bad_report_with_its_code_and_counts_the_rest() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let replayed = leader.report(5);
        leader.aggregate(std::slice::from_ref(&replayed)).await;
        let reports = vec![
            leader.report(10),
            leader.flawed(Flaw::BadProof),
            leader.flawed(Flaw::WrongAad),
            leader.flawed(Flaw::UnknownKey),
            leader.flawed(Flaw::NoShare),
            leader.flawed(Flaw::UnknownExtension),
            leader.flawed(Flaw::UnorderedExtensions),
            leader.report_at(1, Time(now().0 + 2), Flaw::None),
            replayed,
            leader.report(20),
        ];
        let errors = leader.errors(&leader.aggregate(&reports).await);
        let expected = [
            None,
            Some(ReportError::VdafVerifyError),
            Some(ReportError::HpkeDecryptError),
            Some(ReportError::HpkeDecryptError),
            Some(ReportError::InvalidMessage),
            Some(ReportError::InvalidMessage),
            Some(ReportError::InvalidMessage),
            Some(ReportError::ReportTooEarly),
            Some(ReportError::ReportReplayed),
            None,
        ];
        assert_eq!(errors, expected, "{}", database.kind);
        assert_eq!(server.counted().await, 3);
        let of = |outcome: &str, n| (outcome.to_owned(), n);
        let tallies = [
            of("aggregated", 3),
            of("hpke_decrypt_error", 2),
            of("invalid_message", 3),
            of("report_replayed", 1),
            of("report_too_early", 1),
            of("vdaf_verify_error", 1),
        ];
        assert_eq!(server.tallies().await, tallies);
    }
}

#[tokio::test]
async fn helper_speaks_the_codes_of_the_later_draft() {
    let database = mica_service::testing::sqlite();
    let interval = Interval::new(Time(now().0 - 10), Duration(11)).expect("an interval");
    let kind = Kind { draft: Draft::V19, task_interval: Some(interval), ..Kind::default() };
    let task = TestTask::new(&kind);
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = vec![
        leader.report(1),
        leader.flawed(Flaw::UnknownKey),
        leader.flawed(Flaw::UnknownExtension),
        leader.report_at(1, Time(now().0 - 11), Flaw::None),
    ];
    let errors = leader.errors(&leader.aggregate(&reports).await);
    let expected = [
        None,
        Some(ReportError::HpkeUnknownConfigId),
        Some(ReportError::UnsupportedExtension),
        Some(ReportError::ReportDropped),
    ];
    assert_eq!(errors, expected);

    let mut other_key = leader::request(&[leader.report(1)]);
    other_key.verification_key_id = 7;
    let reply = leader.post_job(other_key.encoded()).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.body.last(), Some(&ReportError::UnknownVerificationKeyId.code(Draft::V19)));
}

#[tokio::test]
async fn helper_refuses_reports_from_before_and_after_the_task() {
    let database = mica_service::testing::sqlite();
    let interval = Interval::new(Time(now().0 - 10), Duration(10)).expect("an interval");
    let task = TestTask::new(&Kind { task_interval: Some(interval), ..Kind::default() });
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = [now().0 - 11, now().0 - 10, now().0 - 1, now().0]
        .map(|time| leader.report_at(1, Time(time), Flaw::None));
    let errors = leader.errors(&leader.aggregate(&reports).await);
    assert_eq!(errors, [Some(ReportError::TaskNotStarted), None, None, Some(ReportError::TaskExpired)]);
}

#[tokio::test]
async fn a_report_that_was_too_early_is_counted_later() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let early = [leader.report_at(9, Time(now().0 + 3), Flaw::None)];
    let errors = leader.errors(&leader.aggregate(&early).await);
    assert_eq!(errors, [Some(ReportError::ReportTooEarly)]);
    server.clock.set(NOW + 3 * PRECISION);
    // Another job: the same bytes would get the same answer.
    let other = leader.report(1);
    let [early] = early;
    let errors = leader.errors(&leader.aggregate(&[early, other]).await);
    assert_eq!(errors, [None, None]);
}

#[tokio::test]
async fn one_report_identifier_in_two_jobs_at_once_is_counted_once() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let shared = leader.report(1);
        let (one, two) = (leader.report(2), leader.report(3));
        let mut jobs = Vec::new();
        for other in [&one, &two] {
            let mut request = leader::request(std::slice::from_ref(&shared));
            request.verify_inits.push(other.init.clone());
            jobs.push(request.encoded());
        }
        let (first, second) =
            tokio::join!(leader.post_job(jobs[0].clone()), leader.post_job(jobs[1].clone()));
        assert_eq!((first.status, second.status), (StatusCode::OK, StatusCode::OK));
        assert_eq!(server.counted().await, 3, "{}", database.kind);
        assert_eq!(server.tallies().await, [("aggregated".to_owned(), 3), ("report_replayed".to_owned(), 1)]);
    }
}

#[tokio::test]
async fn the_same_job_many_times_at_once_gets_one_answer() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let bytes = job(&leader.reports(&[1, 2, 3, 4]));
        let post = || leader.post_job(bytes.clone());
        let replies = tokio::join!(post(), post(), post(), post(), post());
        assert_eq!(replies.0.status, StatusCode::OK);
        for reply in [replies.1, replies.2, replies.3, replies.4] {
            assert_eq!(reply, replies.0, "{}", database.kind);
        }
        assert_eq!(server.counted().await, 4);
        assert_eq!(server.tallies().await, [("aggregated".to_owned(), 4)]);
    }
}

#[tokio::test]
async fn a_deleted_job_is_gone_and_its_reports_stay_counted() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    let location = leader.post_job(job(&reports)).await.location.expect("a job has a place");
    assert_eq!(leader.follow(Method::DELETE, &location).await.status, StatusCode::NO_CONTENT);
    assert_eq!(leader.follow(Method::DELETE, &location).await.problem(), "unrecognizedAggregationJob");
    let gone = leader.follow(Method::GET, &format!("{location}?step=0")).await;
    assert_eq!(gone.problem(), "unrecognizedAggregationJob");
    // The same bytes are that job, and not begun again; other bytes are another, and its reports are known.
    assert_eq!(leader.post_job(job(&reports)).await.problem(), "unrecognizedAggregationJob");
    let errors = leader.errors(&leader.aggregate(&reports[1..]).await);
    assert_eq!(errors, [Some(ReportError::ReportReplayed)]);
    assert_eq!(server.counted().await, 2);
}
