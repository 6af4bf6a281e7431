//! Policies that programs write: for a demonstration, and for working without noise on purpose.

use mica_dap::vdaf_config::VdafConfig;

use super::Policy;
use crate::shape::Shape;

impl Policy {
    /// The text of a policy with one budget and one release with discrete Laplace noise, as `mica demo` writes it.
    ///
    /// `epsilon` is spent by every release, and the budget lasts for ten of them. What is put in must be valid:
    /// the text is meant to be read by [`Policy::parse`], which says what is not.
    pub fn for_demo(label: &str, vdaf: &VdafConfig, min_batch_size: u64, epsilon: &str) -> String {
        let whom = "What one report may lose, ever. It is in one batch, so that releases do not add up, and this lasts for ever.";
        let unit = r#"privacy_unit = "report"            # the guarantee is about single reports"#;
        demo(label, vdaf, min_batch_size, epsilon, (whom, unit, ""))
    }

    /// The same about clients that each may be in every batch, so that every release costs anew: the budget lasts for ten.
    pub fn for_demo_with_clients(
        label: &str,
        vdaf: &VdafConfig,
        min_batch_size: u64,
        epsilon: &str,
    ) -> String {
        let unit = r#"privacy_unit = "client"            # the guarantee is about all reports of a client"#;
        let caps = "contribution = { max_reports_per_batch = 1, batch_window = \"30d\", max_reports_per_window = 1000, enforced_by = \"client\" }\n";
        let whom = "What one client may lose, ever. It may be in every batch, so that releases add up, and the tenth is the last.";
        demo(label, vdaf, min_batch_size, epsilon, (whom, unit, caps))
    }

    /// The text of a policy that releases every task without noise until the end of a day (`YYYY-MM-DD`).
    pub fn for_release_without_dp(justification: &str, expires: &str) -> String {
        let justification = quoted(justification);
        format!(
            r#"# Totals leave as they are: nothing here is differentially private.
schema = "dp-policy/1"

[policy]
id = "without-dp"
version = 1
justification = {justification}

[unmatched]
action = "release_without_dp"
justification = {justification}
expires = {expires}
"#
        )
    }
}

/// One budget and one release; `whom` is a comment, `unit` and `caps` are lines of their own.
fn demo(
    label: &str,
    vdaf: &VdafConfig,
    min_batch_size: u64,
    epsilon: &str,
    (whom, unit, caps): (&str, &str, &str),
) -> String {
    let budget = epsilon.parse::<crate::rational::Rational>().map_or_else(
        |_| epsilon.to_owned(),
        |it| it.times(&crate::rational::Rational::whole(10u8)).to_string(),
    );
    let (label, epsilon, budget) = (quoted(label), quoted(epsilon), quoted(&budget));
    let vdaf = Shape::try_from(vdaf)
        .map_or_else(|_| format!("{{ type = {} }}", quoted(vdaf.name())), |shape| vdaf_table(&shape));
    format!(
        r#"# The differential-privacy policy of a demonstration.  Check it with:  mica policy check FILE
schema = "dp-policy/1"

[policy]
id = "demo"
version = 1                        # every ledger entry names the version it was charged under
justification = "a demonstration with invented clients"

# {whom}
[[budget]]
id = "demo-lifetime"
{unit}
neighboring_relation = "replace_one"
dp_variant = "pure"                # losses are counted in epsilon and add up
epsilon = {budget}
window = {{ kind = "lifetime" }}
on_exhausted = "refuse"            # never "release without noise"

# What is released, and what each release costs.
[[release]]
id = "demo-release"
match = {{ label = {label} }}
vdaf = {vdaf}
min_batch_size = {min_batch_size}
charge = ["demo-lifetime"]
mechanism = "discrete_laplace"
epsilon_per_release = {epsilon}    # the scale of the noise follows from this and from vdaf
{caps}noise_by = "each_aggregator"       # each adds all of it: one honest aggregator is enough
report_count = "public"            # DAP reveals it exactly

[unmatched]
action = "refuse"
"#
    )
}

/// A TOML string. The writer of the TOML library knows what must be escaped.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn vdaf_table(shape: &Shape) -> String {
    let name = shape.name();
    match shape {
        Shape::Count => format!("{{ type = \"{name}\" }}"),
        Shape::Sum { max_measurement } => {
            format!("{{ type = \"{name}\", max_measurement = {} }}", large(*max_measurement))
        }
        Shape::SumVec { length, max_measurement } => {
            format!(
                "{{ type = \"{name}\", length = {length}, max_measurement = {} }}",
                large(*max_measurement)
            )
        }
        Shape::Histogram { length } => format!("{{ type = \"{name}\", length = {length} }}"),
        Shape::Multihot { length, max_weight } => {
            format!("{{ type = \"{name}\", length = {length}, max_weight = {} }}", large(*max_weight))
        }
    }
}

/// TOML integers end at 2⁶³ − 1; larger ones are texts.
fn large(number: u64) -> String {
    i64::try_from(number).map_or_else(|_| format!("\"{number}\""), |number| number.to_string())
}
