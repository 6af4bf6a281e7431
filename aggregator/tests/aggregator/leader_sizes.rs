//! Jobs as large as the helper takes them, and no larger: cut where nothing can be in doubt, and never else.

use mica_aggregator::shared::Limits;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_service::testing::{databases, sqlite};

use crate::leader_selected;
use crate::support::act::Answer;
use crate::support::task::Kind;
use crate::support::{Act, NOW, World};

const JOBS: &str = "/aggregation_jobs";

#[tokio::test]
async fn a_leader_learns_how_large_jobs_may_be_and_forms_them_so() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.takes_at_most(1_000);
        let values: Vec<u64> = (1..=12).collect();
        assert_eq!(world.upload(&world.reports(&values)).await, []);
        world.settled().await;
        let refused = world.helper.posted(JOBS).iter().filter(|body| body.len() > 1_000).count();
        assert!(refused >= 1, "{}", database.kind);
        // One segment larger than a job, and some that could share one.
        assert_eq!(world.upload(&world.reports(&values)).await, []);
        for value in &values {
            assert_eq!(world.upload(&world.reports(&[*value])).await, []);
        }
        world.settled().await;
        let posted = world.helper.posted(JOBS);
        let too_large = posted.iter().filter(|body| body.len() > 1_000).count();
        assert_eq!(too_large, refused, "{}: what was learnt is not asked again", database.kind);
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (36, 36));
        // A day later the helper may have more room.
        world.helper.takes_at_most(usize::MAX);
        world.leader.clock.advance(86_400);
        let later: Vec<_> = values.iter().map(|value| world.report_at(*value, NOW)).collect();
        assert_eq!(world.upload(&later).await, []);
        world.settled().await;
        assert!(world.helper.posted(JOBS).iter().skip(posted.len()).any(|body| body.len() > 1_000));
        assert_eq!(world.total(&world.collected().await), (48, 4 * 78));
    }
}

#[tokio::test]
async fn a_job_that_the_helper_may_have_counted_is_never_cut_in_two() {
    for database in databases().await {
        let world = World::plain(&database).await;
        // More than one refusal: however the steps fall, the job is still refused when it is looked at.
        let refusals = [Act::status(413), Act::status(413), Act::status(413)];
        world.helper.will([Act::LoseAnswer, Act::busy(503, 1)].into_iter().chain(refusals));
        assert_eq!(world.upload(&world.reports(&[1, 2, 3, 4])).await, []);
        world.until("refusal", async || world.leader.reasons().await == ["too_large"]).await;
        let (why, _) = world.put_off().await;
        assert!(why.contains("may have counted"), "{}: {why}", database.kind);
        assert_eq!(world.leader.reasons().await, ["too_large"]);
        world.settled().await;
        let posted = world.helper.posted(JOBS);
        assert!(posted.len() == 6 && posted.iter().all(|body| *body == posted[0]));
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (4, 4));
        assert_eq!(world.total(&world.collected().await), (4, 10));
    }
}

#[tokio::test]
async fn a_job_that_a_proxy_may_have_passed_on_is_never_cut_in_two() {
    for status in [503, 408, 425, 400, 401, 403, 409, 422, 451] {
        // The database has no part in this: one status on each.
        let all = if status == 503 { databases().await } else { vec![sqlite()] };
        for database in all {
            let world = World::plain(&database).await;
            // The helper has counted the job; who says this is not the helper.
            let proxy = Act::change(move |answer| *answer = Answer { status, ..Answer::default() });
            world.helper.will([proxy, Act::status(413), Act::status(413), Act::status(413)]);
            assert_eq!(world.upload(&world.reports(&[1, 2, 3, 4])).await, []);
            world.until("refusal", async || world.leader.reasons().await == ["too_large"]).await;
            let (why, _) = world.put_off().await;
            assert!(why.contains("may have counted"), "{status} on {}: {why}", database.kind);
            world.settled().await;
            let posted = world.helper.posted(JOBS);
            assert!(posted.len() == 5 && posted.iter().all(|body| *body == posted[0]), "{status}");
            assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (4, 4));
            assert_eq!(world.total(&world.collected().await), (4, 10));
        }
    }
}

#[tokio::test]
async fn a_job_is_in_doubt_from_the_moment_it_leaves_and_not_before() {
    for database in databases().await {
        let mut world = World::plain(&database).await;
        world.helper.will([Act::busy(429, 60), Act::Hang]);
        assert_eq!(world.upload(&world.reports(&[1, 2, 3, 4])).await, []);
        world.put_off().await;
        assert_eq!(world.leader.in_doubt().await, 0, "{}: it was turned away", database.kind);
        let due = world.leader.next_try().await.expect("it is put off");
        world.leader.clock.set(due);
        world.until("second request", async || world.helper.posted(JOBS).len() == 2).await;
        // Nobody comes back to say what became of it, and whoever takes it up next is refused.
        world.helper.takes_at_most(100);
        world.restart(&database).await;
        // Where others could hold it, the job is taken up when its lease is over.
        world.leader.clock.advance(16);
        assert_eq!(world.leader.in_doubt().await, 1, "{}", database.kind);
        world.until("refusal", async || world.leader.reasons().await == ["too_large"]).await;
        world.helper.takes_at_most(usize::MAX);
        world.settled().await;
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (4, 4));
    }
}

#[tokio::test]
async fn a_job_that_never_left_or_was_turned_away_is_cut_in_two_when_it_is_too_large() {
    let overloaded = || {
        let body = format!(r#"{{"type":"{}","status":503}}"#, mica_aggregator::error::OVERLOADED);
        Act::Say(Answer { status: 503, body: body.into_bytes(), ..Answer::default() })
    };
    for database in databases().await {
        let mut world = World::plain(&database).await;
        world.helper.leave().await;
        assert_eq!(world.upload(&world.reports(&[1, 2, 3, 4])).await, []);
        world.put_off().await;
        assert_eq!(world.leader.reasons().await, ["unreachable"]);
        world.helper.come_back().await;
        world.helper.will([Act::busy(429, 1), overloaded(), Act::status(413)]);
        world.settled().await;
        let posted = world.helper.posted(JOBS);
        // What was learnt from the 413 makes four of it.
        assert_eq!(posted.len(), 3 + 4, "{}", database.kind);
        assert!(posted[1..3].iter().all(|body| *body == posted[0]));
        assert!(posted[3..].iter().all(|body| body.len() < posted[0].len() / 2));
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (4, 4));
        assert_eq!(world.total(&world.collected().await), (4, 10));
    }
}

#[tokio::test]
async fn a_moment_of_refusals_makes_jobs_small_for_some_minutes_and_no_longer() {
    for database in databases().await {
        let world = World::plain(&database).await;
        world.helper.will((0..8).map(|_| Act::status(413)));
        let values: Vec<u64> = (0..64).map(|value| value % 50).collect();
        assert_eq!(world.upload(&world.reports(&values)).await, []);
        world.settled().await;
        let small = world.helper.posted(JOBS).len();
        assert!(small > 8 + 8, "{}: {small}", database.kind);
        world.leader.clock.advance(3 * 3_600);
        let later: Vec<_> = values.iter().map(|value| world.report_at(*value, NOW)).collect();
        assert_eq!(world.upload(&later).await, []);
        world.settled().await;
        assert_eq!(world.helper.posted(JOBS).len(), small + 1, "{}: one job again", database.kind);
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (128, 128));
    }
}

#[tokio::test]
async fn jobs_for_batches_of_the_leaders_choice_are_no_larger_than_the_helper_takes_either() {
    for database in databases().await {
        let world = World::start(leader_selected::kind(100), &database).await;
        world.helper.takes_at_most(1_000);
        let values: Vec<u64> = (1..=12).collect();
        let refused = || world.helper.posted(JOBS).iter().filter(|body| body.len() > 1_000).count();
        assert_eq!(world.upload(&world.reports(&values)).await, []);
        world.settled().await;
        let learnt = refused();
        assert!(learnt >= 1, "{}", database.kind);
        assert_eq!(world.upload(&world.reports(&values)).await, []);
        world.settled().await;
        assert_eq!(refused(), learnt, "{}: what was learnt is not asked again", database.kind);
        let tallies = [("aggregated", 24), ("uploaded", 24)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!((world.leader.tallies().await, world.helper.honest().counted()), (tallies.into(), 24));
    }
}

/// S32: the answer is lost with the connection more often than not; what did not leave whole was not counted.
#[tokio::test]
async fn a_job_that_is_refused_unread_is_cut_whether_or_not_the_refusal_is_heard() {
    for (database, answers) in [(sqlite(), true), (sqlite(), false)] {
        let vdaf = VdafConfig::Poplar1 { bits: 256 };
        let kind = Kind { vdaf: vdaf.clone(), prefixes: &["0", "1"], ..Kind::default() };
        let world = World::start(kind, &database).await;
        world.helper.reads_at_most(200 << 10, answers);
        let text = "01".repeat(128);
        let measurement = Measurement::parse(&vdaf, &text).expect("so many bits");
        let report = |_| world.builder.report(&measurement, NOW).expect("a fitting measurement");
        let reports: Vec<_> = (0..24).map(report).collect();
        assert_eq!(world.upload(&reports).await, []);
        world.settled().await;
        let sent = world.helper.posted(JOBS);
        assert!(sent.len() >= 2, "{answers}: it was too large at first");
        assert!(sent.iter().all(|body| body.len() > 10 << 10 && body.len() <= 200 << 10), "{answers}");
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (24, 24), "{answers}");
        assert_eq!(world.totals(&world.collected().await), (24, vec![24, 0]), "{answers}");
    }
}

#[tokio::test]
async fn a_job_larger_than_the_leaders_own_limit_is_cut_before_it_is_sent() {
    let database = sqlite();
    let world = World::plain(&database).await;
    // One commit, hence one segment; then the operator lowers the limit.
    world.helper.will([Act::busy(503, 600)]);
    assert_eq!(world.upload(&world.reports(&[1])).await, []);
    world.put_off().await;
    let limits = Limits { job_bytes: 700, ..Limits::default() };
    let small =
        crate::support::Server::limited(mica_aggregator::Role::Leader, &world.task, &database, limits).await;
    small.clock.set(world.leader.clock.now());
    assert_eq!(world.upload_to(&small, &world.reports(&[2, 3, 4, 5, 6, 7])).await, []);
    world.settled().await;
    assert!(world.helper.posted(JOBS).iter().all(|body| body.len() <= 700));
    assert_eq!(world.total(&world.collected().await), (7, 28));
}

#[tokio::test]
async fn reports_of_megabytes_are_verified_one_by_one() {
    let database = sqlite();
    let vdaf = VdafConfig::sum_vec(65_536, 1);
    let limits = Limits { job_bytes: 1 << 20, ..Limits::default() };
    let world = World::limited(Kind { vdaf, ..Kind::default() }, &database, limits).await;
    let mut ones = vec![0; 65_536];
    ones[0] = 1;
    for _ in 0..3 {
        let report = world.builder.report(&Measurement::Vector(ones.clone()), NOW).expect("a report");
        assert_eq!(world.upload(&[report]).await, []);
    }
    world.settled().await;
    assert_eq!(world.helper.posted(JOBS).len(), 3, "each is larger than a job, and a job by itself");
    assert_eq!(world.total(&world.collected().await), (3, 3));
}
