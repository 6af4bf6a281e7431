//! The caps on what one privacy unit contributes, and who enforces them.

use std::num::NonZeroU32;

use super::budget::PrivacyUnit;
use super::catalogue;
use super::reader::{At, Section};
use crate::accountant::{BatchWindow, Window};
use crate::statement::{Contribution, Enforcer};

/// Reads `contribution = { ... }`; a report needs none, a client does. `window` is the shortest of those charged: the
/// cap on a client's reports is counted in it.
pub(super) fn read(section: &Section<'_>, unit: PrivacyUnit, window: Window) -> Option<Contribution> {
    let one = NonZeroU32::MIN;
    if !section.has("contribution") && unit == PrivacyUnit::Report {
        return Some(Contribution {
            max_reports_per_batch: one,
            batch_window: None,
            max_reports_per_window: one,
            window: Window::Lifetime,
            enforced_by: Enforcer::None,
        });
    }
    let example = "{ max_reports_per_batch = 1, batch_window = \"1d\", max_reports_per_window = 30, \
                   enforced_by = \"client\" }";
    if !section.has("contribution") {
        section.reader.report(
            section.at,
            "E030",
            format!("{} is about clients and has no caps on their reports", section.name),
            format!("add contribution = {example}"),
        );
    }
    let caps = section.section("contribution")?;
    caps.refuse_other_keys(&catalogue::CONTRIBUTION, &[]);
    let per_batch = caps.counting("max_reports_per_batch", "E030");
    let per_window = caps.counting("max_reports_per_window", "E030");
    let words =
        [("client", Enforcer::Client), ("privacy-pass", Enforcer::PrivacyPass), ("none", Enforcer::None)];
    let enforcer = caps.choice("enforced_by", &words);
    for (key, missing) in [
        ("max_reports_per_batch", !caps.has("max_reports_per_batch")),
        ("max_reports_per_window", unit == PrivacyUnit::Client && !caps.has("max_reports_per_window")),
    ] {
        if missing {
            caps.reader.report(
                caps.at,
                "E030",
                format!("contribution has no {key}"),
                format!("add {key} = 1"),
            );
        }
    }
    match unit {
        PrivacyUnit::Client => client_caps(&caps, (per_batch, per_window), enforcer, window),
        PrivacyUnit::Report => report_caps(&caps, per_batch, per_window, enforcer),
    }
}

fn client_caps(
    caps: &Section<'_>,
    (per_batch, per_window): (Option<At<NonZeroU32>>, Option<At<NonZeroU32>>),
    enforcer: Option<At<Enforcer>>,
    window: Window,
) -> Option<Contribution> {
    let unenforced = enforcer.as_ref().is_some_and(|it| it.value == Enforcer::None);
    if unenforced || !caps.has("enforced_by") {
        caps.reader.report(
            enforcer.as_ref().map_or(caps.at, |it| it.at),
            "E031",
            "privacy_unit \"client\" needs an enforcer: behind OHTTP this server cannot count per client",
            "use privacy_unit = \"report\", or state enforced_by = \"client\" or \"privacy-pass\"",
        );
    }
    let (per_batch, per_window, enforcer) = (per_batch?, per_window?, enforcer?);
    if per_batch.value > per_window.value {
        let what = format!(
            "max_reports_per_batch {} exceeds max_reports_per_window {}",
            per_batch.value, per_window.value
        );
        caps.reader.report(
            per_batch.at,
            "E030",
            what,
            "a batch cannot hold more of a client than a window does",
        );
        return None;
    }
    warn_of_an_assumption(caps, per_window.value, &enforcer, window);
    let batch_window = batch_window(caps, (per_batch.value, per_window.value), window)?;
    (!unenforced).then_some(Contribution {
        max_reports_per_batch: per_batch.value,
        batch_window,
        max_reports_per_window: per_window.value,
        window,
        enforced_by: enforcer.value,
    })
}

/// The pieces of time in which a client counts what it sends per batch. It cannot count in a batch, which the collector
/// chooses later; only where a batch may have all that a client sends in a window, that window will do.
#[expect(clippy::option_option, reason = "none is right, or something is wrong")]
fn batch_window(
    caps: &Section<'_>,
    (per_batch, per_window): (NonZeroU32, NonZeroU32),
    window: Window,
) -> Option<Option<BatchWindow>> {
    if !caps.has("batch_window") {
        if per_batch == per_window {
            return Some(None);
        }
        let what = format!(
            "a client sends {per_batch} of {per_window} reports per batch, and no batch_window says in what time: which \
             of its reports share a batch is decided later"
        );
        caps.reader.report(
            caps.at,
            "E035",
            what,
            "add the length of your batches, such as batch_window = \"1d\"",
        );
        return None;
    }
    let length = caps.time_span("batch_window")?;
    let cells = match BatchWindow::new(length.value) {
        Ok(cells) => cells,
        Err(error) => {
            let fix = "write the length of your batches, such as batch_window = \"1d\"";
            caps.reader.report(length.at, "E035", error.to_string(), fix);
            return None;
        }
    };
    if window.longest().is_some_and(|longest| cells.length() > longest) {
        let what = format!("batch_window is longer than {window}, in which a client's reports are counted");
        caps.reader.report(length.at, "E035", what, "write the length of one batch");
        return None;
    }
    Some(Some(cells))
}

/// No part of mica keeps a client within its caps, whoever is said to do so.
fn warn_of_an_assumption(
    caps: &Section<'_>,
    per_window: NonZeroU32,
    enforcer: &At<Enforcer>,
    window: Window,
) {
    let most = format!("{per_window} report{}", if per_window == NonZeroU32::MIN { "" } else { "s" });
    match enforcer.value {
        Enforcer::Client => {
            let what =
                format!("the client-level guarantee rests on clients sending at most {most} in {window}");
            let fix = "it is printed with every statement; allow W032 if your clients count";
            caps.reader.warn(enforcer.at, "W032", what, fix);
        }
        Enforcer::PrivacyPass => {
            let what = format!(
                "the client-level guarantee rests on one-time tokens that no part of mica checks: clients are said to \
                 send at most {most} in {window}"
            );
            let fix = "it is printed with every statement; allow W036 if somebody else checks them, or write \
                       enforced_by = \"client\"";
            caps.reader.warn(enforcer.at, "W036", what, fix);
        }
        Enforcer::None => {}
    }
}

/// A report is one report: other numbers would promise something that is not so.
fn report_caps(
    caps: &Section<'_>,
    per_batch: Option<At<NonZeroU32>>,
    per_window: Option<At<NonZeroU32>>,
    enforcer: Option<At<Enforcer>>,
) -> Option<Contribution> {
    if caps.has("batch_window") {
        let what = "privacy_unit \"report\" is one report, which is in one batch whatever its time";
        caps.reader.report(caps.key_place("batch_window"), "E035", what, "remove batch_window");
    }
    let per_window = per_window.or_else(|| per_batch.clone());
    for cap in [&per_batch, &per_window].into_iter().flatten().filter(|cap| cap.value != NonZeroU32::MIN) {
        let what = format!("privacy_unit \"report\" is one report, so its cap is 1, not {}", cap.value);
        caps.reader.report(cap.at, "E030", what, "write 1, or use privacy_unit = \"client\"");
    }
    let (per_batch, per_window) = (per_batch?, per_window?);
    let enforced_by = enforcer.map_or(Enforcer::None, |it| it.value);
    (per_window.value == NonZeroU32::MIN && per_batch.value == NonZeroU32::MIN).then_some(Contribution {
        max_reports_per_batch: per_batch.value,
        batch_window: None,
        max_reports_per_window: per_window.value,
        window: Window::Lifetime,
        enforced_by,
    })
}
