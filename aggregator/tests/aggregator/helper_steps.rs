//! DAP 4.5.4.2: jobs of more than one round, with Poplar1.

use std::sync::Arc;

use http::{Method, StatusCode};
use mica_dap::aggregation::{
    AggregationJobContinueReq, AggregationJobInitReq, AggregationJobResp, VerifyContinue, VerifyResult,
};
use mica_dap::codec::Encode as _;
use mica_dap::collection::{AggregateShareReq, CollectionJobReq, Query};
use mica_dap::id::ReportId;
use mica_dap::report_error::ReportError;
use mica_dap::time::{Duration, Interval};
use mica_dap::vdaf::{Measurement, OutputShare, encode_prefixes};
use mica_dap::vdaf_config::VdafConfig;
use mica_service::testing::{TestDatabase, databases, sqlite};

use crate::support::leader::{self, Reply, ids, job, now, share_request, verdicts};
use crate::support::task::Kind;
use crate::support::{Crafted, ScriptedLeader, Server, TestTask};

const BITS: u16 = 4;

fn strings() -> TestTask {
    TestTask::new(&Kind { vdaf: VdafConfig::Poplar1 { bits: BITS }, ..Kind::default() })
}

fn prefixes(prefixes: &[&str]) -> Vec<u8> {
    encode_prefixes(BITS, prefixes).expect("prefixes of a test")
}

fn bits(text: &str) -> Measurement {
    Measurement::Bits(text.chars().map(|letter| letter == '1').collect())
}

fn reports(leader: &ScriptedLeader, strings: &[&str], parameter: &[u8]) -> Vec<Crafted> {
    strings.iter().map(|string| leader.report_under(&bits(string), parameter)).collect()
}

fn job_under(parameter: &[u8], reports: &[Crafted]) -> Vec<u8> {
    AggregationJobInitReq { agg_param: parameter.to_vec(), ..leader::request(reports) }.encoded()
}

/// A job whose first step is answered.
struct Begun {
    location: String,
    request: Vec<u8>,
    nexts: Vec<VerifyContinue>,
    outputs: Vec<OutputShare>,
    ids: Vec<ReportId>,
}

async fn begin(leader: &ScriptedLeader, strings: &[&str], parameter: &[u8]) -> Begun {
    let reports = reports(leader, strings, parameter);
    let (request, ids) = (job_under(parameter, &reports), ids(&reports));
    let reply = leader.patiently(leader.post_job(request.clone()).await).await;
    let answers = verdicts(&reply, &reports);
    let location = reply.location.expect("a job has a place");
    let proceed = |(report, answer): (Crafted, VerifyResult)| match answer {
        VerifyResult::Continue(message) => report.proceed(&leader.task, parameter, &message),
        _ => panic!("a good report goes on"),
    };
    let (nexts, outputs) = reports.into_iter().zip(answers).map(proceed).unzip();
    Begun { location, request, nexts, outputs, ids }
}

/// What became of the reports of a second step.
fn outcomes(reply: &Reply, nexts: &[VerifyContinue]) -> Vec<VerifyResult> {
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    let answer = AggregationJobResp::decode_limited(&reply.body, nexts.len());
    let answer = answer.expect("an answer");
    assert!(answer.answers(nexts.iter().map(|next| next.report_id)), "in the order of the request");
    answer.verify_resps.into_iter().map(|resp| resp.result).collect()
}

fn all_finished(outcomes: &[VerifyResult]) -> bool {
    outcomes.iter().all(|outcome| *outcome == VerifyResult::Finish)
}

fn share_under(parameter: &[u8], ids: &[ReportId]) -> AggregateShareReq {
    let interval = Interval::new(now(), Duration(1)).expect("an interval");
    AggregateShareReq {
        collection_job_req: CollectionJobReq::new(Query::time_interval(interval), parameter.to_vec()),
        ..share_request(now(), 1, ids)
    }
}

async fn server(deferring: bool, task: &TestTask, database: &TestDatabase) -> Server {
    if deferring { Server::deferring(task, database).await } else { Server::helper(task, database).await }
}

/// S79.
#[tokio::test]
async fn a_job_of_two_rounds_counts_in_the_second() {
    for deferring in [false, true] {
        for database in databases().await {
            let task = strings();
            let server = server(deferring, &task, &database).await;
            let leader = ScriptedLeader::of(&task, &server);
            let parameter = prefixes(&["00", "10", "11"]);
            let begun = begin(&leader, &["0010", "1011", "1000", "1111"], &parameter).await;
            assert_eq!(server.counted().await, 0, "{}: nothing is verified yet", database.kind);
            let first = leader.post_step(&begun.location, 1, &begun.nexts).await;
            assert_eq!(first.is_deferred(), deferring);
            if deferring {
                assert_eq!(first.location, Some(format!("{}?step=1", begun.location)));
            }
            let answer = leader.patiently(first).await;
            assert!(all_finished(&outcomes(&answer, &begun.nexts)));

            // H12, H20: the same bytes, the same answer; the request that began the job finds it where it is.
            assert_eq!(leader.post_step(&begun.location, 1, &begun.nexts).await, answer);
            assert_eq!(leader.post_job(begun.request.clone()).await, answer);
            assert_eq!(leader.follow(Method::GET, &format!("{}?step=1", begun.location)).await, answer);
            for query in ["?step=0", "?step=2"] {
                let other = leader.follow(Method::GET, &format!("{}{query}", begun.location)).await;
                assert_eq!(other.problem(), "stepMismatch");
            }
            assert_eq!(server.tallies().await, [("aggregated".to_owned(), 4)]);
            assert!(!server.keeps_states_of(&begun.location).await, "nothing is kept of a job that is done");

            let request = share_under(&parameter, &begun.ids);
            let share = leader.patiently(leader.post_share(request.encoded()).await).await;
            assert_eq!(share.status, StatusCode::OK, "{share:?}");
            assert_eq!(leader.unshard_under(&parameter, &share.body, &request, &begun.outputs), [1, 2, 1]);
        }
    }
}

/// S85, H14 to H17, H21: every request that does not fit, and the job is as it was.
#[tokio::test]
async fn a_step_that_does_not_fit_is_refused_and_changes_nothing() {
    let (task, database) = (strings(), sqlite());
    let server = server(false, &task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let begun = begin(&leader, &["0010", "1011"], &prefixes(&["0", "1"])).await;
    let [one, two] = &begun.nexts[..] else { panic!("two reports") };
    let unknown = VerifyContinue { report_id: ReportId::new([9; 16]), payload: one.payload.clone() };
    for (step, nexts, problem) in [
        (0, vec![one.clone(), two.clone()], "invalidMessage"),
        (2, vec![one.clone(), two.clone()], "stepMismatch"),
        (u16::MAX, vec![one.clone(), two.clone()], "stepMismatch"),
        (1, Vec::new(), "invalidMessage"),
        (1, vec![one.clone(), one.clone()], "invalidMessage"),
        (1, vec![one.clone(), two.clone(), unknown.clone()], "invalidMessage"),
        (1, vec![unknown], "invalidMessage"),
        (1, vec![two.clone(), one.clone()], "invalidMessage"),
    ] {
        let refused = leader.post_step(&begun.location, step, &nexts).await;
        assert_eq!(refused.problem(), problem, "step {step}, {} reports", nexts.len());
    }
    let good = AggregationJobContinueReq { step: 1, verify_continues: begun.nexts.clone() };
    let good = good.encoded();
    for bytes in [&good[..good.len() - 1], &[good.as_slice(), &[0]].concat(), &[], &[0]] {
        assert_eq!(leader.post_next(&begun.location, bytes.to_vec()).await.problem(), "invalidMessage");
    }
    let elsewhere = format!("{}AAAAAAAAAAAAAAAAAAAAAA", begun.location.trim_end_matches(|c| c != '/'));
    for place in [elsewhere.as_str(), "/api/dap/tasks"] {
        let refused = leader.post_next(place, good.clone()).await;
        assert!(refused.status.is_client_error(), "{place}: {refused:?}");
    }
    assert_eq!(leader.post_next(&elsewhere, good.clone()).await.problem(), "unrecognizedAggregationJob");
    assert_eq!(server.counted().await, 0);
    let answer = leader.post_next(&begun.location, good).await;
    assert!(all_finished(&outcomes(&answer, &begun.nexts)));
    // H20: the step is taken; other bytes for it are refused.
    let other = leader.post_step(&begun.location, 1, &begun.nexts[..1]).await;
    assert_eq!(other.problem(), "stepMismatch");
    assert_eq!(leader.post_step(&begun.location, 2, &begun.nexts).await.problem(), "invalidMessage");
    assert_eq!(server.counted().await, 2);
}

/// H18.
#[tokio::test]
async fn a_report_that_the_leader_has_dropped_is_never_counted() {
    for deferring in [false, true] {
        let (task, database) = (strings(), sqlite());
        let server = server(deferring, &task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let parameter = prefixes(&["0", "1"]);
        let begun = begin(&leader, &["0010", "1011", "1111"], &parameter).await;
        let nexts = [begun.nexts[0].clone(), begun.nexts[2].clone()];
        let answer = leader.patiently(leader.post_step(&begun.location, 1, &nexts).await).await;
        assert!(all_finished(&outcomes(&answer, &nexts)));
        assert_eq!(server.counted().await, 2);
        let late = leader.post_step(&begun.location, 2, &begun.nexts[1..2]).await;
        assert_eq!(late.problem(), "invalidMessage");
    }
}

/// H22: one bad message costs one report.
#[tokio::test]
async fn a_bad_second_message_is_refused_with_its_code_and_the_rest_is_counted() {
    for deferring in [false, true] {
        let (task, database) = (strings(), sqlite());
        let server = server(deferring, &task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let mut begun = begin(&leader, &["0010", "1011", "1111"], &prefixes(&["0", "1"])).await;
        begun.nexts[0].payload = vec![9];
        *begun.nexts[1].payload.last_mut().expect("it has bytes") ^= 1;
        let answer = leader.patiently(leader.post_step(&begun.location, 1, &begun.nexts).await).await;
        let bad = VerifyResult::Reject(ReportError::VdafVerifyError.code(task.draft));
        let outcomes = outcomes(&answer, &begun.nexts);
        assert!(outcomes == [bad.clone(), bad, VerifyResult::Finish]);
        assert_eq!(
            server.tallies().await,
            [("aggregated".to_owned(), 1), ("vdaf_verify_error".to_owned(), 2)]
        );
    }
}

/// S90: a report is counted once, whatever the VDAF would allow.
#[tokio::test]
async fn a_report_that_was_counted_is_not_looked_at_under_longer_prefixes() {
    for database in databases().await {
        let task = strings();
        let server = server(false, &task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let (short, long) = (prefixes(&["0", "1"]), prefixes(&["00", "10", "11"]));
        let shared = reports(&leader, &["0010", "1011"], &short);
        let inits: Vec<_> = shared.iter().map(|report| report.init.clone()).collect();
        let first = leader.post_job(job_under(&short, &shared)).await;
        let location = first.location.clone().expect("a job has a place");
        let answers = verdicts(&first, &shared);
        let mut nexts = Vec::new();
        for (report, answer) in shared.into_iter().zip(answers) {
            let VerifyResult::Continue(message) = answer else { panic!("it goes on") };
            nexts.push(report.proceed(&task, &short, &message).0);
        }
        let second = leader.post_step(&location, 1, &nexts).await;
        assert!(all_finished(&outcomes(&second, &nexts)));
        let fresh = reports(&leader, &["1111"], &long);
        let mut again = leader::request(&fresh);
        again.agg_param = long;
        again.verify_inits.splice(0..0, inits);
        let reply = leader.post_job(again.encoded()).await;
        let answer = AggregationJobResp::decode_limited(&reply.body, 3).expect("an answer");
        let results: Vec<VerifyResult> = answer.verify_resps.into_iter().map(|resp| resp.result).collect();
        let replayed = VerifyResult::Reject(ReportError::ReportReplayed.code(task.draft));
        assert!(results[..2] == [replayed.clone(), replayed], "{}", database.kind);
        assert!(matches!(results[2], VerifyResult::Continue(_)));
    }
}

/// The bucket remembers the parameter that its shares were made under, and H27.
#[tokio::test]
async fn shares_of_two_parameters_are_never_added_up() {
    for database in databases().await {
        let task = strings();
        let server = server(false, &task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let (one, other) = (prefixes(&["0", "1"]), prefixes(&["00", "10"]));
        let (first, second) =
            (begin(&leader, &["0010", "1011"], &one).await, begin(&leader, &["0011", "1000"], &other).await);
        let answer = leader.post_step(&first.location, 1, &first.nexts).await;
        assert!(all_finished(&outcomes(&answer, &first.nexts)));
        let answer = leader.post_step(&second.location, 1, &second.nexts).await;
        let refused = VerifyResult::Reject(ReportError::InvalidMessage.code(task.draft));
        assert!(outcomes(&answer, &second.nexts) == [refused.clone(), refused], "{}", database.kind);
        let wrong = leader.post_share(share_under(&other, &first.ids).encoded()).await;
        assert_eq!(wrong.problem(), "invalidMessage");
        let request = share_under(&one, &first.ids);
        let share = leader.post_share(request.encoded()).await;
        assert_eq!(leader.unshard_under(&one, &share.body, &request, &first.outputs), [1, 1]);
    }
}

#[tokio::test]
async fn a_batch_that_is_collected_between_the_rounds_takes_no_more() {
    let (task, database) = (strings(), sqlite());
    let server = server(false, &task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let parameter = prefixes(&["0", "1"]);
    let (first, late) =
        (begin(&leader, &["0010", "1011"], &parameter).await, begin(&leader, &["0011"], &parameter).await);
    leader.post_step(&first.location, 1, &first.nexts).await;
    let share = leader.post_share(share_under(&parameter, &first.ids).encoded()).await;
    assert_eq!(share.status, StatusCode::OK, "{share:?}");
    let answer = leader.post_step(&late.location, 1, &late.nexts).await;
    let refused = VerifyResult::Reject(ReportError::BatchCollected.code(task.draft));
    assert!(outcomes(&answer, &late.nexts) == [refused]);
}

#[tokio::test]
async fn the_same_step_many_times_at_once_is_taken_once() {
    for deferring in [false, true] {
        for database in databases().await {
            let task = strings();
            let server = server(deferring, &task, &database).await;
            let leader = Arc::new(ScriptedLeader::of(&task, &server));
            let begun = begin(&leader, &["0010", "1011", "1111"], &prefixes(&["0", "1"])).await;
            let mut asked = tokio::task::JoinSet::new();
            for _ in 0..6 {
                let (leader, location, nexts) =
                    (Arc::clone(&leader), begun.location.clone(), begun.nexts.clone());
                asked.spawn(
                    async move { leader.patiently(leader.post_step(&location, 1, &nexts).await).await },
                );
            }
            let answers = asked.join_all().await;
            assert!(all_finished(&outcomes(&answers[0], &begun.nexts)), "{}", database.kind);
            assert!(answers.iter().all(|answer| *answer == answers[0]));
            assert_eq!(server.tallies().await, [("aggregated".to_owned(), 3)]);
        }
    }
}

/// B22: what is needed for the second round outlives the process.
#[tokio::test]
async fn a_job_goes_on_after_the_helper_was_killed_between_the_rounds() {
    for database in databases().await {
        let task = strings();
        let first = server(false, &task, &database).await;
        let begun =
            begin(&ScriptedLeader::of(&task, &first), &["0010", "1011"], &prefixes(&["0", "1"])).await;
        assert!(first.keeps_states_of(&begun.location).await);
        first.kill();
        let again = server(false, &task, &database).await;
        let leader = ScriptedLeader::of(&task, &again);
        let answer = leader.post_step(&begun.location, 1, &begun.nexts).await;
        assert!(all_finished(&outcomes(&answer, &begun.nexts)), "{}", database.kind);
        assert_eq!(leader.post_step(&begun.location, 1, &begun.nexts).await, answer);
        assert_eq!(again.counted().await, 2);
    }
}

#[tokio::test]
async fn a_job_that_is_deleted_between_the_rounds_is_gone_with_its_states() {
    let (task, database) = (strings(), sqlite());
    let server = server(false, &task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let begun = begin(&leader, &["0010", "1011"], &prefixes(&["0", "1"])).await;
    assert_eq!(leader.follow(Method::DELETE, &begun.location).await.status, StatusCode::NO_CONTENT);
    assert!(!server.keeps_states_of(&begun.location).await);
    let refused = leader.post_step(&begun.location, 1, &begun.nexts).await;
    assert_eq!(refused.problem(), "unrecognizedAggregationJob");
    assert_eq!(leader.post_job(begun.request).await.problem(), "unrecognizedAggregationJob");
    assert_eq!(server.counted().await, 0);
}

#[tokio::test]
async fn a_job_of_one_round_has_no_second() {
    let (task, database) = (TestTask::plain(), sqlite());
    let server = server(false, &task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    let location = leader.post_job(job(&reports)).await.location.expect("a job has a place");
    let next = [VerifyContinue { report_id: reports[0].id, payload: vec![1] }];
    for (step, problem) in [(0, "invalidMessage"), (1, "invalidMessage"), (2, "stepMismatch")] {
        assert_eq!(leader.post_step(&location, step, &next).await.problem(), problem, "step {step}");
    }
    assert_eq!(leader.follow(Method::GET, &format!("{location}?step=0")).await.status, StatusCode::OK);
}

/// H6.
#[tokio::test]
async fn a_parameter_that_is_none_fails_the_job() {
    let (task, database) = (strings(), sqlite());
    let server = server(false, &task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = reports(&leader, &["0010"], &prefixes(&["0", "1"]));
    for parameter in [&[][..], &[0; 3], &[0xff; 6], &[0, 0, 0, 0, 0, 1, 0, 0]] {
        let refused = leader.post_job(job_under(parameter, &reports)).await;
        assert_eq!(refused.problem(), "invalidAggregationParameter", "{parameter:?}");
    }
}
