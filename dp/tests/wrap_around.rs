//! The two rules that keep a noised total from wrapping around its field: one when a policy is read, one before a charge.

use mica_dp::{Policy, ReleasePlan};

/// 2⁶⁴ − 2³² + 1, the field of counts and sums.
const P: u128 = 0xffff_ffff_0000_0001;

/// A policy for a sum of measurements up to `max`; epsilon 1, so noise of scale `max`.
fn policy(max: u64) -> Result<ReleasePlan, String> {
    let text = format!(
        r#"
schema = "dp-policy/1"
[policy]
id = "sums"
version = 1
justification = "a test"
[[budget]]
id = "all"
privacy_unit = "report"
neighboring_relation = "replace_one"
dp_variant = "pure"
epsilon = 4
window = {{ kind = "lifetime" }}
on_exhausted = "refuse"
[[release]]
id = "sum"
match = {{ label = "sum", vdaf_type = "prio3-sum" }}
vdaf = {{ type = "prio3-sum", max_measurement = {max} }}
min_batch_size = 100
charge = ["all"]
mechanism = "discrete_laplace"
epsilon_per_release = 1
noise_by = "each_aggregator"
report_count = "public"
"#
    );
    match Policy::parse("p.toml", &text) {
        Ok(policy) => Ok(policy.plans().next().expect("it has a release")),
        Err(findings) => Err(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn bound(plan: &ReleasePlan) -> u128 {
    plan.mechanism().noise_bound(1).try_into().expect("it was accepted, so it is far below 2^128")
}

#[test]
fn the_noise_a_policy_may_ask_for_ends_at_an_eighth_of_the_field() {
    // 2 · scale · ln 2 · 43 bits, with ln 2 taken as 0.6932.
    let largest = u64::try_from(P / 8 * 10_000 / (2 * 43 * 6932)).expect("it fits");
    let plan = policy(largest - 1).expect("the bound is below an eighth");
    assert!(bound(&plan) * 8 < P && (bound(&plan) + 200) * 8 > P, "{}", bound(&plan));
    let said = policy(largest + 2).expect_err("the bound is an eighth or more");
    assert!(said.contains("E025: noise can reach"), "{said}");
}

#[test]
fn a_total_that_could_pass_half_of_the_field_is_refused() {
    for max in [1u64, 7, 1_000_003, 38_000_000_000_000_000] {
        let plan = policy(max).expect("the noise is small enough");
        // The most reports n with 2 (n · max + bound) < p, which is odd.
        let most = u64::try_from(((P - 1) / 2 - bound(&plan)) / u128::from(max)).expect("it fits");
        assert_eq!(plan.fits_the_field(most), Ok(()), "{max}");
        let refused = plan.fits_the_field(most + 1).expect_err("one report more could wrap");
        assert_eq!(refused.report_count, most + 1);
    }
}
