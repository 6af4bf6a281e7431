//! Pages that promise something name the test that holds the promise: each named test must exist, and in the table of
//! conformance no row may be left without a test or a reason.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;

use super::sources::Source;
use super::{place, report};

/// The pages whose tables name tests in their last column.
const PAGES: [&str; 4] = ["docs/threats.md", CONFORMANCE, "docs/divergences.md", "docs/privacy.md"];
const CONFORMANCE: &str = "docs/conformance.md";

pub(super) fn check(sources: &[Source]) -> Result<()> {
    let findings: Vec<String> = PAGES
        .iter()
        .flat_map(|path| match sources.iter().find(|source| source.path == Path::new(path)) {
            Some(page) if *path == CONFORMANCE => {
                [missing(page, sources), unanswered(page), repeated(page)].concat()
            }
            Some(page) => missing(page, sources),
            None => vec![format!("{path} is missing")],
        })
        .collect();
    report(&findings)
}

fn missing(page: &Source, sources: &[Source]) -> Vec<String> {
    let exists = |test: &str| sources.iter().any(|source| source.is_rust() && holds(&source.text, test));
    rows(page)
        .flat_map(|(number, cell)| tests_in(cell).into_iter().map(move |test| (number, test)))
        .filter(|(_, test)| !exists(test))
        .map(|(number, test)| format!("{}: there is no test called {test}", place(page, number)))
        .collect()
}

/// The rows whose last cell is empty.
fn unanswered(page: &Source) -> Vec<String> {
    rows(page)
        .filter(|(_, cell)| cell.trim().is_empty())
        .map(|(number, _)| format!("{}: neither a test nor a reason", place(page, number)))
        .collect()
}

/// The rows with the label of an earlier one, or that demand the same under the same section of the text.
fn repeated(page: &Source) -> Vec<String> {
    let (mut labels, mut demands) = (HashSet::new(), HashSet::new());
    let mut found = Vec::new();
    for (number, line) in (1..).zip(page.text.lines()).filter(|(_, line)| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &[_, label, level, demand, section, ..] = &cells[..] else { continue };
        let is_row = label.bytes().any(|letter| letter.is_ascii_digit());
        if is_row && !(labels.insert(label) && demands.insert((level, demand, section))) {
            found.push(format!("{}: this row is there already", place(page, number)));
        }
    }
    found
}

/// The last cell of each row of each table, with its line.
fn rows(page: &Source) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(page.text.lines()).filter_map(|(number, line)| {
        let row = line.trim_end().strip_prefix('|')?;
        Some((number, row.strip_suffix('|').unwrap_or(row).rsplit('|').next()?))
    })
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

/// The names in a cell: words joined by underscores, in backquotes.
fn tests_in(cell: &str) -> Vec<&str> {
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

    #[test]
    fn a_row_that_is_there_twice_is_found() {
        let row = |label: &str, demand: &str| format!("| {label} | MUST | {demand} | 5.2 | not: so |\n");
        let once = [row("A1", "one"), row("A2", "two"), row("", "one"), row("", "one")].concat();
        assert_eq!(repeated(&source("c.md", &once)), [""; 0]);
        for again in [row("A1", "three"), row("A3", "one")] {
            let found = repeated(&source("c.md", &format!("{once}{again}")));
            assert!(found.len() == 1 && found[0].contains("c.md:5"), "{found:?}");
        }
    }

    #[test]
    fn a_row_without_a_test_or_a_reason_is_found() {
        let page =
            source(CONFORMANCE, "| G1 | must | `it_holds` |\n| G2 | must |  |\n| G3 | may | not offered |\n");
        assert_eq!(unanswered(&page), ["docs/conformance.md:2: neither a test nor a reason"]);
    }
}
