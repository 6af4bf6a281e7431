//! DAP 4.5.3.3, 4.5.3.4 and 4.5.4.3 at the helper: what a report is refused with, in both drafts, and that it costs no
//! other report anything.

use http::StatusCode;
use mica_dap::Draft;
use mica_dap::aggregation::VerifyResult;
use mica_dap::codec::Encode as _;
use mica_dap::report_error::ReportError;
use mica_dap::task::BatchMode;
use mica_dap::time::{Duration, Interval, Time};
use mica_service::testing::{databases, sqlite};

use crate::support::leader::{self, ids, job, job_in, now, share_request, verdicts};
use crate::support::task::Kind;
use crate::support::{Flaw, NOW, ScriptedLeader, Server, TestTask};

/// B5 to B7, B11 to B13, H8, H9, S26, S27, S34: one good report among the bad.
#[tokio::test]
async fn every_flaw_has_its_code_in_each_draft() {
    for draft in [Draft::V18, Draft::V19] {
        let (task, database) = (TestTask::new(&Kind { draft, ..Kind::default() }), sqlite());
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let (unknown_key, unknown_extension) = match draft {
            Draft::V18 => (ReportError::HpkeDecryptError, ReportError::InvalidMessage),
            Draft::V19 => (ReportError::HpkeUnknownConfigId, ReportError::UnsupportedExtension),
        };
        let flaws = [
            (Flaw::UnknownKey, unknown_key),
            (Flaw::BadCiphertext, ReportError::HpkeDecryptError),
            (Flaw::WrongAad, ReportError::HpkeDecryptError),
            (Flaw::OtherRole, ReportError::HpkeDecryptError),
            (Flaw::OtherDraft, ReportError::HpkeDecryptError),
            (Flaw::OldDraft, ReportError::HpkeDecryptError),
            (Flaw::NoShare, ReportError::InvalidMessage),
            (Flaw::EmptyShare, ReportError::InvalidMessage),
            (Flaw::TrailingPlaintext, ReportError::InvalidMessage),
            (Flaw::UnknownExtension, unknown_extension),
            (Flaw::ReservedExtension, unknown_extension),
            (Flaw::UnknownPrivateExtension, unknown_extension),
            (Flaw::UnorderedExtensions, ReportError::InvalidMessage),
            (Flaw::UnorderedPublicExtensions, ReportError::InvalidMessage),
            (Flaw::TwicePublicExtension, ReportError::InvalidMessage),
            (Flaw::TwiceExtension, ReportError::InvalidMessage),
            (Flaw::BadProof, ReportError::VdafVerifyError),
            (Flaw::BadMessage, ReportError::VdafVerifyError),
            (Flaw::BadPublicShare, ReportError::VdafVerifyError),
        ];
        let mut reports: Vec<_> = flaws.iter().map(|(flaw, _)| leader.flawed(*flaw)).collect();
        reports.insert(7, leader.report(5));
        let mut expected: Vec<_> = flaws.iter().map(|(_, error)| Some(*error)).collect();
        expected.insert(7, None);
        let errors = leader.errors(&leader.aggregate(&reports).await);
        for (at, (found, expected)) in errors.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{draft}, report {at}");
        }
        assert_eq!(server.counted().await, 1);
    }
}

/// B8, S18, S66: to the second, and a report that came too early may come again.
#[tokio::test]
async fn a_clock_may_be_ahead_by_five_minutes_and_not_by_a_second_more() {
    for draft in [Draft::V18, Draft::V19] {
        let task = TestTask::new(&Kind { draft, precision: 1, ..Kind::default() });
        let database = sqlite();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let at = |time| leader.report_at(1, Time(time), Flaw::None);
        let reports = [at(NOW + 300), at(NOW + 301), at(u64::MAX), at(0)];
        let errors = leader.errors(&leader.aggregate(&reports).await);
        let early = Some(ReportError::ReportTooEarly);
        assert_eq!(errors, [None, early, early, None], "{draft}");
        server.clock.set(NOW + 1);
        let errors = leader.errors(&leader.aggregate(&reports[1..3]).await);
        assert_eq!(errors, [None, early], "{draft}");
    }
}

/// B9, B10.
#[tokio::test]
async fn reports_from_outside_the_time_of_the_task_are_refused_in_the_words_of_the_draft() {
    for draft in [Draft::V18, Draft::V19] {
        let interval = Interval::new(Time(now().0 - 10), Duration(10)).expect("an interval");
        let task = TestTask::new(&Kind { draft, task_interval: Some(interval), ..Kind::default() });
        let database = sqlite();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let times = [now().0 - 11, now().0 - 10, now().0 - 1, now().0];
        let reports = times.map(|time| leader.report_at(1, Time(time), Flaw::None));
        let errors = leader.errors(&leader.aggregate(&reports).await);
        let (before, after) = match draft {
            Draft::V18 => (ReportError::TaskNotStarted, ReportError::TaskExpired),
            Draft::V19 => (ReportError::ReportDropped, ReportError::ReportDropped),
        };
        assert_eq!(errors, [Some(before), None, None, Some(after)], "{draft}");
    }
}

/// S54: an unknown key is never taken for the one that is known.
#[tokio::test]
async fn a_job_under_an_unknown_verification_key_counts_nothing() {
    for draft in [Draft::V18, Draft::V19] {
        let (task, database) = (TestTask::new(&Kind { draft, ..Kind::default() }), sqlite());
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2]);
        let mut request = leader::request(&reports);
        request.verification_key_id = 7;
        let reply = leader.post_job(request.encoded()).await;
        match draft {
            Draft::V18 => assert_eq!(reply.problem(), "invalidMessage"),
            Draft::V19 => {
                let errors = leader.errors(&verdicts(&reply, &reports));
                assert_eq!(errors, [Some(ReportError::UnknownVerificationKeyId); 2]);
                assert_eq!(reply.body.last(), Some(&9));
            }
        }
        assert_eq!(server.counted().await, 0, "{draft}");
        // Under the key that is known they may be counted yet.
        assert_eq!(leader.errors(&leader.aggregate(&reports).await), [None; 2], "{draft}");
    }
}

/// B17, S46: across the task, whatever the bucket.
#[tokio::test]
async fn a_report_identifier_counts_once_in_a_task_whatever_its_time_or_job() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let report = leader.report(5);
        assert_eq!(leader.errors(&leader.aggregate(std::slice::from_ref(&report)).await), [None]);
        let elsewhere = leader.report_of_id(report.id, 5, Time(now().0 - 7));
        let fresh = leader.report(6);
        // Twice in one job, it spoils the job; in another job, it is refused.
        let twice = job(&[leader.report_of_id(report.id, 5, now()), report]);
        assert_eq!(leader.post_job(twice).await.problem(), "invalidMessage");
        let errors = leader.errors(&leader.aggregate(&[elsewhere, fresh]).await);
        assert_eq!(errors, [Some(ReportError::ReportReplayed), None], "{}", database.kind);
        assert_eq!(server.counted().await, 2);
    }
}

/// S42.
#[tokio::test]
async fn one_report_identifier_in_two_tasks_is_two_reports() {
    for database in databases().await {
        let (one, other) = (TestTask::plain(), TestTask::plain());
        let first = Server::helper(&one, &database).await;
        let leader = ScriptedLeader::of(&one, &first);
        let report = leader.report(5);
        assert_eq!(leader.errors(&leader.aggregate(std::slice::from_ref(&report)).await), [None]);
        first.kill();
        let second = Server::helper(&other, &database).await;
        let leader = ScriptedLeader::of(&other, &second);
        let twin = leader.report_of_id(report.id, 9, now());
        assert_eq!(leader.errors(&leader.aggregate(&[twin]).await), [None], "{}", database.kind);
    }
}

/// A19, B28: the time of a report has no bucket in a leader-selected task, and is checked all the same.
#[tokio::test]
async fn the_time_of_a_report_is_checked_in_leader_selected_tasks_too() {
    let interval = Interval::new(Time(now().0 - 10), Duration(20)).expect("an interval");
    let kind =
        Kind { batch_mode: BatchMode::LeaderSelected, task_interval: Some(interval), ..Kind::default() };
    let (task, database) = (TestTask::new(&kind), sqlite());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = [now().0 - 11, now().0, now().0 + 3, now().0 - 3]
        .map(|time| leader.report_at(1, Time(time), Flaw::None));
    let reply = leader.post_job(job_in(mica_dap::id::BatchId::new([1; 32]), &reports)).await;
    let errors = leader.errors(&verdicts(&reply, &reports));
    assert_eq!(errors, [Some(ReportError::TaskNotStarted), None, Some(ReportError::ReportTooEarly), None]);
}

/// One bad leader's message never fails a job, and a job of bad reports alone is answered.
#[tokio::test]
async fn a_job_of_bad_reports_is_answered_and_counts_nothing() {
    let (task, database) = (TestTask::plain(), sqlite());
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = [leader.flawed(Flaw::BadMessage), leader.flawed(Flaw::BadCiphertext)];
    let reply = leader.post_job(job(&reports)).await;
    assert_eq!(reply.status, StatusCode::OK);
    let results = verdicts(&reply, &reports);
    assert!(results.iter().all(|result| matches!(result, VerifyResult::Reject(_))));
    assert_eq!(leader.post_job(job(&reports)).await, reply);
    let request = share_request(now(), 1, &ids(&reports));
    assert_eq!(leader.post_share(request.encoded()).await.problem(), "invalidBatchSize");
}
