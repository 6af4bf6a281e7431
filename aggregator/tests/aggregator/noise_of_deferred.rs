//! A helper that answers later changes nothing about the noise: each aggregator's is in what the collector opens.
//!
//! Every bucket has noise of its own, so that one vector of two thousand shows its variance: the mean of so many squares has
//! a standard deviation of 5.0 % for the Laplace noise of one aggregator (kurtosis 6), and of 4.2 % for that of two
//! (kurtosis 4.5). The bounds here are six of them or more away: a test fails for no reason once in 10^8 runs at most.

use mica_aggregator::config::Answers;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_service::testing::databases;

use crate::support::pair::{Setting, on_each};
use crate::support::task::Kind;
use crate::support::{Act, NOW, World};

const BUCKETS: u32 = 2_000;
/// Replacing a report moves two buckets by one, so the scale at this loss is 2: the variance is 2α/(1-α)² with α = e^-½.
const EPSILON: &str = "1";
const VARIANCE: f64 = 7.835_397;

/// The mean square of noise, as a part of the variance of one aggregator's.
fn shares_of_noise(noise: &[i128]) -> f64 {
    assert_eq!(u32::try_from(noise.len()), Ok(BUCKETS));
    let squares: i128 = noise.iter().map(|noise| noise * noise).sum();
    let squares = f64::from(u32::try_from(squares).expect("noise is small"));
    squares / f64::from(BUCKETS) / VARIANCE
}

/// The scripted helper adds no noise and defers three times; the leader's is still there when the share comes.
#[tokio::test]
async fn the_noise_of_a_leader_that_polls_three_times_is_in_the_total() {
    for database in databases().await {
        let vdaf = VdafConfig::histogram(BUCKETS);
        let world = World::start(Kind { epsilon: Some(EPSILON), vdaf, ..Kind::default() }, &database).await;
        let report = || world.builder.report(&Measurement::Bucket(0), NOW).expect("a fitting measurement");
        assert_eq!(world.upload(&[report(), report()]).await, []);
        world.settled().await;
        world.helper.will([Act::defer_share(1), Act::defer_share(1), Act::defer_share(1)]);
        let reply = world.collected().await;
        let (reports, mut noise) = world.totals(&reply);
        assert_eq!(reports, 2);
        noise[0] -= 2;
        let shares = shares_of_noise(&noise);
        assert!((0.5..1.5).contains(&shares), "{}: the noise of {shares} aggregators", database.kind);
        assert_eq!(world.leader.unscrubbed().await, 0);
    }
}

/// Both over HTTP, the helper answering later: a share without noise from either would halve the variance.
#[tokio::test]
async fn the_noise_of_both_is_in_the_total_when_the_helper_answers_later() {
    let setting = Setting::with_noise(VdafConfig::histogram(BUCKETS), EPSILON);
    on_each(Setting { answers: Answers::Deferred, ..setting }, |pair| async move {
        let reports: Vec<_> = (0..3).map(|_| pair.report(&Measurement::Bucket(0))).collect();
        assert_eq!(pair.upload(&reports).await, []);
        let outcome = pair.collect().await.expect("a release");
        let mut noise = outcome.values;
        noise[0] -= 3;
        let shares = shares_of_noise(&noise);
        assert!((1.45..2.6).contains(&shares), "the noise of {shares} aggregators");
    })
    .await;
}
