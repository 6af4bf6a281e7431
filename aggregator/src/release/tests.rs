//! The gate as the leader passes it: reserve, then commit or refund.

mod honesty;
mod paid;
mod refusals;
mod warnings;

use std::sync::Arc;

use mica_dap::Draft;
use mica_dap::batch::{BucketId, Checksum};
use mica_dap::collection::{CollectionJobReq, Query};
use mica_dap::hpke::HpkeKeypair;
use mica_dap::id::{ReportId, TaskId};
use mica_dap::task::{BatchMode, TaskParameters};
use mica_dap::time::{Duration, Interval, Time, TimePrecision};
use mica_dap::vdaf::{InputShareRef, LeaderStep, Measurement, OutputShare, VerifyKey};
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::ledger::verify_chain;
use mica_dp::{Decision, EntryKind, LedgerEntry, Policy, TaskFacts};
use mica_service::compute::ComputePool;
use mica_service::store::{Store, Tx};
use mica_service::testing::{TestDatabase, databases};
use zeroize::Zeroizing;

use super::{Batch, NoiseReserve, Refused, ReleaseError, commit, refund, reserve, totals};
use crate::auth::{Bearer, TokenHash};
use crate::high_water::HighWater;
use crate::store::buckets::{self, BucketDelta};
use crate::store::releases::{self, ReleaseRow};
use crate::store::{closed_intervals, ledger, ledger_uses, migrator};
use crate::task::{Role, Task};
use crate::task_file::{TaskFile, Tokens};

const VDAF: VdafConfig = VdafConfig::Count;

pub(crate) fn task() -> Arc<Task> {
    let (file, policy) = file_of();
    Arc::new(Task::resolve(1, file, &policy).expect("the policy covers the task"))
}

/// The leader's file of a task with noise, and its policy.
fn file_of() -> (TaskFile, Policy) {
    file_for("1/10")
}

fn file_for(epsilon: &str) -> (TaskFile, Policy) {
    let text =
        Policy::for_demo("t", &VDAF, 2, epsilon).replacen("on_exhausted", "warn_at = 0.1\non_exhausted", 1);
    let policy = Policy::parse("policy.toml", &text).expect("a policy");
    let facts = TaskFacts::new("t", &VDAF, 2);
    let Ok(Decision::Release(plan)) = policy.release_for(&facts) else { panic!("it releases with noise") };
    let task_info = plan.statement().task_info("t").expect("a short label");
    (leader_file(VDAF, task_info, Vec::new()), policy)
}

/// A task whose strings of so many bits are counted under this parameter, and whose totals leave as they are.
pub(crate) fn string_task(bits: u16, parameter: Vec<u8>) -> Task {
    let without = Policy::for_release_without_dp("these are tests", "2199-01-01");
    let policy = Policy::parse("policy.toml", &without).expect("a policy");
    let file = leader_file(VdafConfig::Poplar1 { bits }, b"t".to_vec(), parameter);
    Task::resolve(1, file, &policy).expect("the policy covers the task")
}

fn leader_file(vdaf: VdafConfig, task_info: Vec<u8>, aggregation_parameter: Vec<u8>) -> TaskFile {
    let parameters = TaskParameters {
        task_info,
        leader_url: "https://leader.example/".to_owned(),
        helper_url: "https://helper.example/".to_owned(),
        time_precision: TimePrecision::new(60).expect("not zero"),
        min_batch_size: 2,
        batch_mode: BatchMode::TimeInterval,
        vdaf,
        task_interval: None,
    };
    TaskFile {
        role: Role::Leader,
        task_id: TaskId::new([7; 32]),
        draft: Draft::V18,
        configuration: parameters.build(Draft::V18).expect("a configuration"),
        verify_key: Zeroizing::new([1; 32]),
        verification_key_id: 0,
        collector: HpkeKeypair::generate(1, &mut rand::rng()).config,
        tokens: Tokens::Leader {
            to_helper: Some(Bearer::new("a").expect("a token")),
            of_collector: TokenHash::of("b").into(),
        },
        batch_target_size: None,
        aggregation_parameter,
    }
}

/// An output share of a report that says yes.
fn output(task: &Task, id: &ReportId) -> OutputShare {
    let shares = task.vdaf.shard(&task.context, &Measurement::Bool(true), id).expect("a measurement");
    let input = |n: usize| InputShareRef {
        nonce: id,
        public_share: &shares.public_share,
        input_share: &shares.input_shares[n],
    };
    let key = VerifyKey::new([1; 32]);
    let first = task.vdaf.leader_init(&key, &task.context, &[], &input(0)).expect("a good share");
    let helper = task.vdaf.helper_init(&key, &task.context, &[], &input(1), &first.message);
    let Ok(mica_dap::vdaf::HelperStep::Finished { message, .. }) = helper else { panic!("a good report") };
    match task.vdaf.leader_continued(&task.context, &[], first.state, &message) {
        Ok(LeaderStep::Finished(output)) => output,
        _ => panic!("one round is all it takes"),
    }
}

fn delta(task: &Task, number: u8) -> BucketDelta {
    let id = ReportId::new([number; 16]);
    let share = task.vdaf.aggregate(&[], None, &[&output(task, &id)]).expect("shares of one task");
    let checksum = Checksum::of(&id);
    let time = Time(10);
    BucketDelta {
        bucket: BucketId::TimeInterval(time),
        share,
        report_count: 1,
        checksum,
        min_time: time,
        max_time: time,
    }
}

struct World {
    task: Arc<Task>,
    store: Store,
    compute: ComputePool,
    noise: NoiseReserve,
    high_water: HighWater,
    request: CollectionJobReq,
    query: Interval,
    now: u64,
    _database: TestDatabase,
}

impl World {
    async fn all() -> Vec<Self> {
        let mut worlds = Vec::new();
        for database in databases().await {
            let query = Interval::new(Time(9), Duration(3)).expect("an interval");
            let compute = ComputePool::with_threads(1);
            let world = Self {
                task: task(),
                store: database.open(migrator()).await.expect("a fresh database"),
                noise: NoiseReserve::new(compute.clone()),
                compute,
                high_water: HighWater::default(),
                request: CollectionJobReq::new(Query::time_interval(query), Vec::new()),
                query,
                now: 5,
                _database: database,
            };
            world.count(&[1, 2]).await;
            worlds.push(world);
        }
        worlds
    }

    async fn count(&self, numbers: &[u8]) {
        let task = &self.task;
        let deltas: Vec<BucketDelta> = numbers.iter().map(|number| delta(task, *number)).collect();
        let deltas = &deltas;
        let merge = |left: &[u8], right: &[u8]| task.vdaf.merge(&[], left, right);
        let merge = &merge;
        let added = self.store.tx("add", move |mut tx| async move {
            buckets::add(&mut tx, task.key, deltas, merge).await?;
            Ok((tx, ()))
        });
        added.await.expect("the buckets take them");
    }

    async fn try_reserve(&self, tx: &mut Tx) -> Result<i64, ReleaseError> {
        let totals =
            totals(tx, &self.compute, &self.task, self.query, &[]).await?.expect("there are reports");
        let noise = &self.noise.portion(&self.task).await;
        let batch = Batch {
            task: &self.task,
            closes: self.query.into(),
            request: &self.request,
            totals: &totals,
            now: self.now,
            compute: &self.compute,
            noise,
            high_water: &self.high_water,
        };
        reserve(tx, &batch).await
    }

    async fn reserve(&self) -> Result<i64, ReleaseError> {
        let reserved = self.store.tx("reserve", move |mut tx| async move {
            let reserved = self.try_reserve(&mut tx).await;
            Ok((tx, reserved))
        });
        reserved.await.expect("the database answers")
    }

    async fn commit(&self, release: i64) -> Result<(), ReleaseError> {
        let done = self.store.tx("commit", move |mut tx| async move {
            let done = commit(&mut tx, &self.task, release, &self.high_water, 6).await;
            Ok((tx, done))
        });
        done.await.expect("the database answers")
    }

    async fn refund(&self, release: i64) -> Result<(), ReleaseError> {
        let done = self.store.tx("refund", move |mut tx| async move {
            let done = refund(&mut tx, &self.task, release, &self.high_water, 6).await;
            Ok((tx, done))
        });
        done.await.expect("the database answers")
    }

    /// The release, whether its interval is closed, what the ledger did, and what is spent.
    async fn look(&self, release: i64) -> (ReleaseRow, bool, Vec<EntryKind>, i64) {
        let looked = self.store.read("look", move |mut tx| async move {
            let row = releases::by_id(&mut tx, release).await?.expect("it is there");
            let closed = closed_intervals::overlapping(&mut tx, self.task.key, self.query).await?;
            let entries = ledger::entries(&mut tx).await?;
            let uses = ledger_uses::all(&mut tx).await?;
            Ok((tx, (row, closed, entries, uses)))
        });
        let (row, closed, entries, uses): (_, _, Vec<LedgerEntry>, _) =
            looked.await.expect("the database answers");
        let budgets = verify_chain(&entries).expect("the ledger follows its own rules");
        assert_eq!(budgets[0].uses, uses, "what is kept is what the entries add up to");
        (row, closed, entries.iter().map(|entry| entry.kind).collect(), budgets[0].fullest().spent)
    }
}

#[tokio::test]
async fn a_release_that_the_helper_answered_is_charged_for_good() {
    for world in World::all().await {
        let release = world.reserve().await.expect("the budget lasts");
        world.commit(release).await.expect("it was reserved");
        let (_, closed, kinds, spent) = world.look(release).await;
        assert!(closed);
        assert_eq!((kinds.as_slice(), spent), (&[EntryKind::Charge, EntryKind::Commit][..], 100_000_000_000));
        assert!(world.commit(release).await.is_err(), "once");
        assert!(world.refund(release).await.is_err(), "never after a commit");
        assert!(matches!(world.reserve().await, Err(ReleaseError::Refused(Refused::Collected))));
        assert_eq!(world.look(release).await.2.len(), 2);
    }
}

#[tokio::test]
async fn a_refunded_release_of_the_same_reports_is_taken_up_with_the_same_share() {
    for world in World::all().await {
        let release = world.reserve().await.expect("the budget lasts");
        let (drawn, ..) = world.look(release).await;
        world.refund(release).await.expect("it was reserved");
        let (_, closed, _, spent) = world.look(release).await;
        assert_eq!((closed, spent), (false, 0));
        let again = world.reserve().await.expect("the budget lasts");
        let (row, closed, kinds, spent) = world.look(again).await;
        assert_eq!(row.release.sealed_share, drawn.release.sealed_share, "drawn for once");
        assert_eq!((closed, spent), (true, 100_000_000_000));
        assert_eq!(kinds, [EntryKind::Charge, EntryKind::Refund, EntryKind::Charge]);
        world.commit(again).await.expect("it was reserved");
        assert_eq!(world.look(again).await.2.last(), Some(&EntryKind::Commit));
    }
}

#[tokio::test]
async fn a_refunded_release_of_other_reports_is_drawn_for_anew() {
    for world in World::all().await {
        let release = world.reserve().await.expect("the budget lasts");
        let (drawn, ..) = world.look(release).await;
        world.refund(release).await.expect("it was reserved");
        world.count(&[3]).await;
        let again = world.reserve().await.expect("the budget lasts");
        let (row, ..) = world.look(again).await;
        assert_ne!(row.release.sealed_share, drawn.release.sealed_share);
        assert_eq!(row.release.report_count, 3);
    }
}

#[tokio::test]
async fn a_refunded_release_for_another_request_is_drawn_for_anew() {
    for mut world in World::all().await {
        let release = world.reserve().await.expect("the budget lasts");
        let (drawn, ..) = world.look(release).await;
        world.refund(release).await.expect("it was reserved");
        world.request = CollectionJobReq::new(Query::time_interval(world.query), vec![1]);
        let again = world.reserve().await.expect("the budget lasts");
        let (row, ..) = world.look(again).await;
        assert_ne!(row.release.sealed_share, drawn.release.sealed_share, "the collector could not open it");
        assert_eq!(row.release.request, world.request.bytes());
    }
}

#[tokio::test]
async fn a_refunded_release_with_other_noise_is_drawn_for_anew() {
    for mut world in World::all().await {
        let release = world.reserve().await.expect("the budget lasts");
        let (drawn, ..) = world.look(release).await;
        world.refund(release).await.expect("it was reserved");
        let (file, policy) = file_for("1/20");
        world.task = Arc::new(Task::resolve(1, file, &policy).expect("the policy covers the task"));
        let again = world.reserve().await.expect("the budget lasts");
        let (row, ..) = world.look(again).await;
        assert_ne!(
            row.release.sealed_share, drawn.release.sealed_share,
            "it has the noise that was paid for"
        );
        assert_ne!(row.release.mechanism, drawn.release.mechanism);
    }
}

#[tokio::test]
async fn a_reserved_release_is_not_reserved_again() {
    for world in World::all().await {
        let release = world.reserve().await.expect("the budget lasts");
        assert!(matches!(world.reserve().await, Err(ReleaseError::Refused(Refused::Collected))));
        assert_eq!(world.look(release).await.2, [EntryKind::Charge]);
    }
}
