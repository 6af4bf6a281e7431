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
    let (line, col) = locate(text, error.span().map_or(0, |span| span.start));
    let message = error.message().trim().replace('\n', " ");
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
    (message.to_owned(), "correct this line".to_owned())
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
    fn broken_syntax_points_at_the_line() {
        let said = complaint("listen = \n");
        assert!(said.starts_with("mica.toml:1:"), "{said}");
    }
}
