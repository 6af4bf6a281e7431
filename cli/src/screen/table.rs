//! Plain tables: the first and the last column to the left, the others centred below their headings.

/// Lays out `rows` below `headings`; both have the same number of columns. Every line ends without white space.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let heading = headings.get(column).map_or(0, |heading| heading.chars().count());
        cells.chain([heading]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            let width = *width;
            match column {
                0 => line.push_str(&format!("{cell:<width$}")),
                _ if column + 1 == widths.len() => line.push_str(&format!("   {cell}")),
                _ => line.push_str(&format!("   {cell:^width$}")),
            }
        }
        line.trim_end().to_owned()
    };
    let mut lines = vec![line(&mut headings.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
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
