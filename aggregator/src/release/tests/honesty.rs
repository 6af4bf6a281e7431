//! The gates of both aggregators over many batches: what the collector opens holds the noise of both, and the same check
//! fails when either one's is lost.
//!
//! At the level of the gate, with the ledger and the database of each aggregator and without HTTP, so that it runs in
//! seconds. Noise comes from fixed seeds.

use std::sync::Arc;

use mica_dap::batch::Checksum;
use mica_dap::codec::Decode as _;
use mica_dap::collection::{CollectionJobReq, Query};
use mica_dap::hpke::{self, AggregateShareAad, HpkeKeypair, Label};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::time::{Duration, Interval, Time};
use mica_dp::faults::Fault;
use mica_dp::{Decision, Noise, NoiseOf};
use mica_service::compute::ComputePool;
use mica_service::store::{Store, Tx};
use mica_service::testing::{TestDatabase, sqlite};
use num_bigint::BigInt;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

use super::file_of;
use crate::auth::TokenHash;
use crate::high_water::HighWater;
use crate::release::{
    Batch, BatchTotals, NoiseReserve, Portion, Reference, ReleaseError, commit, commit_now, reserve,
};
use crate::store::{migrator, releases};
use crate::task::{Role, Task};
use crate::task_file::Tokens;

const REPORTS: u64 = 500;
/// What each of them holds of the total, 500; shares are numbers of the field.
const LEADERS: i64 = 700;
const HELPERS: i64 = -200;

/// One aggregator, its database, and where its noise comes from.
struct Side {
    task: Arc<Task>,
    store: Store,
    compute: ComputePool,
    noise: NoiseReserve,
    high_water: HighWater,
    rng: StdRng,
    loses_its_noise: bool,
    _database: TestDatabase,
}

impl Side {
    async fn new(role: Role, collector: &HpkeKeypair, seed: u64, loses_its_noise: bool) -> Self {
        let (mut file, policy) = file_of();
        file.role = role;
        file.collector = collector.config.clone();
        if role == Role::Helper {
            file.tokens = Tokens::Helper { of_leader: TokenHash::of("a").into() };
        }
        let (database, compute) = (sqlite(), ComputePool::with_threads(1));
        Self {
            task: Arc::new(Task::resolve(1, file, &policy).expect("the policy covers the task")),
            store: database.open(migrator()).await.expect("a fresh database"),
            noise: NoiseReserve::new(compute.clone()),
            compute,
            high_water: HighWater::default(),
            rng: StdRng::seed_from_u64(seed),
            loses_its_noise,
            _database: database,
        }
    }

    fn portion(&mut self) -> Portion {
        let Decision::Release(plan) = &self.task.decision else { panic!("it releases with noise") };
        let (mechanism, rng) = (plan.mechanism(), &mut self.rng);
        let noise = if self.loses_its_noise {
            Fault::Lost.draw(mechanism, 1, rng)
        } else {
            Noise::draw(mechanism, 1, rng)
        };
        self.noise.portion_of(noise)
    }

    /// The share of one batch, sealed.
    async fn release(&mut self, at: u64, share: i64) -> (CollectionJobReq, Vec<u8>) {
        let query = Interval::new(Time(at), Duration(1)).expect("an interval");
        let request = CollectionJobReq::new(Query::time_interval(query), Vec::new());
        let zero = self.task.vdaf.aggregate(&[], None, &[]).expect("an empty total");
        let share = self.task.vdaf.add_noise(&zero, &[BigInt::from(share)]).expect("one number");
        let totals = BatchTotals {
            share: Zeroizing::new(share),
            report_count: REPORTS,
            checksum: Checksum::default(),
            interval: query,
        };
        let noise = self.portion();
        let batch = Batch {
            task: &self.task,
            closes: query.into(),
            request: &request,
            totals: &totals,
            now: 5,
            compute: &self.compute,
            noise: &noise,
            high_water: &self.high_water,
        };
        let batch = &batch;
        let released = self.store.tx("release", move |mut tx| async move {
            let sealed = pass(&mut tx, batch, at).await;
            Ok((tx, sealed))
        });
        let sealed = released.await.expect("the database answers").expect("the budget lasts");
        (request, sealed)
    }
}

/// The gate of either role, up to the row that the answer comes from.
async fn pass(tx: &mut Tx, batch: &Batch<'_>, at: u64) -> Result<Vec<u8>, ReleaseError> {
    if batch.task.role == Role::Helper {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&at.to_be_bytes());
        let share_id = mica_dap::id::AggregateShareId::random(&mut rand::rng());
        return commit_now(tx, batch, Reference { digest, share_id }).await;
    }
    let release = reserve(tx, batch).await?;
    commit(tx, batch.task, release, batch.high_water, 6).await?;
    let row = releases::by_id(tx, release).await?.expect("it is there");
    Ok(row.release.sealed_share)
}

/// The mean square of what the collector finds beside the truth, against that of the noise of both aggregators.
async fn spread(batches: u16, seed: u64, lost: Option<Role>) -> f64 {
    let collector = HpkeKeypair::generate(1, &mut rand::rng());
    let mut leader = Side::new(Role::Leader, &collector, seed, lost == Some(Role::Leader)).await;
    let mut helper = Side::new(Role::Helper, &collector, seed + 1, lost == Some(Role::Helper)).await;
    let mut squares = 0.0;
    for at in 0..u64::from(batches) {
        let (request, leaders) = leader.release(at, LEADERS).await;
        let (same, helpers) = helper.release(at, HELPERS).await;
        assert_eq!(request.bytes(), same.bytes());
        let open = |role, sealed: &[u8]| {
            let aad = AggregateShareAad {
                task_id: &leader.task.id,
                task_configuration: leader.task.configuration.bytes(),
                collection_job_req: request.bytes(),
            };
            let sealed = HpkeCiphertext::decoded(sealed).expect("a sealed share");
            let info = Label::AggregateShare(role).info(leader.task.draft);
            hpke::open(&collector, &info, &aad.encoded(), &sealed).expect("sealed to the collector")
        };
        let shares = (open(hpke::Role::Leader, &leaders), open(hpke::Role::Helper, &helpers));
        let total = leader.task.vdaf.unshard_signed(&[], &shares.0, &shares.1, REPORTS).expect("two shares");
        let off = i32::try_from(total[0] - i128::from(LEADERS + HELPERS)).expect("little noise");
        squares += f64::from(off).powi(2);
    }
    let Decision::Release(plan) = &leader.task.decision else { panic!("it releases with noise") };
    squares / f64::from(batches) / plan.mechanism().variance(NoiseOf::BothAggregators)
}

/// Six standard deviations of the mean of so many squares: the kurtosis of the sum of two Laplace variables is 4.5.
fn tolerance(batches: u16) -> f64 {
    6.0 * (3.5 / f64::from(batches)).sqrt()
}

#[tokio::test]
async fn totals_of_2000_batches_hold_the_noise_of_both_aggregators() {
    let spread = spread(2_000, 21, None).await;
    assert!((spread - 1.0).abs() < tolerance(2_000), "{spread} of the variance that is promised");
}

#[tokio::test]
async fn noise_that_either_aggregator_loses_is_missed() {
    for (lost, seed) in [(Role::Leader, 31), (Role::Helper, 41)] {
        let spread = spread(1_000, seed, Some(lost)).await;
        assert!((spread - 1.0).abs() > tolerance(1_000), "the {lost}'s is not missed: {spread}");
        assert!((2.0 * spread - 1.0).abs() < 2.0 * tolerance(1_000), "the other one's is there: {spread}");
    }
}
