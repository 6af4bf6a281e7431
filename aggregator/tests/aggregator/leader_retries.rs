//! A leader whose helper fails: the same bytes again, later, and everything is counted once.

use mica_dap::problem::Problem;
use mica_service::testing::databases;

use crate::support::{Act, World};

const JOBS: &str = "/aggregation_jobs";

#[tokio::test]
async fn a_job_whose_answer_was_lost_is_repeated_byte_for_byte_and_counted_once() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will([Act::LoseAnswer, Act::LoseAnswer]);
        assert_eq!(world.upload(&world.reports(&[1, 2, 3])).await, []);
        world.settled().await;
        let posted = world.helper.posted(JOBS);
        assert_eq!(posted.len(), 3, "{}", database.kind);
        assert!(posted.iter().all(|body| *body == posted[0]));
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (3, 3));
        assert_eq!(world.leader.tallies().await, [("aggregated".to_owned(), 3), ("uploaded".to_owned(), 3)]);
        assert_eq!(world.total(&world.collected().await), (3, 6));
        world.assert_authorized();
    }
}

#[tokio::test]
async fn a_helper_that_is_busy_is_asked_again_when_it_wants_to_be() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will([Act::busy(503, 700), Act::busy(429, 40), Act::status(500), Act::status(502)]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        let (why, seconds) = world.put_off().await;
        assert!(why.contains("503"), "{why}");
        assert_eq!(seconds, 701, "the second that runs has begun already: {}", database.kind);
        world.settled().await;
        let posted = world.helper.posted(JOBS);
        assert_eq!(posted.len(), 5, "{}", database.kind);
        assert!(posted.iter().all(|body| *body == posted[0]));
        assert_eq!(world.total(&world.collected().await), (2, 3));
    }
}

#[tokio::test]
async fn a_job_that_is_refused_is_kept_and_says_why_and_is_not_repeated_at_once() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will([Act::problem(Problem::UnrecognizedTask), Act::problem(Problem::InvalidMessage)]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        let (why, seconds) = world.put_off().await;
        assert!(why.contains("unrecognizedTask"), "{why}");
        assert!(seconds >= 1);
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        assert_eq!(world.helper.posted(JOBS).len(), 1, "its time has not come");
        assert_eq!(world.leader.counted().await, 0);
        world.settled().await;
        assert_eq!(world.helper.posted(JOBS).len(), 3);
        assert_eq!(world.total(&world.collected().await), (2, 3));
    }
}

#[tokio::test]
async fn a_leader_that_dies_in_the_middle_of_a_job_sends_the_same_bytes_when_it_is_back() {
    for database in databases().await {
        let mut world = World::plain(&database).await;
        world.helper.will([Act::Hang]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.until("request", async || world.helper.posted(JOBS).len() == 1).await;
        world.restart(&database).await;
        // The lease of the dead one must have ended, where others could have held it.
        world.leader.clock.advance(60);
        world.settled().await;
        let posted = world.helper.posted(JOBS);
        assert_eq!(posted.len(), 2, "{}", database.kind);
        assert_eq!(posted[0], posted[1]);
        assert_eq!(world.helper.honest().jobs(), 1);
        assert_eq!(world.total(&world.collected().await), (2, 3));
    }
}

#[tokio::test]
async fn any_success_with_a_body_is_an_answer() {
    let database = mica_service::testing::sqlite();
    let world = World::plain(&database).await;
    for (status, value) in [(200, 1), (201, 2), (202, 3)] {
        world.helper.will([Act::change(move |answer| answer.status = status)]);
        assert_eq!(world.upload(&world.reports(&[value])).await, []);
        world.settled().await;
    }
    assert_eq!(world.helper.posted(JOBS).len(), 3);
    assert_eq!(world.total(&world.collected().await), (3, 6));
}

#[tokio::test]
async fn an_answer_of_another_media_type_is_no_answer() {
    let database = mica_service::testing::sqlite();
    let world = World::plain(&database).await;
    let media =
        |media: Option<&'static str>| Act::change(move |answer| answer.media = media.map(str::to_owned));
    world.helper.will([media(Some("text/html")), media(None), media(Some("application/ppm-dap"))]);
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    let (why, _) = world.put_off().await;
    assert!(why.contains("media type"), "{why}");
    world.settled().await;
    assert_eq!(world.helper.posted(JOBS).len(), 4);
    assert_eq!(world.total(&world.collected().await), (2, 3));
}
