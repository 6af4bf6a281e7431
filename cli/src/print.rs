//! Results on standard output: the one place that writes there, so that a closed pipe is an error and no panic; and what is
//! said beside them.

use std::io::Write as _;

use serde_json::Value;

use crate::exit::Failure;

/// One or more lines.
///
/// # Errors
/// When nobody reads them.
pub(crate) fn lines(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end_matches('\n'))?;
    Ok(())
}

/// Something for people, on standard error. Whoever closed it does not want to know.
pub(crate) fn aside(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Rows below headings, every column to the left: for texts.
///
/// # Errors
/// When nobody reads them.
pub(crate) fn columns(headings: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    let headings: Vec<String> = headings.iter().map(ToString::to_string).collect();
    let all: Vec<&Vec<String>> =
        std::iter::once(&headings).filter(|row| !row.is_empty()).chain(rows).collect();
    let width =
        |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let cell = |(column, cell): (usize, &String)| format!("{cell:<0$}", width(column).unwrap_or(0));
    let line = |row: &&Vec<String>| {
        row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines(&all.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// One JSON document.
///
/// # Errors
/// When nobody reads it.
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    lines(&format!("{value:#}"))
}

/// Rows of comma-separated values (RFC 4180) below a heading.
///
/// # Errors
/// When nobody reads them.
pub(crate) fn csv(heading: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    let heading: Vec<String> = heading.iter().map(ToString::to_string).collect();
    let rows: Vec<String> = std::iter::once(&heading).chain(rows).map(|row| csv_row(row)).collect();
    lines(&rows.join("\n"))
}

fn csv_row(cells: &[String]) -> String {
    let cell = |cell: &String| {
        if cell.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.clone()
        }
    };
    cells.iter().map(cell).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cell_with_a_comma_or_a_quote_is_quoted() {
        let row = ["plain".to_owned(), "a,b".to_owned(), "say \"x\"".to_owned()];
        assert_eq!(super::csv_row(&row), "plain,\"a,b\",\"say \"\"x\"\"\"");
    }
}
