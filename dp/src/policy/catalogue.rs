//! Every key of a policy file, what it means and what it takes: the one list from which the reader knows what to
//! refuse and from which the JSON Schema is made.

/// A table of the file.
pub(super) struct Table {
    /// What it is for.
    pub(super) about: &'static str,
    /// The keys it may have.
    pub(super) keys: &'static [Key],
    /// A key whose word decides about other keys.
    pub(super) cases: Option<Cases>,
    /// Keys of which exactly one is written.
    pub(super) one_of: &'static [&'static str],
}

/// A key of a table.
pub(super) struct Key {
    /// How it is written.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// Whether every such table has it.
    pub(super) needed: bool,
    /// What it means, in a sentence.
    pub(super) about: &'static str,
}

/// What a key takes.
pub(super) enum Kind {
    /// A text that is not empty.
    Text,
    /// One of these words.
    Words(&'static [&'static str]),
    /// An exact number above zero: a decimal, or a fraction as a text.
    Amount,
    /// An exact number above zero and up to one.
    Share,
    /// A whole number of one or more; beyond 2⁶³ − 1 as a text.
    Whole,
    /// A day.
    Day,
    /// A moment with its offset from UTC.
    Moment,
    /// A time span such as `30d`.
    TimeSpan,
    /// One or more texts.
    Texts,
    /// One table.
    One(&'static Table),
    /// Any number of tables.
    Many(&'static Table),
}

/// What follows from the word under a key.
pub(super) struct Cases {
    /// The key.
    pub(super) by: &'static str,
    /// A case for each word.
    pub(super) cases: &'static [Case],
}

/// What follows from one word.
pub(super) struct Case {
    /// The word.
    pub(super) word: &'static str,
    /// Keys it asks for.
    pub(super) needs: &'static [&'static str],
    /// Keys that make no sense with it.
    pub(super) refuses: &'static [&'static str],
}

const fn key(name: &'static str, kind: Kind, needed: bool, about: &'static str) -> Key {
    Key { name, kind, needed, about }
}

const fn case(word: &'static str, needs: &'static [&'static str], refuses: &'static [&'static str]) -> Case {
    Case { word, needs, refuses }
}

pub(super) const ROOT: Table = Table {
    about: "A differential-privacy policy: what may be released, with how much noise, and who pays.",
    keys: &[
        key("schema", Kind::Words(&["dp-policy/1"]), true, "The language this file is written in."),
        key("policy", Kind::One(&HEADER), true, "Which policy this is, and who answers for it."),
        key("budget", Kind::Many(&BUDGET), false, "What a privacy unit may lose, over what window."),
        key("release", Kind::Many(&RELEASE), false, "What is released, how noisily, and which budgets pay."),
        key("unmatched", Kind::One(&UNMATCHED), false, "What happens to tasks that no release matches."),
    ],
    cases: None,
    one_of: &[],
};

pub(super) const HEADER: Table = Table {
    about: "Which policy this is, and who answers for it.",
    keys: &[
        key("id", Kind::Text, true, "The policy's name; every ledger entry has it."),
        key("version", Kind::Whole, true, "Raised with every change; an older version is refused."),
        key("effective_from", Kind::Moment, false, "Nothing is released under this version before."),
        key("owner", Kind::Text, false, "Who answers for the policy."),
        key("justification", Kind::Text, true, "Why it is as it is; part of the statement of guarantee."),
        key("epsilon_ceiling", Kind::Amount, false, "No budget may imply more epsilon than this."),
    ],
    cases: None,
    one_of: &[],
};

pub(super) const BUDGET: Table = Table {
    about: "What one privacy unit may lose over a window.",
    keys: &[
        key("id", Kind::Text, true, "The budget's name, which releases and the ledger use."),
        key("privacy_unit", Kind::Words(&["client", "report"]), true, "Who the guarantee is about."),
        key(
            "neighboring_relation",
            Kind::Words(&["replace_one", "replace_special"]),
            true,
            "Which change of a unit's reports the guarantee hides: by anything, or by zeros.",
        ),
        key("dp_variant", Kind::Words(&["zcdp", "pure", "approx"]), true, "What the limit is counted in."),
        key("rho", Kind::Amount, false, "The limit of a zcdp budget."),
        key("epsilon", Kind::Amount, false, "The limit of a pure or approx budget."),
        key("delta", Kind::Share, false, "The delta of an approx budget."),
        key(
            "report_delta",
            Kind::Share,
            false,
            "The delta at which a zcdp budget is reported as an epsilon.",
        ),
        key("window", Kind::One(&WINDOW), true, "What the limit holds for, by the time of the reports."),
        key("on_exhausted", Kind::Words(&["refuse"]), true, "Written out so that it is reviewed."),
        key("warn_at", Kind::Share, false, "The part of the limit from which operators are warned."),
        key("epsilon_ceiling_override", Kind::One(&OVERRIDE), false, "A written exception to the ceiling."),
    ],
    cases: Some(Cases {
        by: "dp_variant",
        cases: &[
            case("zcdp", &["rho", "report_delta"], &["epsilon", "delta"]),
            case("pure", &["epsilon"], &["rho", "delta", "report_delta"]),
            case("approx", &["epsilon", "delta"], &["rho", "report_delta"]),
        ],
    }),
    one_of: &[],
};

pub(super) const OVERRIDE: Table = Table {
    about: "A written exception to epsilon_ceiling.",
    keys: &[
        key("epsilon", Kind::Amount, true, "The ceiling of this budget."),
        key("justification", Kind::Text, true, "Why this budget may pass the ceiling."),
    ],
    cases: None,
    one_of: &[],
};

pub(super) const WINDOW: Table = Table {
    about: "What a limit holds for, by the time of the reports, UTC.",
    keys: &[
        key("kind", Kind::Words(&["lifetime", "calendar", "rolling"]), true, "The kind of window."),
        key("unit", Kind::Words(&UNITS), false, "The unit of a calendar window."),
        key("length", Kind::TimeSpan, false, "The length of a rolling window."),
        key("epoch", Kind::TimeSpan, false, "The grid a rolling window moves on."),
    ],
    cases: Some(Cases {
        by: "kind",
        cases: &[
            case("lifetime", &[], &["unit", "length", "epoch"]),
            case("calendar", &["unit"], &["length", "epoch"]),
            case("rolling", &["length", "epoch"], &["unit"]),
        ],
    }),
    one_of: &[],
};

const UNITS: [&str; 5] = ["day", "week", "month", "quarter", "year"];

pub(super) const RELEASE: Table = Table {
    about: "What is released, how noisily, and which budgets pay.",
    keys: &[
        key("id", Kind::Text, true, "The release's name."),
        key("match", Kind::One(&MATCH), true, "Which tasks it is for."),
        key("vdaf", Kind::One(&VDAF), true, "What the task measures; sensitivity follows from it."),
        key("min_batch_size", Kind::Whole, true, "The fewest reports in a batch, as in the task."),
        key("charge", Kind::Texts, true, "The budgets that pay, all or none."),
        key(
            "contribution",
            Kind::One(&CONTRIBUTION),
            false,
            "Caps on a unit's reports; a client needs them.",
        ),
        key("mechanism", Kind::Words(&["discrete_laplace", "discrete_gaussian"]), true, "The noise."),
        key("epsilon_per_release", Kind::Amount, false, "What a release with Laplace noise costs."),
        key("rho_per_release", Kind::Amount, false, "What a release with Gaussian noise costs."),
        key(
            "noise_scale",
            Kind::Amount,
            false,
            "The scale (Laplace) or sigma (Gaussian), instead of a cost.",
        ),
        key("noise_by", Kind::Words(&["each_aggregator"]), true, "Each adds all of the noise."),
        key("report_count", Kind::Words(&["public"]), true, "DAP reveals it exactly; no noise covers it."),
        key("accuracy", Kind::One(&ACCURACY), false, "What the noise must allow."),
    ],
    cases: Some(Cases {
        by: "mechanism",
        cases: &[
            case("discrete_laplace", &[], &["rho_per_release"]),
            case("discrete_gaussian", &[], &["epsilon_per_release"]),
        ],
    }),
    one_of: &["epsilon_per_release", "rho_per_release", "noise_scale"],
};

pub(super) const MATCH: Table = Table {
    about: "Which tasks a release is for: by identifier, or by label.",
    keys: &[
        key("task_ids", Kind::Texts, false, "Task identifiers in base64url; they go before labels."),
        key("label", Kind::Text, false, "The task's label, or its beginning with a * behind."),
        key("vdaf_type", Kind::Words(&VDAFS), false, "Only tasks with this VDAF."),
    ],
    cases: None,
    one_of: &["task_ids", "label"],
};

const VDAFS: [&str; 5] =
    ["prio3-count", "prio3-sum", "prio3-sum-vec", "prio3-histogram", "prio3-multihot-count-vec"];

pub(super) const VDAF: Table = Table {
    about: "What a task measures.",
    keys: &[
        key("type", Kind::Words(&VDAFS), true, "The VDAF."),
        key("length", Kind::Whole, false, "Coordinates of a total."),
        key("max_measurement", Kind::Whole, false, "The largest measurement, or coordinate of one."),
        key("max_weight", Kind::Whole, false, "The most ones in a measurement."),
    ],
    cases: Some(Cases {
        by: "type",
        cases: &[
            case("prio3-count", &[], &["length", "max_measurement", "max_weight"]),
            case("prio3-sum", &["max_measurement"], &["length", "max_weight"]),
            case("prio3-sum-vec", &["length", "max_measurement"], &["max_weight"]),
            case("prio3-histogram", &["length"], &["max_measurement", "max_weight"]),
            case("prio3-multihot-count-vec", &["length", "max_weight"], &["max_measurement"]),
        ],
    }),
    one_of: &[],
};

pub(super) const CONTRIBUTION: Table = Table {
    about: "How many reports one privacy unit contributes, and who sees to it.",
    keys: &[
        key("max_reports_per_batch", Kind::Whole, true, "The most in one batch."),
        key(
            "batch_window",
            Kind::TimeSpan,
            false,
            "The pieces of time (UTC) in each of which a client sends no more than that; a batch lies in one.",
        ),
        key("max_reports_per_window", Kind::Whole, false, "The most in the shortest window that is charged."),
        key("enforced_by", Kind::Words(&["client", "privacy-pass", "none"]), false, "Who enforces both."),
    ],
    cases: None,
    one_of: &[],
};

pub(super) const ACCURACY: Table = Table {
    about: "The interval that results must have at most.",
    keys: &[
        key("max_half_width", Kind::Amount, true, "Half of its width, for one coordinate."),
        key("confidence", Kind::Share, true, "The part of results whose interval holds the truth."),
    ],
    cases: None,
    one_of: &[],
};

pub(super) const UNMATCHED: Table = Table {
    about: "What happens to tasks that no release matches.",
    keys: &[
        key("action", Kind::Words(&["refuse", "release_without_dp"]), true, "What happens."),
        key("justification", Kind::Text, false, "Why totals may leave without noise."),
        key("expires", Kind::Day, false, "The last day on which they may."),
    ],
    cases: Some(Cases {
        by: "action",
        cases: &[
            case("refuse", &[], &["justification", "expires"]),
            case("release_without_dp", &["justification", "expires"], &[]),
        ],
    }),
    one_of: &[],
};

impl Table {
    /// The names of the keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }

    /// The words that a key takes.
    pub(super) fn words(&self, key: &str) -> &'static [&'static str] {
        match self.keys.iter().find(|it| it.name == key).map(|it| &it.kind) {
            Some(Kind::Words(words)) => words,
            _ => &[],
        }
    }
}
