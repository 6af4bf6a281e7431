//! A helper that answers too little, too much, too late or elsewhere: the same bytes again until they are settled, once.

use std::time::{Duration as RealTime, UNIX_EPOCH};

use http::{Method, header};
use mica_dap::problem::Problem;
use mica_service::testing::{databases, sqlite};

use crate::support::act::Answer;
use crate::support::{Act, NOW, World};

const JOBS: &str = "/aggregation_jobs";

/// Does its part, and says it in a way that cannot be understood: the reason that is noted of each.
fn hardships() -> Vec<(&'static str, Act)> {
    let elsewhere = "http://127.0.0.1:1/".to_owned();
    vec![
        ("unreachable", Act::LoseAnswer),
        ("unreachable", Act::change(|answer| answer.torn = true)),
        ("confused", Act::change(|answer| answer.body = vec![0; 17 << 20])),
        ("confused", Act::change(|answer| answer.media = Some("text/html".to_owned()))),
        ("confused", Act::change(|answer| answer.body.truncate(20))),
        ("confused", Act::Say(Answer { status: 307, location: Some(elsewhere), ..Answer::default() })),
        ("confused", Act::status(304)),
        ("failing", Act::status(500)),
        ("failing", Act::status(504)),
        ("busy", Act::status(503)),
        ("busy", Act::status(429)),
        ("unauthorized", Act::status(401)),
        ("unauthorized", Act::status(403)),
        ("unknown_task", Act::problem(Problem::UnrecognizedTask)),
        ("gone", Act::status(404)),
        ("refused", Act::status(400)),
        ("refused", Act::problem(Problem::InvalidMessage)),
        ("refused", Act::problem(Problem::InvalidAggregationParameter)),
        ("deferred", Act::defer(7)),
    ]
}

/// S72, S73.
#[tokio::test]
async fn whatever_the_helper_answers_the_job_is_repeated_and_counted_once_and_says_what_it_waits_for() {
    for database in databases().await {
        let world = World::plain(&database).await;
        let mut acts = hardships();
        if database.kind != "sqlite" {
            // The database has no part in this, and every try waits for the next look.
            acts.retain(|(reason, _)| ["unreachable", "refused"].contains(reason));
        }
        let expected: Vec<&str> = acts.iter().map(|(reason, _)| *reason).collect();
        // The first of them is read before the clock moves on; the others follow each other.
        world.helper.will([Act::busy(503, 900)]);
        assert_eq!(world.upload(&world.reports(&[1, 2, 3])).await, []);
        world.put_off().await;
        let mut told = Vec::new();
        for (_, act) in acts {
            let before = world.helper.received().len();
            world.helper.will([act]);
            let due = world.leader.next_try().await.expect("it is put off");
            world.leader.clock.set(due);
            let deadline = tokio::time::Instant::now() + RealTime::from_secs(10);
            while world.helper.received().len() == before || world.leader.next_try().await.is_none() {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "{told:?}: {:?}",
                    world.leader.troubles().await
                );
                tokio::time::sleep(RealTime::from_millis(10)).await;
            }
            assert_eq!(world.leader.counted().await, 0);
            told.extend(world.leader.reasons().await);
        }
        assert_eq!(told, expected, "{}", database.kind);
        world.settled().await;
        let posted = world.helper.posted(JOBS);
        assert!(posted.iter().all(|body| *body == posted[0]), "{}", database.kind);
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (3, 3));
        assert_eq!(world.total(&world.collected().await), (3, 6));
        world.assert_authorized();
    }
}

/// S72.
#[tokio::test]
async fn a_helper_that_names_a_date_is_asked_again_when_it_has_come() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let date = |seconds| httpdate::fmt_http_date(UNIX_EPOCH + RealTime::from_secs(seconds));
    let told = |status, ahead: u64, by: u64| {
        let headers = vec![(header::DATE, date(NOW + by)), (header::RETRY_AFTER, date(NOW + by + ahead))];
        Answer { status, headers, ..Answer::default() }
    };
    // The helper's own clock may be days off: what counts is the distance.
    world.helper.will([Act::Say(told(503, 500, 86_400)), Act::Say(told(202, 700, 0))]);
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    let (_, seconds) = world.put_off().await;
    // The second that runs has begun already.
    assert_eq!(seconds, 501);
    world.leader.clock.advance(501);
    while world.leader.next_try().await.is_none() || world.helper.received().len() < 2 {
        tokio::time::sleep(RealTime::from_millis(10)).await;
    }
    assert_eq!(world.put_off().await.1, 701);
    world.settled().await;
    assert_eq!(world.helper.posted(JOBS).len(), 3);
    assert_eq!(world.total(&world.collected().await), (2, 3));
}

/// DAP 4.5.3.2: every question about a job says at which step, also where the helper left it out.
#[tokio::test]
async fn a_place_without_a_step_is_asked_with_the_step_and_ever_more_patiently() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let silent = || {
        Act::change(|answer| {
            let location = answer.location.clone();
            answer.defer(1);
            (answer.location, answer.retry_after) = (location, None);
        })
    };
    world.helper.will((0..8).map(|_| silent()));
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.until("dozen of questions", async || world.helper.received().len() >= 8).await;
    let (_, seconds) = world.put_off().await;
    assert!((60..=90).contains(&seconds), "{seconds}");
    world.settled().await;
    let received = world.helper.received();
    let (posts, polls): (Vec<_>, Vec<_>) = received.iter().partition(|one| one.method == Method::POST);
    assert_eq!((posts.len(), polls.len()), (1, 8));
    assert!(polls.iter().all(|poll| poll.target.ends_with("?step=0")), "{polls:?}");
    assert_eq!(world.total(&world.collected().await), (2, 3));
}

/// S73.
#[tokio::test]
async fn a_job_that_is_refused_for_good_is_repeated_ever_more_rarely() {
    let database = sqlite();
    let world = World::plain(&database).await;
    world.helper.will((0..12).map(|_| Act::problem(Problem::InvalidMessage)));
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    let (_, first) = world.put_off().await;
    assert!((30..=45).contains(&first), "{first}");
    world.until("dozen of tries", async || world.helper.posted(JOBS).len() >= 12).await;
    let (why, last) = world.put_off().await;
    assert!((3_600..=5_400).contains(&last), "{last}");
    assert!(why.contains("invalidMessage"), "{why}");
    world.settled().await;
    assert_eq!(world.total(&world.collected().await), (2, 3), "nothing is lost over it");
}
