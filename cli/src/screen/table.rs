//! Plain tables: the first and the last column to the left, the others centred below their headings.

/// Lays out `rows` below `headings`; both have the same number of columns. Every line ends without white space.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = headings.iter().map(ToString::to_string).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&heading).chain(rows).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| letters(cell)).max();
    let widths: Vec<usize> = (0..headings.len()).map(|column| width(column).unwrap_or(0)).collect();
    all.iter().map(|row| line(row, &widths)).collect::<Vec<_>>().join("\n")
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let last = widths.len().saturating_sub(1);
    let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
        0 => format!("{cell:<width$}"),
        _ if column == last => cell.clone(),
        _ => format!("{cell:^width$}"),
    });
    cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
}

fn letters(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["  relay".to_owned(), "yes".to_owned(), "no".to_owned()],
            vec!["  leader, helper".to_owned(), "no".to_owned(), "one share each".to_owned()],
        ];
        let expected = "Who saw what       IP address   the value\n  \
                        relay               yes       no\n  \
                        leader, helper       no       one share each";
        assert_eq!(table(&["Who saw what", "IP address", "the value"], &rows), expected);
    }
}
