//! Turns what the TOML reader says into a [`Diagnostic`].

use serde::de::DeserializeOwned;

use crate::{Diagnostic, Severity, locate, suggest};

/// Reads `text` as TOML into `T`; the first error is located and explained.
///
/// # Errors
/// A [`Diagnostic`] with `code`, for bad syntax, an unknown key, a wrong type or a missing key.
pub fn parse_toml<T: DeserializeOwned>(file: &str, text: &str, code: &str) -> Result<T, Box<Diagnostic>> {
    toml::from_str(text).map_err(|error| Box::new(from_toml_as::<T>(file, text, &error, code)))
}

/// The same as [`from_toml`] for what was to be a `T`: a key that stands in a table and belongs above all of them is told
/// so. TOML gives every key below a line in brackets to that table.
#[must_use]
pub fn from_toml_as<T: DeserializeOwned>(
    file: &str,
    text: &str,
    error: &toml::de::Error,
    code: &str,
) -> Diagnostic {
    let finding = from_toml(file, text, error, code);
    let unknown = error.message().split('`').nth(1).filter(|_| error.message().starts_with(UNKNOWN));
    if let Some(key) = unknown.filter(|key| is_known_at_top::<T>(key)) {
        return Diagnostic {
            what: format!("the key \"{key}\" is not one of this table"),
            fix: "it belongs above the first table: below a line in brackets, a key is that table's"
                .to_owned(),
            ..finding
        };
    }
    finding
}

/// Whether a `T` has this key, whatever its value: another complaint than that it is unknown says so.
fn is_known_at_top<T: DeserializeOwned>(key: &str) -> bool {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let alone = || toml::from_str::<T>(&format!("{key} = 0"));
    key.chars().all(is_bare) && alone().err().is_none_or(|error| !error.message().starts_with(UNKNOWN))
}

/// The finding behind an error of the `toml` crate.
#[must_use]
pub fn from_toml(file: &str, text: &str, error: &toml::de::Error, code: &str) -> Diagnostic {
    let message = error.message().trim().replace('\n', " ");
    let start = error.span().map_or(0, |span| span.start);
    let (line, col) = locate(text, value_in_table(text, start, &message).unwrap_or(start));
    let (what, fix) = explain(&message);
    Diagnostic {
        file: file.to_owned(),
        line,
        col,
        code: code.to_owned(),
        severity: Severity::Error,
        what,
        fix,
    }
}

/// A table that was judged as a whole is blamed at its heading; where the message begins with one of its keys, that value is
/// meant.
fn value_in_table(text: &str, start: usize, message: &str) -> Option<usize> {
    let key = message.split([' ', ':']).next().filter(|key| !key.is_empty())?;
    let table = text.get(start..).filter(|table| table.starts_with('['))?;
    let mut at = start;
    for (number, line) in table.split_inclusive('\n').enumerate() {
        if number > 0 && line.starts_with('[') {
            break;
        }
        let value = line.trim_start().strip_prefix(key).and_then(|rest| rest.trim_start().strip_prefix('='));
        if let Some(value) = value {
            return Some(at + line.len() - value.trim_start().len());
        }
        at += line.len();
    }
    None
}

/// Serde's messages hold the unknown key and the known ones in backquotes: make advice of them.
fn explain(message: &str) -> (String, String) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let Some((unknown, known)) = quoted.split_first().filter(|_| message.starts_with("unknown ")) {
        let kind = if message.starts_with("unknown variant") { "value" } else { "key" };
        let fix = match suggest(unknown, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if known.is_empty() => "remove it".to_owned(),
            None => format!("known here: {}", known.join(", ")),
        };
        return (format!("unknown {kind} \"{unknown}\""), fix);
    }
    if let Some(missing) = quoted.first().filter(|_| message.starts_with("missing field")) {
        return (format!("the key \"{missing}\" is missing"), format!("add {missing} = ..."));
    }
    (in_plain_words(message), "correct this line".to_owned())
}

/// What serde expects it says in the words of Rust.
fn in_plain_words(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not below 0",
        "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number, not below 1"
        }
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" => "a text in quotes",
        "a sequence" => "a list in brackets",
        "a boolean" => "true or false",
        // Of structures serde says the name that they have in the program.
        other if other.starts_with("struct ") || other == "a map" => "a table",
        other => other,
    };
    let found = found.replace(": integer ", ": the number ").replace(": string ", ": the text ");
    format!("{found}, expected {expected}")
}

/// How serde's complaint about a key begins.
const UNKNOWN: &str = "unknown field";

#[cfg(test)]
mod tests {
    use super::parse_toml;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is read")]
    struct Sample {
        listen: String,
        limit: Option<u32>,
        table: Option<Table>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is read")]
    struct Table {
        every: Option<u32>,
    }

    fn complaint(text: &str) -> String {
        parse_toml::<Sample>("mica.toml", text, "C001").expect_err("the text is wrong on purpose").to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
        assert_eq!(
            complaint("listen = \"a\"\nlimt = 3\n"),
            "mica.toml:2:1: C001: unknown key \"limt\"; did you mean \"limit\"?"
        );
    }

    #[test]
    fn a_key_that_slipped_into_a_table_is_told_where_it_belongs() {
        assert_eq!(
            complaint("listen = \"a\"\n[table]\nevery = 1\nlimit = 3\n"),
            "mica.toml:4:1: C001: the key \"limit\" is not one of this table; it belongs above the first table: below a \
             line in brackets, a key is that table's"
        );
        assert_eq!(
            complaint("[table]\nlisten = \"a\"\n").split("; ").next(),
            Some("mica.toml:2:1: C001: the key \"listen\" is not one of this table")
        );
        assert_eq!(
            complaint("listen = \"a\"\n[table]\nevry = 1\n"),
            "mica.toml:3:1: C001: unknown key \"evry\"; did you mean \"every\"?"
        );
    }

    #[test]
    fn a_missing_key_says_what_to_add() {
        assert_eq!(
            complaint("limit = 3\n"),
            "mica.toml:1:1: C001: the key \"listen\" is missing; add listen = ..."
        );
    }

    #[test]
    fn a_wrong_type_points_at_the_value() {
        let said = complaint("listen = \"a\"\nlimit = \"many\"\n");
        assert!(said.starts_with("mica.toml:2:9: C001: "), "{said}");
    }

    #[test]
    fn what_was_expected_is_said_in_words() {
        assert_eq!(
            complaint("listen = \"a\"\nlimit = -1\n"),
            "mica.toml:2:9: C001: invalid value: the number `-1`, expected a whole number, not below 0; correct this line"
        );
        let said = complaint("listen = 1\n");
        assert!(said.contains("expected a text in quotes"), "{said}");
    }

    #[test]
    fn broken_syntax_points_at_the_line() {
        let said = complaint("listen = \n");
        assert!(said.starts_with("mica.toml:1:"), "{said}");
    }
}
