//! The window of a budget: over which time its limit holds.

use super::catalogue;
use super::reader::Section;
use crate::accountant::{CalendarUnit, Rolling, Window};

/// Reads `window = { kind = "rolling", length = "30d", epoch = "1d" }`.
pub(super) fn read(section: &Section<'_>) -> Option<Window> {
    const EXAMPLE: &str = "{ kind = \"rolling\", length = \"30d\", epoch = \"1d\" }";
    if !section.has("window") {
        section.missing("window", EXAMPLE);
    }
    let window = section.section("window")?;
    window.refuse_other_keys(&catalogue::WINDOW, &[]);
    if !window.has("kind") {
        window.missing("kind", "\"lifetime\", \"calendar\" or \"rolling\"");
    }
    let words = ["lifetime", "calendar", "rolling"];
    let kind = window.choice("kind", &words.map(|word| (word, word)))?.value;
    window.refuse_keys_of_other_cases(&catalogue::WINDOW, kind);
    match kind {
        "calendar" => calendar(&window),
        "rolling" => rolling(&window),
        _ => Some(Window::Lifetime),
    }
}

fn calendar(window: &Section<'_>) -> Option<Window> {
    needs(window, "calendar", "unit", "\"month\"")?;
    let units = CalendarUnit::EVERY.map(|unit| (unit.name(), unit));
    window.choice("unit", &units).map(|unit| Window::Calendar(unit.value))
}

fn rolling(window: &Section<'_>) -> Option<Window> {
    let length = needs(window, "rolling", "length", "\"30d\"").and_then(|()| window.time_span("length"));
    let epoch = needs(window, "rolling", "epoch", "\"1d\"").and_then(|()| window.time_span("epoch"));
    let (length, epoch) = (length?, epoch?);
    match Rolling::new(length.value, epoch.value) {
        Ok(rolling) => Some(Window::Rolling(rolling)),
        Err(error) => {
            let fix =
                "write a length that is a multiple of the epoch, such as length = \"30d\", epoch = \"1d\"";
            window.reader.report(length.at, "E070", error.to_string(), fix);
            None
        }
    }
}

fn needs(window: &Section<'_>, kind: &str, key: &str, example: &str) -> Option<()> {
    if window.has(key) {
        return Some(());
    }
    let what = format!("a {kind} window has no {key}");
    window.reader.report(window.at, "E070", what, format!("add {key} = {example}"));
    None
}
