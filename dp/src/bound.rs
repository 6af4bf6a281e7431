//! A release statement as another party hands it over: read, spelt anew, and held against the hash that a task is bound to.
//!
//! What a collector prints of a task's noise and loss comes from here, and not from what stands beside the statement in a
//! file. Nothing here knows a report or a total.

use std::num::NonZeroU32;

use mica_dap::task::BatchMode;
use num_bigint::BigUint;
use serde_json::Value;

use crate::accountant::{BatchWindow, CalendarUnit, Rolling, Window, Within};
use crate::conversion::epsilon_of_zcdp;
use crate::mechanism::Mechanism;
use crate::plan::{PolicyRef, ReleasePlan};
use crate::policy::{PrivacyUnit, TaskFacts, Variant, is_small_delta};
use crate::promise::Sentence;
use crate::rational::Rational;
use crate::sensitivity::{NeighboringRelation, Sensitivity};
use crate::shape::Shape;
use crate::statement::{Contribution, Enforcer, Loss, Statement, Terms};

/// A statement whose hash is the one that was asked for.
#[derive(Clone, Debug)]
pub struct BoundStatement(Box<ReleasePlan>);

/// Why a statement is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBound {
    /// A field is missing, or says what this version does not know.
    #[error("it is no release statement of this version")]
    Unreadable,
    /// Its hash is another one.
    #[error("it is another release statement than the task is bound to")]
    OtherHash,
    /// Its noise does not give the loss that it names.
    #[error("it names less loss than its noise gives")]
    TooLittleNoise,
    /// It is about batches of another kind than the task's, so that its noise says nothing of them.
    #[error("it is a release statement about tasks of another kind: this one {0}")]
    OtherTask(&'static str),
}

impl BoundStatement {
    /// The statement, if its one spelling has this hash. `report_delta` is the δ at which its ρ is also told as an ε: any δ
    /// is true, so it need not be bound. But the ε at a large one says nothing, so none is told at a δ that no policy may
    /// have.
    pub fn read(
        statement: &Value,
        sha256: [u8; 32],
        report_delta: Option<Rational>,
    ) -> Result<Self, NotBound> {
        let terms = terms(statement).ok_or(NotBound::Unreadable)?;
        let statement = Statement::new(&terms);
        if statement.sha256() != sha256 {
            return Err(NotBound::OtherHash);
        }
        let most = terms.contribution.max_reports_per_batch.get();
        let sensitivity = Sensitivity::derive(&terms.shape, terms.relation, most);
        if !gives(&terms.mechanism, &terms.loss, &sensitivity) {
            return Err(NotBound::TooLittleNoise);
        }
        // Who wrote it, and which budgets pay, is not in a statement.
        let report_delta = report_delta.filter(is_small_delta);
        Ok(Self(Box::new(ReleasePlan {
            policy: PolicyRef { id: String::new(), version: 0, sha256: [0; 32] },
            release_id: String::new(),
            one_task: false,
            terms,
            statement,
            sensitivity,
            charges: Vec::new(),
            payers: Vec::new(),
            report_delta,
            budgets: Vec::new(),
            effective_from: None,
            owner: None,
            justification: String::new(),
        })))
    }

    /// Whether it is about such a task: its noise was made for a kind of measurement, and its caps for a kind of batches. The
    /// hash alone does not tell, for whoever makes a task may put any into it.
    pub fn check_task(&self, task: &TaskFacts<'_>) -> Result<(), NotBound> {
        let terms = self.0.terms();
        let caps = &terms.contribution;
        let is_all = caps.max_reports_per_batch == caps.max_reports_per_window;
        let selects = task.batch_mode == Some(BatchMode::LeaderSelected);
        let pieces = caps.batch_window.map(|pieces| pieces.length().unsigned_abs());
        let off_grid = |precision| pieces.is_some_and(|pieces| !pieces.is_multiple_of(precision));
        let wrong = if Shape::try_from(task.vdaf) != Ok(terms.shape) {
            "measures something else"
        } else if task.min_batch_size != terms.min_batch_size {
            "has another min_batch_size"
        } else if selects && !(is_all && caps.within().can_be_selected()) {
            "lets its leader select the batches"
        } else if pieces.is_none() && !is_all {
            "has batches of any length"
        } else if task.time_precision.is_some_and(off_grid) {
            "has batches that lie across its pieces of time"
        } else {
            return Ok(());
        };
        Err(NotBound::OtherTask(wrong))
    }

    /// The noise of each aggregator.
    pub fn mechanism(&self) -> &Mechanism {
        self.0.mechanism()
    }

    /// Where a batch must lie.
    pub fn within(&self) -> Within {
        self.0.within()
    }

    /// Half of the interval that holds the truth of every value of a result at once, in 95 of 100 cases.
    pub fn half_width_of_all(&self) -> u64 {
        self.0.half_width_of_all()
    }

    /// The ε of one release and the δ at which it holds, as people read both; nothing where no ε can be told.
    pub fn epsilon(&self) -> Option<(Rational, String)> {
        let loss = &self.0.terms().loss;
        if loss.variant == Variant::Pure {
            return Some((loss.amount.clone(), "0".to_owned()));
        }
        let delta = self.0.report_delta()?;
        let epsilon = epsilon_of_zcdp(&loss.amount, delta).ok()?;
        Some((crate::explain::printed_epsilon(epsilon).parse().ok()?, delta.decimal()))
    }

    /// What follows from the statement, sentence by sentence.
    pub fn sentences(&self) -> Vec<Sentence> {
        self.0.sentences_of_the_statement().concat()
    }

    /// The same in lines.
    pub fn explain(&self) -> String {
        crate::explain::lines_of(self.0.sentences_of_the_statement())
    }

    /// The same for machines: those fields of [`ReleasePlan::export`] that need no policy, and the statement in its one
    /// spelling.
    pub fn export(&self) -> Value {
        self.0.export_of_the_statement()
    }
}

/// Whether noise gives at most this loss: exactly, as it was calibrated.
fn gives(mechanism: &Mechanism, loss: &Loss, sensitivity: &Sensitivity) -> bool {
    let over = |distance: &BigUint, by: &Rational| Rational::whole(distance.clone()).divided_by(by);
    let given = match (mechanism, loss.variant) {
        (Mechanism::DiscreteLaplace { scale }, Variant::Pure) => over(&sensitivity.l1, scale),
        (Mechanism::DiscreteGaussian { sigma }, Variant::Zcdp) => {
            over(&sensitivity.l2_squared, &sigma.times(sigma).times(&Rational::whole(2u8)))
        }
        _ => None,
    };
    given.is_some_and(|given| given <= loss.amount)
}

fn terms(statement: &Value) -> Option<Terms> {
    let (caps, loss) = (&statement["contribution"], &statement["loss_per_release"]);
    let amount = |name: &str| text(&loss[name])?.parse::<Rational>().ok();
    let loss = match (amount("epsilon"), amount("rho")) {
        (Some(amount), None) => Loss { variant: Variant::Pure, amount },
        (None, Some(amount)) => Loss { variant: Variant::Zcdp, amount },
        _ => return None,
    };
    Some(Terms {
        shape: shape(&statement["vdaf"])?,
        relation: one_of(
            &statement["neighboring_relation"],
            &[NeighboringRelation::ReplaceOne, NeighboringRelation::ReplaceSpecial],
            NeighboringRelation::name,
        )?,
        unit: one_of(&statement["privacy_unit"], &[PrivacyUnit::Client, PrivacyUnit::Report], |it| {
            it.name()
        })?,
        contribution: Contribution {
            max_reports_per_batch: counting(&caps["max_reports_per_batch"])?,
            batch_window: batch_window(&caps["batch_window_seconds"])?,
            max_reports_per_window: counting(&caps["max_reports_per_window"])?,
            window: window(&caps["window"])?,
            enforced_by: one_of(
                &caps["enforced_by"],
                &[Enforcer::Client, Enforcer::PrivacyPass, Enforcer::None],
                Enforcer::name,
            )?,
        },
        loss,
        mechanism: mechanism(&statement["mechanism"])?,
        min_batch_size: text(&statement["min_batch_size"])?.parse().ok()?,
    })
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn counting(value: &Value) -> Option<NonZeroU32> {
    NonZeroU32::new(value.as_u64()?.try_into().ok()?)
}

fn one_of<T: Copy>(value: &Value, all: &[T], name: impl Fn(T) -> &'static str) -> Option<T> {
    all.iter().copied().find(|it| Some(name(*it)) == value.as_str())
}

fn mechanism(value: &Value) -> Option<Mechanism> {
    let name = text(&value["name"])?;
    let (parameter, number) = ["scale", "sigma"].iter().find_map(|key| Some((key, text(&value[key])?)))?;
    format!("{name}({parameter}={number})").parse().ok()
}

fn shape(value: &Value) -> Option<Shape> {
    let length = || u32::try_from(value["length"].as_u64()?).ok();
    let number = |key: &str| text(&value[key])?.parse::<u64>().ok();
    Some(match text(&value["type"])? {
        "prio3-count" => Shape::Count,
        "prio3-sum" => Shape::Sum { max_measurement: number("max_measurement")? },
        "prio3-sum-vec" => Shape::SumVec { length: length()?, max_measurement: number("max_measurement")? },
        "prio3-histogram" => Shape::Histogram { length: length()? },
        "prio3-multihot-count-vec" => {
            Shape::Multihot { length: length()?, max_weight: number("max_weight")? }
        }
        _ => return None,
    })
}

/// The pieces of time of a cap per batch; there need not be any.
#[expect(clippy::option_option, reason = "none is right, or something is wrong")]
fn batch_window(value: &Value) -> Option<Option<BatchWindow>> {
    if value.is_null() {
        return Some(None);
    }
    BatchWindow::new(text(value)?.parse().ok()?).ok().map(Some)
}

fn window(value: &Value) -> Option<Window> {
    let seconds = |key: &str| text(&value[key])?.parse::<u64>().ok();
    Some(match text(&value["kind"])? {
        "lifetime" => Window::Lifetime,
        "calendar" => Window::Calendar(one_of(&value["unit"], &CalendarUnit::EVERY, CalendarUnit::name)?),
        "rolling" => {
            Window::Rolling(Rolling::new(seconds("length_seconds")?, seconds("epoch_seconds")?).ok()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
#[path = "bound_tests.rs"]
mod tests;
