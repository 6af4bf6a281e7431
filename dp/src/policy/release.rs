//! A release: which tasks, what noise, which budgets pay.

use super::advice::{self, Resolved};
use super::budget::Budget;
use super::reader::{At, Place, Section};
use super::selector::Selector;
use super::{catalogue, contribution, loss, payers, selector, vdaf};
use crate::accountant::Window;
use crate::plan::Charge;
use crate::rational::Rational;
use crate::sensitivity::Sensitivity;
use crate::statement::{Loss, Terms};

/// One `[[release]]` of a policy, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) id: String,
    pub(crate) place: Place,
    pub(crate) selector: Selector,
    pub(crate) terms: Terms,
    pub(crate) sensitivity: Sensitivity,
    pub(crate) charges: Vec<Charge>,
    pub(crate) report_delta: Option<Rational>,
}

/// Reads one release. `known` are the ids of all budgets, also of those that could not be read.
pub(super) fn read(section: &Section<'_>, budgets: &[Budget], known: &[String]) -> Option<Release> {
    refuse_typed_sensitivity(section);
    section.refuse_other_keys(&catalogue::RELEASE, &["sensitivity"]);
    let id = section.name("id", "\"a-name\"");
    let shape = vdaf::read(section);
    let selector = selector::read(section, shape);
    let min_batch_size = read_min_batch_size(section);
    read_fixed_words(section);
    let payers = payers::read(section, budgets, known);
    let unit = payers.as_ref().and_then(|payers| payers::common_unit(section, payers));
    // A cap on reports is counted in the shortest window that is charged.
    let window = payers.iter().flatten().map(|budget| budget.window);
    let window = Window::shortest(window).unwrap_or(Window::Lifetime);
    let contribution = unit.and_then(|(unit, _)| contribution::read(section, unit, window));
    let written = loss::read(section);
    let noise = (|| {
        let (shape, (unit, relation), caps) = (shape?, unit?, contribution?);
        let sensitivity = Sensitivity::derive(&shape, relation, caps.max_reports_per_batch.get());
        let loss = written?.loss(section, &sensitivity)?;
        let charges = payers.as_ref().and_then(|payers| payers::price(section, &loss, payers));
        let mechanism = loss::calibrate(section, &loss, &sensitivity, shape)?;
        Some((shape, unit, relation, caps, sensitivity, loss, charges, mechanism))
    })();
    let Some((shape, unit, relation, contribution, sensitivity, loss, charges, mechanism)) = noise else {
        advice::read_accuracy(section, None);
        return None;
    };
    let (payers, min_batch_size) = (payers?, min_batch_size?);
    let resolved = Resolved {
        loss: &loss,
        sensitivity: &sensitivity,
        mechanism: &mechanism,
        unit,
        contribution: &contribution,
        payers: &payers,
        min_batch_size,
    };
    advise(section, &resolved);
    let loss = Loss { variant: loss.variant, amount: loss.amount };
    let terms = Terms { shape, relation, unit, contribution, loss, mechanism, min_batch_size };
    // Several budgets may report at several deltas: the smallest gives the largest epsilon.
    let report_delta = payers.iter().filter_map(|budget| budget.report_delta().cloned()).min();
    Some(Release {
        id: id?.value,
        place: section.reader.place(section.at),
        selector: selector?,
        terms,
        sensitivity,
        charges: charges?,
        report_delta,
    })
}

fn advise(section: &Section<'_>, resolved: &Resolved<'_>) {
    advice::read_accuracy(section, Some(resolved));
    advice::check_delta(section, resolved.payers, resolved.min_batch_size);
    advice::compare_mechanisms(section, resolved);
}

fn refuse_typed_sensitivity(section: &Section<'_>) {
    if section.has("sensitivity") {
        let at = section.key_place("sensitivity");
        section.reader.report(at, "E022", "sensitivity is derived from vdaf", "remove this field");
    }
}

fn read_min_batch_size(section: &Section<'_>) -> Option<u64> {
    if !section.has("min_batch_size") {
        section.missing("min_batch_size", "100");
    }
    let size = section.whole("min_batch_size")?;
    if size.value == 0 {
        let what = "min_batch_size must be 1 or more";
        section.reader.report(size.at, "E044", what, "write the task's min_batch_size");
        return None;
    }
    Some(size.value)
}

/// Keys that have one permitted value, written out so that it is reviewed.
fn read_fixed_words(section: &Section<'_>) {
    section.required_text("noise_by", "\"each_aggregator\"");
    if let Some(At { value: word, at }) = section.text("noise_by")
        && word != "each_aggregator"
    {
        let what = "half noise leaves twice the loss if one aggregator is dishonest; not supported";
        section.reader.report(at, "E043", what, "write noise_by = \"each_aggregator\"");
    }
    section.required_text("report_count", "\"public\"");
    section.choice("report_count", &[("public", ())]);
}
