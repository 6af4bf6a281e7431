//! A helper that takes its time: the leader comes back when it was told to, to the place it was told, with its token,
//! and never shows that token to anybody else.

use http::Method;
use mica_dap::problem::Problem;
use mica_service::testing::{databases, sqlite};
use tokio::net::TcpListener;

use crate::support::act::Answer;
use crate::support::{Act, World};

const JOBS: &str = "/aggregation_jobs";

/// The requests the helper got, without what they have in common.
fn asked(world: &World) -> Vec<(Method, String)> {
    let base = format!("/helper/dap/tasks/{}", world.task.id);
    let tail = |target: &str| target.strip_prefix(&base).expect("below the endpoint").to_owned();
    world.helper.received().iter().map(|received| (received.method.clone(), tail(&received.target))).collect()
}

#[tokio::test]
async fn a_deferred_job_is_polled_with_its_step_until_it_is_ready() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will([Act::defer(900), Act::defer(20)]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        let (_, seconds) = world.put_off().await;
        assert_eq!(seconds, 901, "the second that runs has begun already: {}", database.kind);
        assert_eq!(world.leader.counted().await, 0);
        world.settled().await;
        let asked = asked(&world);
        assert_eq!(asked[0], (Method::POST, JOBS.to_owned()));
        assert_eq!(asked.len(), 3, "{asked:?}");
        for (method, target) in &asked[1..] {
            assert_eq!(*method, Method::GET);
            assert!(target.starts_with(JOBS) && target.ends_with("?step=0"), "{target}");
        }
        world.assert_authorized();
        assert_eq!(world.total(&world.collected().await), (2, 3));
    }
}

#[tokio::test]
async fn a_location_is_understood_however_it_is_written() {
    for form in ["absolute path", "whole URL", "path without the base", "relative"] {
        let database = sqlite();
        let world = World::plain(&database).await;
        let origin = world.task.configuration.helper_url().trim_end_matches("/helper/dap/").to_owned();
        let rewrite = move |answer: &mut Answer| {
            answer.defer(1);
            let path = answer.location.take().expect("a deferred job has a place");
            let below = path.strip_prefix("/helper/dap").expect("it is below the endpoint").to_owned();
            answer.location = Some(match form {
                "whole URL" => origin + &path,
                "path without the base" => below,
                "relative" => below.trim_start_matches('/').to_owned(),
                _ => path,
            });
        };
        world.helper.will([Act::change(rewrite)]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        let methods: Vec<Method> = asked(&world).into_iter().map(|(method, _)| method).collect();
        assert_eq!(methods, [Method::POST, Method::GET], "{form}");
        world.assert_authorized();
        assert_eq!(world.leader.counted().await, 2);
    }
}

#[tokio::test]
async fn a_location_elsewhere_never_sees_the_token() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let trap = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let elsewhere = format!("http://{}", trap.local_addr().expect("it is bound"));
    world.helper.will([Act::change(move |answer| {
        answer.defer(1);
        answer.location = answer.location.take().map(|path| elsewhere + &path);
    })]);
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.settled().await;
    let caller = tokio::time::timeout(std::time::Duration::from_millis(300), trap.accept()).await;
    assert!(caller.is_err(), "nobody goes there");
    assert_eq!(world.leader.counted().await, 2);
}

#[tokio::test]
async fn a_deferred_job_without_a_place_is_posted_again() {
    let database = sqlite();
    let world = World::plain(&database).await;
    let nowhere = |location: Option<&'static str>| {
        Act::change(move |answer| {
            answer.defer(5);
            answer.location = location.map(str::to_owned);
        })
    };
    world.helper.will([nowhere(None), nowhere(Some("/somewhere/else?step=0")), nowhere(Some(""))]);
    assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
    world.settled().await;
    let posted = world.helper.posted(JOBS);
    assert_eq!(posted.len(), 4);
    assert!(posted.iter().all(|body| *body == posted[0]));
    assert_eq!(world.leader.counted().await, 2);
}

#[tokio::test]
async fn a_deferred_job_that_the_helper_has_lost_is_posted_again() {
    for lost in [404, 410] {
        let database = sqlite();
        let world = World::plain(&database).await;
        let unknown = || Act::problem(Problem::UnrecognizedAggregationJob);
        world.helper.will([Act::defer(1), Act::status(lost), Act::defer(1), unknown()]);
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        let posted = world.helper.posted(JOBS);
        assert_eq!(posted.len(), 3);
        assert!(posted.iter().all(|body| *body == posted[0]));
        assert_eq!(world.leader.counted().await, 2);
    }
}
