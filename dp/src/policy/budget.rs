//! A budget: how much one privacy unit may lose, and what is counted.

use crate::accountant::Window;
use crate::policy::reader::{At, Section};
use crate::rational::Rational;
use crate::sensitivity::NeighboringRelation;
use crate::units::{limit_units, units_to_rational};

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
    pub(crate) unit: PrivacyUnit,
    pub(crate) relation: NeighboringRelation,
    pub(crate) variant: Variant,
    pub(crate) limit_units: i64,
    pub(crate) report_delta: Option<Rational>,
}

impl Budget {
    /// The name that releases and the ledger use.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The limit in ledger units.
    pub fn limit_units(&self) -> i64 {
        self.limit_units
    }

    /// What the limit is counted in.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// What the limit holds for.
    pub fn window(&self) -> Window {
        Window::Lifetime
    }

    /// The delta at which the budget is reported as an epsilon; nothing for a pure one.
    pub fn report_delta(&self) -> Option<&Rational> {
        self.report_delta.as_ref()
    }

    /// Who the guarantee is about.
    pub fn unit(&self) -> PrivacyUnit {
        self.unit
    }
}

const KEYS: [&str; 9] = [
    "id",
    "privacy_unit",
    "neighboring_relation",
    "dp_variant",
    "rho",
    "epsilon",
    "report_delta",
    "window",
    "on_exhausted",
];
const LATER: [&str; 3] = ["delta", "warn_at", "epsilon_ceiling_override"];

pub(super) fn read(section: &Section<'_>) -> Option<Budget> {
    section.refuse_other_keys(&KEYS, &LATER);
    let id = section.required_text("id", "\"a-name\"");
    let unit = read_unit(section);
    let relation = read_relation(section);
    let variant = read_variant(section);
    read_window(section);
    read_exhausted(section);
    let report_delta = variant.and_then(|variant| read_delta(section, variant).ok());
    let limit_units = variant.and_then(|variant| read_limit(section, variant));
    Some(Budget {
        id: id?.value,
        unit: unit?,
        relation: relation?,
        variant: variant?,
        limit_units: limit_units?,
        report_delta: report_delta?,
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

fn read_variant(section: &Section<'_>) -> Option<Variant> {
    section.required_text("dp_variant", "\"zcdp\" or \"pure\"")?;
    let words = [("zcdp", Some(Variant::Zcdp)), ("pure", Some(Variant::Pure)), ("approx", None)];
    let word = section.choice("dp_variant", &words)?;
    if word.value.is_none() {
        let what = "dp_variant \"approx\" is not supported by this version of mica";
        section.reader.report(
            word.at,
            "E001",
            what,
            "use \"zcdp\", which is reported as epsilon at report_delta",
        );
    }
    word.value
}

/// The only window of this version.
fn read_window(section: &Section<'_>) {
    if !section.has("window") {
        return section.missing("window", "{ kind = \"lifetime\" }");
    }
    let Some(window) = section.section("window") else { return };
    let kinds = [("lifetime", true), ("calendar", false), ("rolling", false)];
    match window.choice("kind", &kinds) {
        Some(At { value: true, .. }) => window.refuse_other_keys(&["kind"], &["length", "epoch"]),
        Some(At { at, .. }) => section.reader.report(
            at,
            "E070",
            "calendar and rolling windows are not supported by this version of mica",
            "use kind = \"lifetime\"",
        ),
        None if window.has("kind") => {}
        None => window.missing("kind", "\"lifetime\""),
    }
}

fn read_exhausted(section: &Section<'_>) {
    section.required_text("on_exhausted", "\"refuse\"");
    section.choice("on_exhausted", &[("refuse", ())]);
}

/// The delta that epsilon is reported at: needed under zCDP, meaningless under pure DP.
fn read_delta(section: &Section<'_>, variant: Variant) -> Result<Option<Rational>, Reported> {
    let delta = section.positive("report_delta");
    match (variant, section.has("report_delta")) {
        (Variant::Pure, false) => Ok(None),
        (Variant::Pure, true) => {
            let at = section.key_place("report_delta");
            let what = "dp_variant \"pure\" has no delta";
            section.reader.report(at, "E012", what, "remove report_delta");
            Err(Reported)
        }
        (Variant::Zcdp, false) => {
            let what =
                format!("{} is counted in rho, which implies an epsilon only at a delta", section.name);
            section.reader.report(section.at, "E012", what, "add report_delta = 1e-8");
            Err(Reported)
        }
        (Variant::Zcdp, true) => {
            let delta = delta.ok_or(Reported)?;
            if delta.value < Rational::whole(1u8) {
                return Ok(Some(delta.value));
            }
            let what = format!("report_delta must be between 0 and 1, got {}", delta.value);
            section.reader.report(delta.at, "E012", what, "write a small number such as 1e-8");
            Err(Reported)
        }
    }
}

/// The problem is among the findings already.
struct Reported;

fn read_limit(section: &Section<'_>, variant: Variant) -> Option<i64> {
    let (key, other) = match variant {
        Variant::Pure => ("epsilon", "rho"),
        Variant::Zcdp => ("rho", "epsilon"),
    };
    if section.has(other) {
        let what = format!("a budget of this dp_variant is limited by {key}, not by {other}");
        section.reader.report(section.key_place(other), "E021", what, format!("write {key} = ... instead"));
    } else if !section.has(key) {
        section.missing(key, "1.0");
    }
    let amount = section.positive(key)?;
    resolve(section, key, &amount, limit_units)
}

/// An amount in ledger units, or a finding that it does not fit.
pub(super) fn resolve(
    section: &Section<'_>,
    key: &str,
    amount: &At<Rational>,
    round: fn(&Rational) -> Option<i64>,
) -> Option<i64> {
    let resolution = units_to_rational(1);
    let value = &amount.value;
    if *value < resolution {
        let what = format!("{key} {value} is below the ledger resolution 1e-12");
        section.reader.report(amount.at, "E003", what, "write 1e-12 or more");
        return None;
    }
    let units = round(value);
    if units.is_none() {
        let what = format!("{key} {value} is more than the ledger can hold");
        section.reader.report(amount.at, "E003", what, "write less than 9000000: more is no privacy at all");
    }
    units
}
