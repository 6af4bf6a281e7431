//! DAP 4.5.4.1: a leader whose jobs take two rounds, with Poplar1 and a helper that fails between them.

use bytes::Bytes;
use http::StatusCode;
use mica_aggregator::enrol::Rules;
use mica_aggregator::{Role, TaskFile};
use mica_dap::aggregation::{AggregationJobContinueReq, AggregationJobInitReq, VerifyResult};
use mica_dap::collection::{CollectionJobReq, Query};
use mica_dap::id::ReportId;
use mica_dap::media::Media;
use mica_dap::report::Report;
use mica_dap::report_error::ReportError;
use mica_dap::vdaf::{Measurement, encode_prefixes};
use mica_dap::vdaf_config::VdafConfig;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::testing::{TestDatabase, databases, sqlite};

use crate::support::task::Kind;
use crate::support::world::hour;
use crate::support::{Act, NOW, TestTask, World};

const JOBS: &str = "/aggregation_jobs";
const STRINGS: VdafConfig = VdafConfig::Poplar1 { bits: 4 };

pub(crate) fn kind() -> Kind {
    Kind { vdaf: STRINGS, prefixes: &["00", "10", "11"], ..Kind::default() }
}

async fn world(database: &TestDatabase) -> World {
    World::start(kind(), database).await
}

pub(crate) fn reports(world: &World, strings: &[&str]) -> Vec<Report> {
    let report = |text: &&str| {
        let measurement = Measurement::parse(&STRINGS, text).expect("four bits");
        world.builder.report(&measurement, NOW).expect("a fitting measurement")
    };
    strings.iter().map(report).collect()
}

/// The bodies of the requests for a second step, in the order they came.
fn continuations(world: &World) -> Vec<Bytes> {
    let next = Media::AggregationJobContinueReq;
    let all = world.helper.received().into_iter();
    all.filter(|it| it.media.as_deref().is_some_and(|it| next.matches(it))).map(|it| it.body).collect()
}

/// Who is asked about, in the first request and in the second.
fn asked(world: &World) -> (Vec<ReportId>, Vec<ReportId>) {
    let init = AggregationJobInitReq::decode_limited(&world.helper.posted(JOBS)[0], 100).expect("a job");
    let next = AggregationJobContinueReq::decode_limited(&continuations(world)[0], 100).expect("a step");
    assert_eq!((&init.agg_param, next.step), (&world.task.aggregation_parameter, 1));
    let first = init.verify_inits.iter().map(|init| init.report_share.metadata.report_id);
    (first.collect(), next.verify_continues.iter().map(|next| next.report_id).collect())
}

/// S79.
#[tokio::test]
async fn a_leader_counts_prefixes_in_two_rounds() {
    for database in databases().await {
        let world = world(&database).await;
        assert_eq!(world.upload(&reports(&world, &["0010", "1011", "1000", "1111", "0100"])).await, []);
        world.settled().await;
        assert_eq!((world.helper.posted(JOBS).len(), continuations(&world).len()), (1, 1));
        let (first, second) = asked(&world);
        assert_eq!(first, second, "in the order of the first request");
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (5, 5));
        assert_eq!(world.totals(&world.collected().await), (5, vec![1, 2, 1]));
        world.assert_authorized();
    }
}

#[tokio::test]
async fn a_second_step_whose_answer_was_lost_is_repeated_byte_for_byte_and_counted_once() {
    for database in databases().await {
        let world = world(&database).await;
        world.helper.will([Act::Honest, Act::LoseAnswer, Act::LoseAnswer]);
        assert_eq!(world.upload(&reports(&world, &["0010", "1011", "1111"])).await, []);
        world.settled().await;
        assert_eq!(world.helper.posted(JOBS).len(), 1, "{}: its answer is kept", database.kind);
        let steps = continuations(&world);
        assert_eq!(steps.len(), 3);
        assert!(steps.iter().all(|body| *body == steps[0]));
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (3, 3));
        assert_eq!(world.leader.tallies().await, [("aggregated".to_owned(), 3), ("uploaded".to_owned(), 3)]);
        assert_eq!(world.totals(&world.collected().await), (3, vec![1, 1, 1]));
    }
}

#[tokio::test]
async fn a_leader_that_dies_between_the_rounds_goes_on_with_the_second() {
    for database in databases().await {
        let mut world = world(&database).await;
        world.helper.will([Act::Honest, Act::Hang]);
        assert_eq!(world.upload(&reports(&world, &["0010", "1011", "1100"])).await, []);
        world.until("second step", async || continuations(&world).len() == 1).await;
        world.restart(&database).await;
        // The lease of the dead one must have ended.
        world.leader.clock.advance(60);
        world.settled().await;
        assert_eq!(world.helper.posted(JOBS).len(), 1, "{}: the first is not asked again", database.kind);
        let steps = continuations(&world);
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[0], steps[1]);
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (3, 3));
        assert_eq!(world.totals(&world.collected().await), (3, vec![1, 1, 1]));
    }
}

/// L26.
#[tokio::test]
async fn a_report_that_is_refused_in_the_first_round_is_left_out_of_the_second() {
    for database in databases().await {
        let world = world(&database).await;
        let code = ReportError::VdafVerifyError.code(world.task.draft);
        world.helper.will([Act::tamper(move |resps| resps[1].result = VerifyResult::Reject(code))]);
        assert_eq!(world.upload(&reports(&world, &["0010", "1011", "1100"])).await, []);
        world.settled().await;
        let (first, second) = asked(&world);
        assert_eq!([first[0], first[2]], second[..], "{}", database.kind);
        assert_eq!((world.leader.counted().await, world.helper.honest().counted()), (2, 2));
        let tallies = world.leader.tallies().await;
        assert!(tallies.contains(&(ReportError::VdafVerifyError.label().to_owned(), 1)), "{tallies:?}");
        let (reports, totals) = world.totals(&world.collected().await);
        assert_eq!((reports, totals.iter().sum::<i128>()), (2, 2));
    }
}

#[tokio::test]
async fn a_collection_under_another_parameter_than_the_task_s_is_refused() {
    let database = sqlite();
    let world = world(&database).await;
    let under = |parameter| CollectionJobReq::new(Query::time_interval(hour()), parameter);
    for prefixes in [&["00", "10"][..], &["0", "1"], &["00", "01", "10", "11"]] {
        let other = under(encode_prefixes(4, prefixes).expect("prefixes"));
        let refused = world.collect_by(&world.leader, &other).await;
        assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::BAD_REQUEST, "invalidMessage"));
    }
    for none in [Vec::new(), vec![0, 9, 0, 0, 0, 1, 0]] {
        let refused = world.collect_by(&world.leader, &under(none)).await;
        assert_eq!(refused.problem(), "invalidAggregationParameter");
    }
    assert_eq!(world.collect().await.status, StatusCode::OK, "the task's own is taken");
}

#[test]
fn a_leader_is_not_given_a_task_without_what_it_is_to_count() {
    let strings = TestTask::new(&kind());
    let text = strings.file(Role::Leader).to_toml();
    let line = "prefixes = [\"00\", \"10\", \"11\"]\n";
    let read = |text: &str| TaskFile::parse("t.toml", text);
    let same = read(&text).expect("it reads what it writes");
    assert_eq!(same.aggregation_parameter, strings.aggregation_parameter);
    let said = |text: &str| read(text).err().expect("it is wrong").to_string();
    let missing = said(&text.replace(line, ""));
    assert!(missing.contains("none is given"), "{missing}");
    let uneven = said(&text.replace(line, "prefixes = [\"0\", \"10\"]\n"));
    assert!(uneven.contains("prefixes refused"), "{uneven}");
    let helper = strings.file(Role::Helper).to_toml();
    assert!(read(&helper).is_ok(), "it is told with every job");
    assert!(said(&format!("{line}{}", *helper)).contains("prefixes are for the leader"));
    let sums = TestTask::plain().file(Role::Leader).to_toml();
    assert!(said(&format!("{line}{}", *sums)).contains("counts none"));

    let policy = strings.policy();
    let http = &HttpClient::new(HttpOptions::default());
    let rules = Rules { role: Role::Leader, policy: &policy, min_batch_size_floor: 0, http };
    assert!(rules.check(&strings.file(Role::Leader)).is_ok());
    let bare = TaskFile { aggregation_parameter: Vec::new(), ..strings.file(Role::Leader) };
    let why = rules.check(&bare).expect_err("nothing could be counted").to_string();
    assert!(why.contains("name them as `prefixes`"), "{why}");
    let other = TaskFile { aggregation_parameter: vec![1], ..TestTask::plain().file(Role::Leader) };
    assert!(rules.check(&other).is_err());
}
