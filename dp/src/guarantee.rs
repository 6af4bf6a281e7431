//! The statement of guarantee for machines: what an auditor is handed.
//!
//! The part under `deployment` has the field names of the registry of differential-privacy deployments that OpenDP
//! keeps with NIST, by its schema of 15 July 2026 (`schemas/deployments-schema.yaml` at 3e9c812). What a policy does not
//! know, such as region and day of publication, is for whoever registers it to add; the registry has no word for noise
//! that several parties add, so `model_name` is left out and `model_name_details` says it. The rest of the export is
//! what the registry has no field for. Every number comes from the plan.

use serde_json::{Map, Value, json};

use crate::accountant::BatchWindow;
use crate::conversion::epsilon_of_zcdp;
use crate::explain::{NOT_PROTECTED, caps_in_words, lines_of};
use crate::mechanism::NoiseOf;
use crate::plan::ReleasePlan;
use crate::policy::{Budget, Limit, PrivacyUnit, Variant};
use crate::rational::Rational;
use crate::sensitivity::NeighboringRelation;
use crate::units::format_units;

impl ReleasePlan {
    /// The guarantee as one JSON object: unit, relation, loss per release and per window, who enforces the caps, whose
    /// noise is counted and what is not protected.
    pub fn export(&self) -> Value {
        let mut export = self.export_of_the_statement();
        export["schema"] = json!("dp-guarantee/1");
        export["release"] = json!(self.release_id());
        export["policy"] = json!({
            "id": self.policy().id,
            "version": self.policy().version,
            "sha256": hex::encode(self.policy().sha256),
            "owner": self.owner(),
            "justification": self.justification(),
            "effective_from": self.effective_from(),
        });
        export["budgets"] = self.budgets().iter().map(budget).collect();
        export["explanation"] = json!(self.explain());
        export["deployment"] = self.deployment();
        export
    }

    /// The part of it that follows from the release statement alone, whoever wrote the policy.
    pub(crate) fn export_of_the_statement(&self) -> Value {
        let terms = self.terms();
        let caps = &terms.contribution;
        json!({
            "schema": "dp-guarantee-of-statement/1",
            "statement": serde_json::from_str::<Value>(self.statement().canonical_json()).unwrap_or_default(),
            "statement_sha256": self.statement().sha256_hex(),
            "privacy_unit": terms.unit.name(),
            "neighboring_relation": terms.relation.name(),
            "contribution": {
                "max_reports_per_batch": caps.max_reports_per_batch,
                "batch_window": caps.batch_window.map(|cells| cells.to_string()),
                "batch_window_seconds": caps.batch_window.map(BatchWindow::length),
                "max_reports_per_window": caps.max_reports_per_window,
                "window": caps.window.to_string(),
                "enforced_by": caps.enforced_by.name(),
            },
            "per_release": self.exact(&terms.loss.amount),
            "one_task_in_a_contribution_window": self.capped(),
            "noise": self.noise_export(),
            "not_protected": ["report_count", "interval", "that a client sent a report"],
            "explanation": lines_of(self.sentences_of_the_statement()),
            "deployment": self.deployment_of_the_statement(),
        })
    }

    /// What the caps of a unit alone keep its loss to, and for what.
    fn capped(&self) -> Value {
        let mut capped = self.exact(&self.loss_in_a_window());
        capped["holds_for"] = json!(
            "the batches of one task that lie inside such a window; what several tasks take adds up, and a batch over an \
             edge is charged in full: the limits of the budgets hold for everything"
        );
        capped
    }

    /// The parameters, with the exact text beside the number.
    fn exact(&self, amount: &Rational) -> Value {
        let mut parameters = self.parameters(amount);
        parameters[format!("{}_exact", self.terms().loss.variant.amount())] = json!(amount.decimal());
        parameters
    }

    /// `rho` or `epsilon`, and what it implies at the delta of this release.
    fn parameters(&self, amount: &Rational) -> Value {
        let mut parameters = Map::new();
        match self.terms().loss.variant {
            Variant::Pure => {
                parameters.insert("epsilon".to_owned(), json!(number(amount)));
                parameters.insert("delta".to_owned(), json!(0));
            }
            Variant::Zcdp => {
                parameters.insert("rho".to_owned(), json!(number(amount)));
                if let Some(delta) = self.report_delta()
                    && let Ok(epsilon) = epsilon_of_zcdp(amount, delta)
                {
                    parameters.insert("epsilon".to_owned(), json!(epsilon_number(epsilon)));
                    parameters.insert("delta".to_owned(), json!(number(delta)));
                }
            }
        }
        Value::Object(parameters)
    }

    fn noise_export(&self) -> Value {
        let mechanism = self.mechanism();
        let (parameter, value) = mechanism.parameter();
        json!({
            "mechanism": mechanism.name(),
            parameter: value.to_string(),
            "by": "each_aggregator",
            "counted": "one aggregator",
            "peer_noise_verified": false,
            "standard_deviation": {
                "one_aggregator": mechanism.variance(NoiseOf::OneAggregator).sqrt(),
                "both_aggregators": mechanism.variance(NoiseOf::BothAggregators).sqrt(),
            },
            "half_width_95": mechanism.half_width(0.95, NoiseOf::BothAggregators),
            "half_width_95_holds_for": "each value by itself",
            "half_width_95_of_all_values_at_once": self.half_width_of_all(),
        })
    }

    /// The fields of the registry that a policy can fill.
    fn deployment(&self) -> Value {
        let mut deployment = self.deployment_of_the_statement();
        let basic = &mut deployment["basic"];
        basic["name"] = json!(self.release_id());
        basic["intended_use"] = json!(self.justification());
        // Who publishes is for whoever registers it to say, where the policy names nobody.
        if let Some(owner) = self.owner() {
            basic["data_curators"] = json!([owner]);
        }
        deployment["accounting"]["composition"] = json!(self.composition());
        deployment["implementation"]["justification"] = json!(self.justification());
        deployment
    }

    fn deployment_of_the_statement(&self) -> Value {
        let terms = self.terms();
        let variant = match terms.loss.variant {
            Variant::Pure => "Pure DP",
            Variant::Zcdp => "Zero-concentrated DP",
        };
        json!({
            "basic": {
                "data_product_type": "Summary statistics",
            },
            "dp_variant": {
                "variant_name": variant,
                "data_domain": format!("Batches of at least {} reports: {}", terms.min_batch_size, terms.shape),
                "unprotected_quantities": NOT_PROTECTED,
            },
            "privacy_loss": {
                "privacy_unit": terms.unit.name(),
                "privacy_unit_details": self.unit_in_words(),
                "privacy_parameters": self.parameters(&terms.loss.amount),
                "privacy_parameters_details": "of one release; what many add up to is under accounting",
            },
            "deployment_model": {
                "model_name_details":
                    "Two aggregators of different operators hold secret shares of every report (DAP); each adds all of \
                     the noise to its share, so the guarantee holds if one of them is honest. Peer noise not verified: that \
                     the other one adds its own cannot be seen from outside.",
                "release_type": "Many releases",
                "data_source_type": "Dynamic",
                "access_type": "Non-interactive",
            },
            "accounting": {
                "post_processing": "The two noised shares are added and decoded as signed numbers; nothing is clamped.",
            },
            "implementation": {
                "mechanisms":
                    "Discrete noise on whole numbers with exact rational parameters, added modulo the field of the shares; \
                     no floating point between the policy and the noise; drawn with prio from the generator of the operating \
                     system.",
            },
        })
    }

    fn unit_in_words(&self) -> String {
        let terms = self.terms();
        let change = match terms.relation {
            NeighboringRelation::ReplaceOne => "replaced by any others",
            NeighboringRelation::ReplaceSpecial => "replaced by zeros",
        };
        match terms.unit {
            PrivacyUnit::Report => {
                format!("Batches are neighbours that differ by one report, its content {change}.")
            }
            PrivacyUnit::Client => format!(
                "Batches are neighbours that differ by all reports of one client, {change}. A client sends {}; {}",
                caps_in_words(&terms.contribution),
                self.enforcement(),
            ),
        }
    }

    fn composition(&self) -> String {
        let budgets: Vec<String> = self
            .budgets()
            .iter()
            .map(|budget| {
                format!(
                    "budget \"{}\": at most {} {} for what is reported in {}",
                    budget.id(),
                    budget.variant().amount(),
                    format_units(budget.limit_units()),
                    budget.window().on_grid()
                )
            })
            .collect();
        format!(
            "Losses add up, with caps on contributions, by the time of the reports, in a ledger that refuses what does \
             not fit: {}.",
            budgets.join("; ")
        )
    }
}

fn budget(budget: &Budget) -> Value {
    json!({
        "id": budget.id(),
        "dp_variant": budget.limit().dp_variant(),
        "window": budget.window().on_grid().to_string(),
        "counted_in": budget.variant().amount(),
        "limit": format_units(budget.limit_units()),
        "holds_for": "all tasks that charge it together, wherever their batches lie",
        "epsilon": budget_epsilon(budget),
        "delta": budget.report_delta().map(number),
        "epsilon_ceiling_override": budget.ceiling_exception().map(|it| json!({
            "epsilon": it.epsilon().decimal(),
            "justification": it.justification(),
        })),
    })
}

/// The ε of a budget: as its file says it, or rounded up where it follows from ρ.
fn budget_epsilon(budget: &Budget) -> Option<f64> {
    match budget.limit() {
        Limit::Pure { epsilon } | Limit::Approx { epsilon, .. } => Some(number(epsilon)),
        Limit::Zcdp { .. } => budget.epsilon().map(epsilon_number),
    }
}

/// The number whose text in JSON is the decimal itself, where there is a short one; else one that is not below.
fn number(amount: &Rational) -> f64 {
    amount.decimal().parse().unwrap_or_else(|_| amount.approximate_up())
}

/// An ε that was computed, rounded up to nine digits after the point: few enough that whoever reads and writes it again
/// has the same number.
fn epsilon_number(epsilon: f64) -> f64 {
    (epsilon * 1e9 - 1e-4).ceil().max(0.0) / 1e9
}
