//! Why a batch does not pass the gate.

use http::StatusCode;
use mica_dap::problem::Problem;
use mica_dp::accountant::{OverBudget, Span, TooWide, Window, Within, format_second};
use mica_dp::units::format_units;
use mica_dp::{ChargeError, Expired, NoException, NotYetInForce};
use mica_service::store::StoreError;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::error::{self, Abort, Fault, ServerError};
use crate::task::{Role, Task};

/// The gate says no. Nothing was charged and nothing drawn.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    /// A budget has not enough left.
    #[error(transparent)]
    Exhausted(Box<OverBudget>),
    /// The batch reaches over more time than the caps on reports hold for.
    #[error(transparent)]
    TooWide(#[from] TooWide),
    /// The policy lets no batch as small as this one go.
    #[error("the batch has fewer reports than the policy asks for")]
    TooSmall,
    /// The sum of so many reports, with noise, may not fit the field.
    #[error("the total of so many reports may not fit the field")]
    Overflow,
    /// The policy does not hold yet.
    #[error(transparent)]
    NotYet(NotYetInForce),
    /// The written exception from noise does not hold any more.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// The batch, or a part of it, was released before.
    #[error("the batch was collected before")]
    Collected,
    /// The helper refused it a moment ago, and is not asked again yet.
    #[error("the helper refused it, and is not asked again yet")]
    ByHelper(Box<Abort>),
    /// The ledger is older than it was. The operator's log says more.
    #[error(
        "its ledger is not where it had come to, and nothing is released until its operator has seen to it"
    )]
    SetBack,
}

/// Why a release did not happen.
#[derive(Debug, Error)]
pub(crate) enum ReleaseError {
    /// The gate said no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of ours failed.
    #[error("the release failed: {0}")]
    Fault(Fault),
}

impl Refused {
    /// As the problem document that the peer gets.
    pub(crate) fn abort(&self, task: &Task) -> Abort {
        match self {
            Self::Exhausted(over) => {
                Abort::budget_exhausted(detail(over, task.role), members(over, task.role))
            }
            Self::TooWide(wide) => Abort::batch_too_wide(in_pieces(wide), pieces(wide)),
            Self::TooSmall => Abort::new(Problem::InvalidBatchSize, self.to_string()),
            Self::Overflow => self.forbidden(error::FIELD_OVERFLOW, "The total may not fit the field."),
            Self::NotYet(_) => self.forbidden(error::POLICY_NOT_IN_FORCE, "The policy does not hold yet."),
            Self::Expired(_) => {
                self.forbidden(error::EXCEPTION_EXPIRED, "The written exception from noise has run out.")
            }
            Self::SetBack => {
                let title = "The ledger of an aggregator was set back.";
                let detail = format!("the {}: {self}", task.role);
                Abort::named(error::LEDGER_SET_BACK, title, StatusCode::FORBIDDEN, detail)
            }
            Self::ByHelper(abort) => (**abort).clone(),
            Self::Collected => Abort::new(Problem::BatchOverlap, self.to_string()),
        }
        .in_task(&task.id)
    }

    /// By its name the leader knows that asking again is no use, and the collector why.
    fn forbidden(&self, name: &'static str, title: &'static str) -> Abort {
        Abort::named(name, title, StatusCode::FORBIDDEN, self.to_string())
    }
}

impl ReleaseError {
    /// As a handler answers it.
    pub(crate) fn answer(self, task: &Task) -> ServerError {
        match self {
            Self::Refused(refused) => refused.abort(task).into(),
            Self::Store(error) => error.into(),
            Self::Fault(fault) => fault.into(),
        }
    }

    /// Something of ours failed.
    pub(super) fn fault(cause: impl Into<anyhow::Error>) -> Self {
        Self::Fault(Fault::new(cause))
    }
}

impl From<ChargeError> for ReleaseError {
    fn from(error: ChargeError) -> Self {
        match error {
            ChargeError::Exhausted(exhausted) => Refused::Exhausted(exhausted).into(),
            ChargeError::TooWide(wide) => Refused::TooWide(wide).into(),
            ChargeError::NotYetInForce(not_yet) => Refused::NotYet(not_yet).into(),
            ChargeError::FieldOverflow(_) => Refused::Overflow.into(),
            ChargeError::BatchTooSmall { .. } => Refused::TooSmall.into(),
            ChargeError::UnknownBudget(_) => Self::fault(error),
        }
    }
}

impl From<NoException> for ReleaseError {
    fn from(error: NoException) -> Self {
        match error {
            NoException::Expired(expired) => Refused::Expired(expired).into(),
            NoException::NotYetInForce(not_yet) => Refused::NotYet(not_yet).into(),
        }
    }
}

/// What a person needs to know to ask for less time.
fn in_pieces(wide: &TooWide) -> String {
    let why = "in which a client counts its reports";
    let fits = first_that_fits(wide).map_or_else(String::new, |first| {
        let (from, to) = (format_second(first.from()), format_second(first.to()));
        format!(" Ask for each by itself, first --from {from} --to {to}.")
    });
    let last = wide.within.longest().filter(|_| matches!(wide.within, Within::Cell(_)));
    let last = last.map_or_else(String::new, |seconds| {
        format!(" `mica collect` with --last {} asks for one, at its end.", duration(seconds))
    });
    format!("{wide}, {why}. Nothing was charged and nothing is closed.{fits}{last}")
}

/// The beginning of what was asked for, as far as one batch goes.
fn first_that_fits(wide: &TooWide) -> Option<Span> {
    let TooWide { span, within } = wide;
    let from = span.from();
    let piece = match within {
        Within::Cell(cells) => cells.cell(from),
        Within::Window(Window::Calendar(unit)) => unit.containing(from),
        Within::Window(Window::Rolling(rolling)) => Span::new(from, from + rolling.length()).ok()?,
        Within::Window(Window::Lifetime) => return None,
    };
    piece.common(*span)
}

/// Seconds as an option of a command takes them.
fn duration(seconds: i64) -> String {
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    let (length, unit) = units.into_iter().find(|(length, _)| seconds % length == 0).unwrap_or((1, 's'));
    format!("{}{unit}", seconds / length)
}

/// The same for programs.
fn pieces(wide: &TooWide) -> Map<String, Value> {
    let first = first_that_fits(wide);
    let texts = [
        ("batch_within", Some(wide.within.to_string())),
        ("longest_seconds", wide.within.longest().map(|seconds| seconds.to_string())),
        ("fits_from", first.map(|first| format_second(first.from()))),
        ("fits_to", first.map(|first| format_second(first.to()))),
    ];
    texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?)))).collect()
}

/// What a person needs to know, in a few sentences. The time of a batch's data is fixed, so what is refused for a budget
/// does not fit by waiting: what renews is room for the data of other batches. It fits later only if a release that was
/// reserved comes to nothing, or a new version of the policy has a higher limit.
fn detail(over: &OverBudget, role: Role) -> String {
    let OverBudget { budget_id, window, spent, requested, limit, left, renews, fits } = over;
    let window =
        if *window == Span::ALL { "for all time".to_owned() } else { format!("for data of {window}") };
    let room = match renews {
        Some(renews) => format!(
            "This batch does not fit as long as nothing is given back and the limit stays, for the time of its data is \
             fixed; one like it whose data are all of {} or later has room",
            format_second(*renews)
        ),
        None => "The budget does not renew".to_owned(),
    };
    let fitting = match fits {
        ..=0 => "Nothing fits".to_owned(),
        fits => format!("One of up to {} would fit", format_units(*fits)),
    };
    format!(
        "budget \"{budget_id}\" of the {role} has {} of {} left {window} ({} spent), and this release needs {} more. \
         {fitting}. {room}. Nothing was charged; `mica budget show` at the {role} tells more.",
        format_units(*left),
        format_units(*limit),
        format_units(*spent),
        format_units(*requested),
    )
}

/// The same for programs.
fn members(over: &OverBudget, role: Role) -> Map<String, Value> {
    let OverBudget { budget_id, window, spent, requested, limit, left, renews, fits } = over;
    let units = |units: &i64| Some(format_units(*units));
    let bounded = Some(window).filter(|window| **window != Span::ALL);
    let texts = [
        ("budget", Some(budget_id.clone())),
        ("ledger_of", Some(role.to_string())),
        ("window_from", bounded.map(|window| format_second(window.from()))),
        ("window_to", bounded.map(|window| format_second(window.to()))),
        ("spent", units(spent)),
        ("requested", units(requested)),
        ("limit", units(limit)),
        ("remaining", units(left)),
        ("would_fit", units(fits)),
        ("renews_at", renews.map(format_second)),
        ("see", Some(format!("mica budget show --config {role}.toml"))),
    ];
    texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?)))).collect()
}
