//! Refusals as people read them, and answers that are not to the question. Whole collections are shown in `tests/journey.rs`.

use mica_dap::Draft;
use mica_dap::id::TaskId;
use mica_dap::problem::Problem;
use mica_dap::time::{Duration as Units, Time};
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::Policy;
use mica_service::secret::Secret;

use super::*;
use crate::Guarantee;
use crate::fixtures::{plan_of, task};

fn answered(status: u16, body: &[u8]) -> CollectError {
    let response = Response::builder().status(status).body(Bytes::copy_from_slice(body));
    refusal(&response.expect("a response"))
}

#[test]
fn a_refusal_with_a_name_is_shown_and_only_one_without_is_about_the_token() {
    let expired = br#"{"type":"urn:x-mica:problem:exception-expired","status":403}"#;
    assert!(matches!(answered(403, expired), CollectError::Refused(problem) if problem.status == Some(403)));
    let overlap = ProblemDocument::new(Problem::BatchOverlap).to_json();
    assert!(matches!(answered(400, &overlap), CollectError::Refused(_)));
    for nameless in [&b""[..], b"no", br#"{"type":"about:blank","status":403}"#] {
        assert_eq!(answered(403, nameless), CollectError::Unauthorized);
        assert_eq!(answered(400, nameless), CollectError::Failed { status: 400, detail: None });
    }
    let why = br#"{"type":"about:blank","detail":"no such\u001b[2J collection"}"#;
    assert_eq!(answered(404, why).to_string(), "the leader answered 404: no such[2J collection");
    assert_eq!(answered(401, expired), CollectError::Unauthorized);
    assert_eq!((answered(503, b""), answered(429, expired)), (CollectError::Busy(1), CollectError::Busy(1)));
    assert_eq!(answered(500, expired), CollectError::Failed { status: 500, detail: None });
}

#[test]
fn a_leader_that_names_a_date_is_left_alone_until_then() {
    for (value, seconds) in [("Sun, 06 Nov 1994 08:50:07 GMT", 30), ("7", 7), ("soon", 1)] {
        let busy = Response::builder()
            .status(503)
            .header(header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT")
            .header(header::RETRY_AFTER, value)
            .body(Bytes::new());
        assert_eq!(refusal(&busy.expect("a response")), CollectError::Busy(seconds), "{value}");
    }
}

#[test]
fn the_result_of_a_batch_that_is_longer_than_its_noise_was_made_for_is_not_told() {
    let plan = plan_of(&Policy::for_demo_with_clients("t", &VdafConfig::Count, 10, "1/2"));
    let configuration = task(&plan.statement().task_info("t").expect("a short label"));
    let guarantee = Guarantee::of(plan.export(), &configuration).expect("it is the task's");
    let mut task = CollectorTask {
        task_id: TaskId::new([1; 32]),
        draft: Draft::V18,
        guarantee: Some(guarantee),
        configuration,
        token: Secret::new("a token".to_owned()),
        keypair: hpke::HpkeKeypair::generate(1, &mut rand::rng()),
        mechanism: Some(plan.mechanism().clone()),
        aggregation_parameter: Vec::new(),
    };
    // In units of a minute; clients count in pieces of 30 days.
    let piece = 30 * 24 * 60;
    let asked = |task: &CollectorTask, start, units| {
        let interval = Interval::new(Time(start), Units(units)).expect("an interval");
        check_length(task, &CollectionJobReq::new(Query::time_interval(interval), Vec::new()))
    };
    assert_eq!(asked(&task, piece, piece), Ok(()));
    for (start, units) in [(piece - 1, 2), (0, piece + 1), (0, 2 * piece)] {
        let refused = asked(&task, start, units);
        assert!(matches!(&refused, Err(CollectError::Answer(why)) if why.contains("longer")), "{refused:?}");
    }
    task.guarantee = None;
    assert_eq!(asked(&task, 0, 2 * piece), Ok(()), "there is no noise");
}

#[test]
fn an_answer_about_another_interval_or_too_few_reports_is_not_taken() {
    let task = task(b"test");
    let interval = |start, units| Interval::new(Time(start), Units(units)).expect("an interval");
    let request = CollectionJobReq::new(Query::time_interval(interval(10, 5)), Vec::new());
    let sealed = || HpkeCiphertext { config_id: 0, enc: vec![0], payload: vec![0] };
    let answer = |report_count, interval| {
        let response = CollectionJobResp {
            report_count,
            interval,
            leader_encrypted_agg_share: sealed(),
            helper_encrypted_agg_share: sealed(),
        };
        check(&task, request.bytes(), &response).map(drop)
    };
    assert_eq!(answer(10, interval(10, 5)), Ok(()));
    assert_eq!(answer(11, interval(12, 1)), Ok(()));
    assert!(matches!(answer(9, interval(10, 5)), Err(CollectError::Answer(_))));
    for outside in [interval(9, 2), interval(14, 2), interval(20, 1)] {
        assert!(matches!(answer(10, outside), Err(CollectError::Answer(_))));
    }
}
