//! `docs/threats.md` names a test for each threat: each must exist.

use std::path::Path;

use anyhow::Result;

use super::sources::Source;
use super::{place, report};

pub(super) fn check(sources: &[Source]) -> Result<()> {
    let page = sources.iter().find(|source| source.path == Path::new("docs/threats.md"));
    let Some(page) = page else { return report(&["docs/threats.md is missing"]) };
    report(&missing(page, sources))
}

fn missing(page: &Source, sources: &[Source]) -> Vec<String> {
    let exists = |test: &str| sources.iter().any(|source| source.is_rust() && holds(&source.text, test));
    (1..)
        .zip(page.text.lines())
        .flat_map(|(number, line)| tests_in(line).into_iter().map(move |test| (number, test)))
        .filter(|(_, test)| !exists(test))
        .map(|(number, test)| format!("{}: there is no test called {test}", place(page, number)))
        .collect()
}

/// Whether a text has a test of this name: a function right below an attribute that makes it one.
fn holds(code: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let is_test = |line: &str| line.trim_start().starts_with("#[") && line.contains("test");
    let lines: Vec<&str> = code.lines().collect();
    (1..)
        .zip(&lines)
        .any(|(next, line)| is_test(line) && lines.get(next).is_some_and(|function| function.contains(&head)))
}

/// The names in the last cell of a row of a table: lower-case words joined by underscores, in backquotes.
fn tests_in(line: &str) -> Vec<&str> {
    let Some(cell) = line.strip_prefix('|').and_then(|row| row.trim_end_matches('|').rsplit('|').next())
    else {
        return Vec::new();
    };
    let is_test = |word: &&str| {
        word.contains('_') && word.bytes().all(|letter| letter == b'_' || letter.is_ascii_alphanumeric())
    };
    cell.split('`').skip(1).step_by(2).filter(is_test).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: PathBuf::from(path), text: text.to_owned() }
    }

    #[test]
    fn a_test_that_does_not_exist_is_found_with_its_line() {
        let page =
            source("docs/threats.md", "| a `not_this` | b | `it_holds`, `it_does_not` in `dp/src` |\n");
        let code = source("a.rs", "#[test]\nfn it_holds() {}\n\nfn it_does_not() {}");
        let found = missing(&page, &[code]);
        assert_eq!(found, ["docs/threats.md:1: there is no test called it_does_not"]);
    }
}
