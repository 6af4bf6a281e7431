//! A budget: how much one privacy unit may lose, over which window, and what is counted.

use super::catalogue;
use super::limit::{self, Limit};
use super::reader::{Place, Section};
use super::window;
use crate::accountant::Window;
use crate::rational::Rational;
use crate::sensitivity::NeighboringRelation;

/// The entity that a guarantee is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivacyUnit {
    /// All reports of one client, within the contribution caps.
    Client,
    /// One report.
    Report,
}

impl PrivacyUnit {
    /// The name policy files and statements use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Report => "report",
        }
    }
}

/// The measure of privacy loss that a budget adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Pure differential privacy: ε adds up.
    Pure,
    /// Zero-concentrated differential privacy: ρ adds up.
    Zcdp,
}

impl Variant {
    /// The name of the amount: `epsilon` or `rho`.
    pub fn amount(self) -> &'static str {
        match self {
            Self::Pure => "epsilon",
            Self::Zcdp => "rho",
        }
    }
}

/// One `[[budget]]` of a policy.
#[derive(Clone, Debug)]
pub struct Budget {
    pub(crate) id: String,
    pub(crate) place: Place,
    pub(crate) unit: PrivacyUnit,
    pub(crate) relation: NeighboringRelation,
    pub(crate) limit: Limit,
    pub(crate) limit_units: i64,
    pub(crate) window: Window,
    pub(crate) warn_at: Option<Rational>,
    pub(crate) exception: Option<CeilingException>,
}

/// A budget's written exception to `epsilon_ceiling`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CeilingException {
    pub(crate) epsilon: Rational,
    pub(crate) justification: String,
}

impl CeilingException {
    /// The ceiling of this budget.
    pub fn epsilon(&self) -> &Rational {
        &self.epsilon
    }

    /// Why, in the words of the policy file.
    pub fn justification(&self) -> &str {
        &self.justification
    }
}

impl Budget {
    /// The name that releases and the ledger use.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The limit in ledger units of [`Self::variant`].
    pub fn limit_units(&self) -> i64 {
        self.limit_units
    }

    /// The limit as it is written.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// What the limit is counted in; ρ for an approximate budget.
    pub fn variant(&self) -> Variant {
        self.limit.counted_in()
    }

    /// Who the guarantee is about.
    pub fn unit(&self) -> PrivacyUnit {
        self.unit
    }

    /// Which change of a unit's reports the guarantee hides.
    pub fn relation(&self) -> NeighboringRelation {
        self.relation
    }

    /// What the limit holds for.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Whether units of that many seconds lie across the borders of its window: a batch of such a unit counts on both sides.
    pub fn is_straddled_by(&self, time_precision: u64) -> bool {
        let step = match self.window {
            Window::Lifetime => return false,
            // Every unit of the calendar begins at midnight.
            Window::Calendar(_) => 86_400,
            Window::Rolling(rolling) => rolling.epoch(),
        };
        u64::try_from(step).is_ok_and(|step| step.checked_rem(time_precision) != Some(0))
    }

    /// The delta at which the budget is reported as an epsilon; nothing for a pure one.
    pub fn report_delta(&self) -> Option<&Rational> {
        self.limit.delta()
    }

    /// The units from which on operators are warned.
    pub fn warn_at_units(&self) -> Option<i64> {
        let limit = crate::units::units_to_rational(self.limit_units);
        self.warn_at.as_ref().and_then(|part| crate::units::charge_units(&limit.times(part)))
    }

    /// The ε that the whole limit implies, rounded up.
    pub fn epsilon(&self) -> Option<f64> {
        self.limit.epsilon()
    }

    /// Its exception to the policy's ceiling.
    pub fn ceiling_exception(&self) -> Option<&CeilingException> {
        self.exception.as_ref()
    }
}

/// Reads one `[[budget]]`. `ceiling` is the policy's.
pub(super) fn read(section: &Section<'_>, ceiling: Option<&Rational>) -> Option<Budget> {
    section.refuse_other_keys(&catalogue::BUDGET, &[]);
    let id = section.name("id", "\"a-name\"");
    let unit = read_unit(section);
    let relation = read_relation(section);
    let window = window::read(section);
    section.required_text("on_exhausted", "\"refuse\"");
    section.choice("on_exhausted", &[("refuse", ())]);
    let warn_at = read_warn_at(section);
    let limit = limit::read(section);
    let exception = read_exception(section, ceiling);
    match (&limit, ceiling) {
        (Some(limit), Some(ceiling)) => {
            limit::check_ceiling(section, limit, ceiling, exception.as_ref());
        }
        (Some(limit), None) => limit::check_without_ceiling(section, limit),
        (None, _) => {}
    }
    let (limit, limit_units) = limit.map(|it| (it.limit, it.units))?;
    Some(Budget {
        id: id?.value,
        place: section.reader.place(section.at),
        unit: unit?,
        relation: relation?,
        limit,
        limit_units,
        window: window?,
        warn_at,
        exception,
    })
}

fn read_unit(section: &Section<'_>) -> Option<PrivacyUnit> {
    section.required_text("privacy_unit", "\"report\" or \"client\"")?;
    let words = [("client", PrivacyUnit::Client), ("report", PrivacyUnit::Report)];
    section.choice("privacy_unit", &words).map(|it| it.value)
}

fn read_relation(section: &Section<'_>) -> Option<NeighboringRelation> {
    section.required_text("neighboring_relation", "\"replace_one\"")?;
    let words = [
        ("replace_one", Some(NeighboringRelation::ReplaceOne)),
        ("replace_special", Some(NeighboringRelation::ReplaceSpecial)),
        ("add_or_remove_one", None),
    ];
    let word = section.choice("neighboring_relation", &words)?;
    if word.value.is_none() {
        section.reader.report(
            word.at,
            "E033",
            "DAP reveals the exact report count, so add_or_remove_one cannot hold",
            "use replace_one",
        );
    }
    word.value
}

fn read_warn_at(section: &Section<'_>) -> Option<Rational> {
    let part = section.positive("warn_at")?;
    if part.value <= Rational::whole(1u8) {
        return Some(part.value);
    }
    let what = format!("warn_at is a part of the limit, got {}", part.value.decimal());
    section.reader.report(part.at, "E002", what, "write a number above 0 and up to 1, such as 0.8");
    None
}

fn read_exception(section: &Section<'_>, ceiling: Option<&Rational>) -> Option<CeilingException> {
    let exception = section.section("epsilon_ceiling_override")?;
    exception.refuse_other_keys(&catalogue::OVERRIDE, &[]);
    if !exception.has("epsilon") {
        exception.missing("epsilon", "16");
    }
    let epsilon = exception.positive("epsilon");
    let justification = exception.required_text("justification", "\"why this budget may pass the ceiling\"");
    let (epsilon, justification) = (epsilon?, justification?);
    match ceiling {
        None => {
            let what = "epsilon_ceiling_override has no epsilon_ceiling to override";
            exception.reader.report(exception.at, "E014", what, "remove it, or write policy.epsilon_ceiling");
        }
        Some(ceiling) if epsilon.value <= *ceiling => {
            let what = format!(
                "the override of {} is not above epsilon_ceiling {}",
                epsilon.value.decimal(),
                ceiling.decimal()
            );
            exception.reader.report(epsilon.at, "E014", what, "remove it, or write a larger epsilon");
        }
        Some(_) => {}
    }
    Some(CeilingException { epsilon: epsilon.value, justification: justification.value })
}
