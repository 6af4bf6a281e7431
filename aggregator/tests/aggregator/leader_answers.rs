//! A helper that answers wrong: nothing is counted on its word, and no job is given up.

use mica_dap::aggregation::{VerifyResp, VerifyResult};
use mica_dap::id::ReportId;
use mica_dap::report_error::ReportError;
use mica_service::testing::{databases, sqlite};

use crate::support::{Act, World};

const JOBS: &str = "/aggregation_jobs";

/// Answers that are not about the reports of the job, one of each kind.
fn confused() -> Vec<Act> {
    let stranger = || ReportId::new([9; 16]);
    vec![
        Act::tamper(|resps| resps.reverse()),
        Act::tamper(|resps| resps.truncate(2)),
        Act::tamper(move |resps| {
            resps.push(VerifyResp { report_id: stranger(), result: VerifyResult::Reject(1) });
        }),
        Act::tamper(|resps| resps.insert(0, resps[0].clone())),
        Act::tamper(|resps| resps[1] = resps[0].clone()),
        Act::tamper(move |resps| resps[0].report_id = stranger()),
        Act::tamper(|resps| resps[2].result = VerifyResult::Finish),
        Act::change(|answer| answer.body.truncate(answer.body.len() - 1)),
        Act::change(|answer| answer.body.push(0)),
        Act::change(|answer| answer.body = b"<html>".to_vec()),
    ]
}

#[tokio::test]
async fn an_answer_about_other_reports_counts_nothing_and_loses_nothing() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let mut wrong = confused();
        // The database has no part in this, and every try waits for the next look.
        wrong.truncate(if database.kind == "sqlite" { wrong.len() } else { 2 });
        let tries = wrong.len();
        world.helper.will(wrong);
        assert_eq!(world.upload(&world.reports(&[1, 2, 3])).await, []);
        let nearly = async || {
            let seen = world.helper.posted(JOBS).len();
            assert!(seen > tries || world.leader.counted().await == 0, "{}", database.kind);
            seen >= tries
        };
        world.until("patience", nearly).await;
        world.settled().await;
        let posted = world.helper.posted(JOBS);
        assert_eq!(posted.len(), tries + 1, "{}", database.kind);
        assert!(posted.iter().all(|body| *body == posted[0]));
        assert_eq!(world.leader.tallies().await, [("aggregated".to_owned(), 3), ("uploaded".to_owned(), 3)]);
        assert_eq!(world.total(&world.collected().await), (3, 6));
    }
}

#[tokio::test]
async fn a_job_that_is_never_answered_well_stays_and_says_why() {
    let database = sqlite();
    let world = World::plain(&database).await;
    world.helper.will((0..100).map(|_| Act::tamper(|resps| resps.reverse())));
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.until("dozen of tries", async || world.helper.posted(JOBS).len() >= 8).await;
    assert_eq!(world.leader.unsettled().await, (1, 1));
    assert_eq!(world.leader.counted().await, 0);
    let (why, seconds) = world.put_off().await;
    assert!(why.contains("another order"), "{why}");
    assert!((60..=90).contains(&seconds), "it has become patient: {seconds}");
}

#[tokio::test]
async fn a_report_is_refused_with_the_code_that_the_helper_gives_and_the_others_count() {
    for database in databases().await {
        let world = World::plain(&database).await;
        // What is too early comes again; see there.
        let early = ReportError::ReportTooEarly.code(world.task.draft);
        let codes: Vec<u8> = (1..=12).filter(|code| *code != early).chain([0, 77, 255]).collect();
        let given = codes.clone();
        world.helper.will([Act::tamper(move |resps| {
            for (resp, code) in resps.iter_mut().zip(given) {
                resp.result = VerifyResult::Reject(code);
            }
        })]);
        let values: Vec<u64> = (1..=16).collect();
        assert_eq!(world.upload(&world.reports(&values)).await, []);
        world.settled().await;
        let mut expected = vec![("aggregated".to_owned(), 2), ("uploaded".to_owned(), 16)];
        for code in codes {
            let label = ReportError::from_code(code, world.task.draft).label().to_owned();
            match expected.iter_mut().find(|(known, _)| *known == label) {
                Some((_, reports)) => *reports += 1,
                None => expected.push((label, 1)),
            }
        }
        expected.sort_unstable();
        assert_eq!(world.leader.tallies().await, expected, "{}", database.kind);
        assert_eq!(world.leader.counted().await, 2);
        assert_eq!(world.helper.posted(JOBS).len(), 1, "what was refused is not sent again");
    }
}

#[tokio::test]
async fn a_report_that_the_helper_continues_with_garbage_is_dropped_alone() {
    let database = sqlite();
    let world = World::plain(&database).await;
    world.helper.will([Act::tamper(|resps| {
        resps[0].result = VerifyResult::Continue(b"garbage".to_vec());
        let VerifyResult::Continue(message) = &mut resps[1].result else { panic!("it is valid") };
        message[0] = 1;
        let VerifyResult::Continue(message) = &mut resps[2].result else { panic!("it is valid") };
        *message.last_mut().expect("not empty") ^= 1;
    })]);
    assert_eq!(world.upload(&world.reports(&[1, 2, 3, 4])).await, []);
    world.settled().await;
    assert_eq!(
        world.leader.tallies().await,
        [("aggregated", 1), ("uploaded", 4), ("vdaf_verify_error", 3)].map(|(name, n)| (name.to_owned(), n))
    );
    assert_eq!(world.helper.posted(JOBS).len(), 1);
}

#[tokio::test]
async fn a_share_that_the_leader_cannot_open_never_gets_to_the_helper() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let mut reports = world.reports(&[1, 2, 3, 4]);
        for flawed in &mut reports[1..3] {
            *flawed.leader_encrypted_input_share.payload.last_mut().expect("not empty") ^= 1;
        }
        assert_eq!(world.upload(&reports[1..3]).await, []);
        world.settled().await;
        assert_eq!(world.helper.received(), [], "{}: there is nothing to ask", database.kind);
        world.helper.will([Act::LoseAnswer]);
        assert_eq!(world.upload(&[reports[0].clone(), reports[3].clone()]).await, []);
        world.settled().await;
        assert_eq!(world.upload(&reports).await, [ReportError::ReportReplayed; 4]);
        assert_eq!(
            world.leader.tallies().await,
            [("aggregated", 2), ("hpke_decrypt_error", 2), ("report_replayed", 4), ("uploaded", 4)]
                .map(|(name, n)| (name.to_owned(), n))
        );
        assert_eq!(world.total(&world.collected().await), (2, 5));
    }
}

#[tokio::test]
async fn a_job_that_is_too_large_for_the_helper_is_sent_in_parts() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will([Act::status(413), Act::status(413), Act::Honest, Act::LoseAnswer]);
        assert_eq!(world.upload(&world.reports(&[1, 2, 3, 4, 5])).await, []);
        world.settled().await;
        assert!(world.helper.honest().jobs() >= 3, "{}", database.kind);
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (5, 5));
        assert_eq!(world.leader.tallies().await, [("aggregated".to_owned(), 5), ("uploaded".to_owned(), 5)]);
        assert_eq!(world.total(&world.collected().await), (5, 15));
    }
}

#[tokio::test]
async fn what_was_accepted_before_the_batch_closed_is_in_it_even_if_its_job_is_sent_in_parts() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let (first, second) = (Act::busy(503, 600), Act::busy(503, 900));
        world.helper.will([first, second, Act::Honest, Act::status(413)]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.put_off().await;
        let location = world.collect().await.location.expect("a job has a place");
        assert_eq!(world.upload(&world.reports(&[3, 4])).await, []);
        while world.leader.troubles().await.len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let answer = world.concluded(&location).await;
        assert_eq!(world.total(&answer), (4, 10), "{}", database.kind);
        assert_eq!(world.leader.tallies().await, [("aggregated".to_owned(), 4), ("uploaded".to_owned(), 4)]);
    }
}
