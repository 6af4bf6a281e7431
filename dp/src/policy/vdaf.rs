//! The `vdaf` of a release: the shape of its measurements, as a person writes it.

use super::catalogue;
use super::reader::{Section, did_you_mean};
use crate::shape::Shape;

/// Reads `vdaf = { type = "prio3-histogram", length = 1000 }`.
pub(super) fn read(section: &Section<'_>) -> Option<Shape> {
    if !section.has("vdaf") {
        section.missing("vdaf", "{ type = \"prio3-count\" }");
    }
    let vdaf = section.section("vdaf")?;
    let kind = vdaf.required_text("type", "\"prio3-count\"")?;
    let length = || required(&vdaf, "length").and_then(|()| vdaf.counting("length", "E024"));
    let whole = |key: &str| {
        required(&vdaf, key)?;
        let number = vdaf.whole(key)?;
        if number.value == 0 {
            vdaf.reader.report(
                number.at,
                "E024",
                format!("{key} must be 1 or more"),
                "write the task's value",
            );
            return None;
        }
        Some(number)
    };
    let shape = match kind.value.as_str() {
        "prio3-count" => Some(Shape::Count),
        "prio3-sum" => whole("max_measurement").map(|max| Shape::Sum { max_measurement: max.value }),
        "prio3-sum-vec" => length()
            .zip(whole("max_measurement"))
            .map(|(length, max)| Shape::SumVec { length: length.value.get(), max_measurement: max.value }),
        "prio3-histogram" => length().map(|length| Shape::Histogram { length: length.value.get() }),
        "prio3-multihot-count-vec" => length().zip(whole("max_weight")).and_then(|(length, weight)| {
            if weight.value > u64::from(length.value.get()) {
                let what = format!("max_weight {} exceeds length {}", weight.value, length.value);
                vdaf.reader.report(weight.at, "E024", what, "write the task's values");
                return None;
            }
            Some(Shape::Multihot { length: length.value.get(), max_weight: weight.value })
        }),
        other => {
            let what = format!("no sensitivity is defined for {other} in this version");
            let known = catalogue::VDAF.words("type");
            let fix =
                did_you_mean(other, known).unwrap_or_else(|| format!("use one of {}", known.join(", ")));
            vdaf.reader.report(kind.at, "E024", what, fix);
            return None;
        }
    };
    vdaf.refuse_other_keys(&catalogue::VDAF, &[]);
    vdaf.refuse_keys_of_other_cases(&catalogue::VDAF, &kind.value);
    shape
}

fn required(vdaf: &Section<'_>, key: &str) -> Option<()> {
    if !vdaf.has(key) {
        vdaf.missing(key, "the task's value");
        return None;
    }
    Some(())
}
