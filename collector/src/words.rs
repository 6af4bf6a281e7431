//! Words of other parties, made fit to be printed.
//!
//! Labels, names and reasons come from whoever made the task. On a terminal they must look like nothing but themselves:
//! no control character, and none that turns the direction of text. Nothing here knows a result.

use mica_dap::task::TaskConfiguration;
use mica_dp::parse_task_info;
use serde_json::Value;

/// What people call a task, without the hash of its release statement and without anything that a terminal would act on.
#[must_use]
pub fn label_of(task: &TaskConfiguration) -> String {
    let info = task.task_info();
    match parse_task_info(info) {
        Some((label, _)) => plain(label),
        None => plain(&String::from_utf8_lossy(info)),
    }
}

/// Somebody else's line, that looks like nothing but itself.
pub(crate) fn plain(line: &str) -> String {
    let turns = |it: &char| matches!(it, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    line.chars().filter(|it| !it.is_control() && !turns(it)).collect()
}

/// The same of all texts in it. JSON escapes some control characters, and neither the others nor what turns text.
pub(crate) fn plain_json(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(plain(text)),
        Value::Array(values) => values.iter().map(plain_json).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (plain(key), plain_json(value))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures::task;

    #[test]
    fn a_label_of_another_party_tells_a_terminal_nothing() {
        let label = "page\u{1b}[2J-load\r\n\u{9b}1m\u{202e}!";
        let plain = "page[2J-load1m!";
        assert_eq!(label_of(&task(label.as_bytes())), plain);
        let bound = [label.as_bytes(), b"\0dp1".as_slice(), &[7; 32]].concat();
        assert_eq!(label_of(&task(&bound)), plain);
        assert_eq!(label_of(&task(b"a\xff\x1bb")), "a\u{fffd}b");
    }

    #[test]
    fn texts_for_machines_are_plain_too_wherever_they_are() {
        let value = json!({ "a\u{9b}": ["\u{1b}x", { "b": "\u{202e}y" }], "n": 7, "none": null });
        assert_eq!(plain_json(&value), json!({ "a": ["x", { "b": "y" }], "n": 7, "none": null }));
    }
}
