//! The guarantee in plain English, from the same numbers that set the noise.

use crate::conversion::epsilon_of_zcdp;
use crate::mechanism::NoiseOf;
use crate::plan::{ReleasePlan, WithoutDp};
use crate::policy::{PrivacyUnit, Variant};
use crate::sensitivity::NeighboringRelation;
use crate::statement::Enforcer;
use crate::units::format_units;

impl ReleasePlan {
    /// What is promised, what it rests on and what it leaves out.
    pub fn explain(&self) -> String {
        let lines = [
            self.what(),
            self.whom(),
            self.loss(),
            self.noise(),
            self.cost(),
            "Not protected: how many reports a batch has (report_count) and the time span they come from \
             (interval), which DAP reveals exactly; and that a client sent a report at all."
                .to_owned(),
        ];
        lines.join("\n")
    }

    fn what(&self) -> String {
        let terms = self.terms();
        format!(
            "Release \"{}\" of policy \"{}\" version {}: totals of {} over batches of at least {} reports.",
            self.release_id(),
            self.policy().id,
            self.policy().version,
            terms.shape,
            terms.min_batch_size
        )
    }

    fn whom(&self) -> String {
        let terms = self.terms();
        let change = match terms.relation {
            NeighboringRelation::ReplaceOne => "replaced by anything else",
            NeighboringRelation::ReplaceSpecial => "replaced by zeros",
        };
        let caps = &terms.contribution;
        match terms.unit {
            PrivacyUnit::Report => format!(
                "It hides one report: were its content {change}, the result would be nearly as likely. A person who \
                 sends several reports is protected less."
            ),
            PrivacyUnit::Client => format!(
                "It hides one client: were all its reports in a batch {change}, the result would be nearly as likely. \
                 A client sends at most {} reports per batch and {} in the life of the budget; {}",
                caps.max_reports_per_batch,
                caps.max_reports_per_window,
                match caps.enforced_by {
                    Enforcer::Client =>
                        "its own software counts, and a client that sends more is protected less.",
                    Enforcer::PrivacyPass => "one-time tokens enforce it.",
                    Enforcer::None => "nobody enforces it.",
                }
            ),
        }
    }

    fn loss(&self) -> String {
        let loss = &self.terms().loss;
        match loss.variant {
            Variant::Pure => format!(
                "Each release is epsilon-differentially private with epsilon = {}: it changes the odds of any result \
                 by a factor of at most {:.3}.",
                loss.amount,
                loss.amount.approximate_up().exp()
            ),
            Variant::Zcdp => {
                let implied = self.report_delta().and_then(|delta| {
                    let epsilon = epsilon_of_zcdp(&loss.amount, delta).ok()?;
                    Some(format!(" That implies epsilon = {} at delta = {delta}.", round_up(epsilon)))
                });
                format!(
                    "Each release is rho-zero-concentrated differentially private with rho = {}.{}",
                    loss.amount,
                    implied.unwrap_or_default()
                )
            }
        }
    }

    fn noise(&self) -> String {
        let mechanism = self.mechanism();
        format!(
            "Noise: {} (standard deviation {:.2}). The guarantee rests on the noise of one honest aggregator; \
             with both, the result has standard deviation {:.2} and is within ±{} of the truth in 95 of 100 cases.",
            mechanism.describe(),
            mechanism.variance(NoiseOf::OneAggregator).sqrt(),
            mechanism.variance(NoiseOf::BothAggregators).sqrt(),
            mechanism.half_width(0.95, NoiseOf::BothAggregators)
        )
    }

    fn cost(&self) -> String {
        let costs: Vec<String> = self
            .charges()
            .iter()
            .map(|charge| {
                format!(
                    "{} of {} in budget \"{}\" ({} releases, then refused for good)",
                    format_units(charge.units),
                    format_units(charge.limit),
                    charge.budget_id,
                    charge.limit / charge.units.max(1)
                )
            })
            .collect();
        format!("Cost of a release: {}.", costs.join(", "))
    }
}

impl WithoutDp {
    /// The exception in plain English.
    pub fn explain(&self) -> String {
        format!(
            "NOT differentially private: by policy \"{}\" version {} totals leave without noise ({}).",
            self.policy().id,
            self.policy().version,
            self.justification()
        )
    }
}

/// Four digits after the point, never rounded down.
fn round_up(number: f64) -> String {
    format!("{:.4}", (number * 1e4).ceil() / 1e4)
}
