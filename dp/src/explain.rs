//! The guarantee in plain English, from the same numbers that set the noise.

use crate::accountant::{Window, format_second};
use crate::conversion::epsilon_of_zcdp;
use crate::mechanism::NoiseOf;
use crate::plan::{ReleasePlan, WithoutDp};
use crate::policy::{Budget, Limit, PrivacyUnit, Variant};
use crate::promise::{Promise, Sentence};
use crate::rational::Rational;
use crate::sensitivity::NeighboringRelation;
use crate::statement::{Contribution, Enforcer};
use crate::units::{format_units, units_to_rational};

impl ReleasePlan {
    /// What is promised, what it rests on and what it leaves out.
    pub fn explain(&self) -> String {
        lines_of(self.lines())
    }

    /// The same, sentence by sentence.
    pub fn sentences(&self) -> Vec<Sentence> {
        self.lines().concat()
    }

    fn lines(&self) -> Vec<Vec<Sentence>> {
        let first = [vec![vec![self.what()]], self.stated()].concat();
        let budgets =
            self.budgets().iter().map(|budget| vec![self.limit_line(budget), self.budget_line(budget)]);
        let last = [vec![Promise::NotProtected.says(NOT_PROTECTED)], vec![self.why()]];
        first.into_iter().chain(budgets).chain(last).collect()
    }

    /// What follows from the release statement alone, whoever charges what for it.
    fn stated(&self) -> Vec<Vec<Sentence>> {
        vec![self.whom(), vec![self.loss()], vec![self.over_time()], self.noise()]
    }

    /// The same, with what no statement protects.
    pub(crate) fn sentences_of_the_statement(&self) -> Vec<Vec<Sentence>> {
        [self.stated(), vec![vec![Promise::NotProtected.says(NOT_PROTECTED)]]].concat()
    }

    fn what(&self) -> Sentence {
        let terms = self.terms();
        Promise::Totals.says(format!(
            "Release \"{}\" of policy \"{}\" version {}: totals of {} over batches of at least {} reports.",
            self.release_id(),
            self.policy().id,
            self.policy().version,
            terms.shape,
            terms.min_batch_size
        ))
    }

    fn whom(&self) -> Vec<Sentence> {
        let terms = self.terms();
        let change = match terms.relation {
            NeighboringRelation::ReplaceOne => "replaced by anything else",
            NeighboringRelation::ReplaceSpecial => "replaced by zeros",
        };
        let caps = &terms.contribution;
        match terms.unit {
            PrivacyUnit::Report => vec![Promise::HidesReport.says(format!(
                "It hides one report: were its content {change}, the result would be nearly as likely. A person who \
                 sends several reports is protected less."
            ))],
            PrivacyUnit::Client => {
                let by = match caps.enforced_by {
                    Enforcer::PrivacyPass => Promise::CapsByTokens,
                    Enforcer::Client | Enforcer::None => Promise::CapsByClient,
                };
                vec![
                    Promise::HidesClient.says(format!(
                        "It hides one client: were all its reports in a batch {change}, the result would be nearly as \
                         likely."
                    )),
                    by.says(format!(
                        "A client sends {}; {}",
                        caps_in_words(caps),
                        self.enforcement(),
                    )),
                ]
            }
        }
    }

    /// Who keeps clients within their caps, in a sentence.
    pub(crate) fn enforcement(&self) -> &'static str {
        match self.terms().contribution.enforced_by {
            Enforcer::Client => {
                "the app must count, for nobody else can, and a client that sends more is protected less."
            }
            Enforcer::PrivacyPass => {
                "one-time tokens are said to enforce it; no part of mica checks them, and a client that sends more is \
                 protected less."
            }
            Enforcer::None => "nobody enforces it.",
        }
    }

    fn loss(&self) -> Sentence {
        let loss = &self.terms().loss;
        match loss.variant {
            Variant::Pure => Promise::LossEpsilon.says(format!(
                "Each release is epsilon-differentially private with epsilon = {}: it changes the odds of any result \
                 by a factor of at most {}.",
                loss.amount.decimal(),
                printed_factor(loss.amount.approximate_up())
            )),
            Variant::Zcdp => Promise::LossRho.says(format!(
                "Each release is rho-zero-concentrated differentially private with rho = {}.{}",
                loss.amount.decimal(),
                self.implied(&loss.amount).map_or_else(String::new, |(epsilon, delta)| format!(
                    " That implies epsilon = {epsilon} at delta = {delta}."
                ))
            )),
        }
    }

    /// The ε that a ρ implies at the delta of this release, as people read both.
    fn implied(&self, rho: &Rational) -> Option<(String, String)> {
        let delta = self.report_delta()?;
        Some((printed_epsilon(epsilon_of_zcdp(rho, delta).ok()?), delta.decimal()))
    }

    /// What all releases of this kind together cost one unit, as far as its caps go.
    fn over_time(&self) -> Sentence {
        let terms = self.terms();
        let lost = self.loss_in_a_window();
        let amount = format!("{} = {}", terms.loss.variant.amount(), lost.decimal());
        let implied = match terms.loss.variant {
            Variant::Pure => None,
            Variant::Zcdp => self.implied(&lost),
        };
        let implied = implied.map_or_else(String::new, |(epsilon, delta)| {
            format!(", epsilon = {epsilon} at delta = {delta},")
        });
        match terms.unit {
            PrivacyUnit::Report => Promise::AllOfAReport.says(format!(
                "A report is in one batch, so {amount}{implied} is all that it loses, however many batches are released."
            )),
            PrivacyUnit::Client => Promise::AllOfAClient.says(format!(
                "For what it reports in {} a client within its caps loses {amount}{implied} at most by the batches of one task{}, however \
                 many are released. {}",
                terms.contribution.window,
                if self.has_edges() { " that lie inside" } else { "" },
                if self.has_edges() {
                    "What several tasks take adds up, and a batch over an edge of that time is charged in full."
                } else {
                    "What several tasks take adds up."
                }
            )),
        }
    }

    /// The most one unit loses by those batches of one task that lie inside a window in which its reports are counted: the
    /// ⌊k/c⌋ batches it can be in with all of c reports, and one with the rest. It is no bound for several tasks, and none
    /// for batches over an edge of the window: the limits of the budgets are.
    ///
    /// # Privacy
    /// A unit with j of c reports in a batch loses (j/c)² of ρ, (j/c) of ε; the sum is largest at a corner.
    pub fn loss_in_a_window(&self) -> Rational {
        let Some(caps) = self.client_caps() else { return self.terms().loss.amount.clone() };
        let (batch, window) = caps;
        let amount = &self.terms().loss.amount;
        let part = Rational::fraction(window % batch, batch).unwrap_or_else(|| Rational::whole(1u8));
        let part = match self.terms().loss.variant {
            Variant::Pure => part,
            Variant::Zcdp => part.times(&part),
        };
        amount.times(&Rational::whole(window / batch).plus(&part))
    }

    /// The caps of a client; nothing for a report, which is in one batch.
    fn client_caps(&self) -> Option<(u32, u32)> {
        let terms = self.terms();
        let caps = &terms.contribution;
        (terms.unit == PrivacyUnit::Client)
            .then(|| (caps.max_reports_per_batch.get(), caps.max_reports_per_window.get()))
    }

    fn noise(&self) -> Vec<Sentence> {
        let mechanism = self.mechanism();
        vec![
            Promise::Noise.says(format!(
                "Noise: {} (standard deviation {:.2}).",
                mechanism.describe(),
                mechanism.variance(NoiseOf::OneAggregator).sqrt(),
            )),
            Promise::PeerNoise.says(PEER_NOISE),
            Promise::Accuracy.says(self.accuracy()),
        ]
    }

    /// How far the values of a result are from the truth: each by itself, and all of them at once.
    fn accuracy(&self) -> String {
        let mechanism = self.mechanism();
        let (deviation, width) = (
            mechanism.variance(NoiseOf::BothAggregators).sqrt(),
            mechanism.half_width(0.95, NoiseOf::BothAggregators),
        );
        match self.terms().shape.length() {
            0 | 1 => format!(
                "With both, the result has standard deviation {deviation:.2} and is within ±{width} of the truth in 95 of \
                 100 cases."
            ),
            values => format!(
                "With both, each value of the result has standard deviation {deviation:.2} and is within ±{width} of the \
                 truth in 95 of 100 cases; all {values} at once are within ±{} in 95 of 100.",
                self.half_width_of_all()
            ),
        }
    }

    /// Half of the interval that holds the truth of every value of a result at once, in 95 of 100 cases.
    pub fn half_width_of_all(&self) -> u64 {
        self.mechanism().half_width_of_all(0.95, NoiseOf::BothAggregators, self.terms().shape.length())
    }

    /// What a budget guarantees.
    fn limit_line(&self, budget: &Budget) -> Sentence {
        let window = budget.window().on_grid();
        let whom = match self.terms().unit {
            PrivacyUnit::Client => format!("for what it reports in {window} a client within its caps"),
            PrivacyUnit::Report => format!("in {window} a report"),
        };
        Promise::BudgetLimit.says(format!(
            "Budget \"{}\" holds for all tasks that charge it together, wherever their batches lie: {whom} loses {} at \
             most, and what would pass that is refused.",
            budget.id(),
            limit(budget.limit()),
        ))
    }

    /// How long a budget lasts.
    fn budget_line(&self, budget: &Budget) -> Sentence {
        let units = self
            .charges()
            .iter()
            .find(|charge| charge.budget_id == budget.id())
            .map_or(0, |charge| charge.units);
        let line = format!("A release takes {} of it", format_units(units));
        let caps = &self.terms().contribution;
        let in_full = budget.limit_units() / units.max(1);
        let in_full = format!("{in_full} release{} in full", if in_full == 1 { "" } else { "s" });
        let share = self.terms().loss.amount.is_zero();
        let worst = self.loss_in_a_window().divided_by(&self.terms().loss.amount).filter(|_| !share);
        let worst = worst.map(|releases| units_to_rational(units).times(&releases));
        let is_enough = worst.is_some_and(|worst| worst <= units_to_rational(budget.limit_units()));
        match (budget.window() == caps.window || caps_are_for_ever(self), is_enough) {
            (true, true) => Promise::BudgetLasts.says(format!("{line}; {}", self.lasting())),
            (true, false) => Promise::BudgetEnds.says(format!(
                "{line}: that is {in_full} in one such time, of all tasks together, and the next is refused."
            )),
            (false, _) => Promise::BudgetLonger.says(format!(
                "{line}: that is {in_full}, or more where batches of one task share what a client sends in {}.",
                caps.window
            )),
        }
    }

    /// By whom a budget is never exhausted for which the caps are enough.
    fn lasting(&self) -> String {
        let whose = if self.one_task {
            "the releases of its one task alone never exhaust it"
        } else {
            "the releases of one task alone never exhaust it"
        };
        let edges =
            if self.has_edges() { " as long as no batch reaches over an edge of that time" } else { "" };
        let others = if self.one_task { "" } else { "; those of several tasks add up" };
        format!("{whose}{edges}{others}.")
    }

    /// Whether a batch can reach over the edge of a window in which reports are counted.
    fn has_edges(&self) -> bool {
        self.terms().unit == PrivacyUnit::Client && self.terms().contribution.window != Window::Lifetime
    }

    fn why(&self) -> Sentence {
        Promise::Why.says(match self.owner() {
            Some(owner) => format!("Why: {} ({owner}).", self.justification()),
            None => format!("Why: {}.", self.justification()),
        })
    }
}

/// A paragraph for each line.
pub(crate) fn lines_of(lines: Vec<Vec<Sentence>>) -> String {
    let line =
        |line: Vec<Sentence>| line.into_iter().map(|sentence| sentence.text).collect::<Vec<_>>().join(" ");
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Whose noise is counted.
pub(crate) const PEER_NOISE: &str = "The guarantee counts the noise of one honest aggregator; peer noise not verified: \
     that the other one adds its own cannot be seen from outside.";

/// What no noise covers.
pub(crate) const NOT_PROTECTED: &str = "Not protected: how many reports a batch has (report_count) and the time span they come from (interval), which DAP \
     reveals exactly; and that a client sent a report at all.";

/// A report is in one batch, whatever the window of the budget.
fn caps_are_for_ever(plan: &ReleasePlan) -> bool {
    plan.terms().unit == PrivacyUnit::Report
}

/// The caps of a client, and where a batch lies so that they hold in it.
pub(crate) fn caps_in_words(caps: &Contribution) -> String {
    let (batch, all) = (caps.max_reports_per_batch.get(), reports(caps.max_reports_per_window.get()));
    let window = caps.window;
    match caps.batch_window {
        Some(cells) => format!(
            "at most {} in {cells} and {all} in {window}, and no batch is of more than one such {}",
            reports(batch),
            cells.piece()
        ),
        None if window == Window::Lifetime => format!("at most {all} in {window}"),
        None => format!("at most {all} in {window}, and no batch is of more time than that"),
    }
}

fn reports(number: u32) -> String {
    format!("{number} report{}", if number == 1 { "" } else { "s" })
}

/// A limit in words.
fn limit(limit: &Limit) -> String {
    match limit {
        Limit::Pure { epsilon } => format!("epsilon {}", epsilon.decimal()),
        Limit::Zcdp { rho, report_delta } => {
            let implied = epsilon_of_zcdp(rho, report_delta).ok().map(printed_epsilon);
            let implied = implied.map(|it| format!(" (epsilon {it} at delta {})", report_delta.decimal()));
            format!("rho {}{}", rho.decimal(), implied.unwrap_or_default())
        }
        Limit::Approx { epsilon, delta } => {
            format!("epsilon {} at delta {} (kept by counting rho)", epsilon.decimal(), delta.decimal())
        }
    }
}

impl WithoutDp {
    /// The exception in plain English.
    pub fn explain(&self) -> String {
        self.sentence().text
    }

    /// The same, by its name.
    pub fn sentence(&self) -> Sentence {
        Promise::WithoutNoise.says(format!(
            "NOT differentially private: by policy \"{}\" version {} totals of tasks that no release matches leave without \
             noise before {} ({}).",
            self.policy().id,
            self.policy().version,
            i64::try_from(self.expires()).map_or_else(|_| "any day".to_owned(), format_second),
            self.justification()
        ))
    }

    /// The same for machines.
    pub fn export(&self) -> serde_json::Value {
        serde_json::json!({
            "tasks": "those that no release matches",
            "expires": self.expires(),
            "justification": self.justification(),
            "explanation": self.explain(),
        })
    }
}

/// An ε as people read it: four digits after the point, rounded up, so that no screen promises more than was computed.
/// What is less than the smallest unit of a budget, 10⁻¹², above a digit is the rounding of the machine and is not counted.
pub fn printed_epsilon(epsilon: f64) -> String {
    format!("{:.4}", (epsilon * 1e4 - 1e-9).ceil().max(0.0).abs() / 1e4)
}

/// The factor by which ε changes odds, three digits after the point, rounded up.
pub fn printed_factor(epsilon: f64) -> String {
    let factor = epsilon.exp().next_up().next_up();
    let rounded = (factor * 1e3).ceil() / 1e3;
    if rounded.is_finite() { format!("{rounded:.3}") } else { format!("e^{epsilon}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_factor_is_never_less_than_the_one_that_epsilon_implies() {
        let printed = [1.0, 0.25, 0.1, 0.5, 800.0].map(printed_factor);
        assert_eq!(printed, ["2.719", "1.285", "1.106", "1.649", "e^800"]);
        for epsilon in [0.01, 0.1, 0.25, 0.3, 0.5, 1.0, 2.0, 3.5, 8.0] {
            let factor: f64 = printed_factor(epsilon).parse().expect("a number");
            assert!(factor >= epsilon.exp() && factor - epsilon.exp() < 0.001_1, "{epsilon}: {factor}");
        }
    }

    #[test]
    fn a_printed_epsilon_is_never_less_than_the_one_that_was_computed() {
        let printed = [0.364_61, 0.3, 0.1 + 0.2, 2.177_200_000_001, 0.0].map(printed_epsilon);
        assert_eq!(printed, ["0.3647", "0.3000", "0.3000", "2.1773", "0.0000"]);
    }
}
