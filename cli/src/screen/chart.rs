//! A chart of noised totals: a bar to the value, a whisker over the interval that the noise leaves open, and the numbers.
//!
//! The whisker is as long as the half-width it stands for. Where that is less than one sign on this scale no whisker is
//! drawn, because any would be too long: the number beside the bar says it.

use super::{Signs, thousands};

/// One total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// What was counted.
    pub(crate) label: String,
    /// The noised total.
    pub(crate) value: i128,
    /// Half the width of its interval; nothing when there is no noise.
    pub(crate) half_width: u64,
    /// The total without noise, where somebody knows it.
    pub(crate) truth: Option<i128>,
}

/// The chart below `title`, two blanks in from the left.
pub(crate) fn chart(title: &str, rows: &[Row], signs: Signs) -> String {
    let labels = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let scale = Scale { top: rows.iter().map(Row::top).max().unwrap_or(0).max(1), signs };
    let values: Vec<String> = rows.iter().map(|row| value(row, signs)).collect();
    let width = values.iter().map(|value| value.chars().count()).max().unwrap_or(0).max("noised".len());
    let with_truth = rows.iter().any(|row| row.truth.is_some());
    let left = labels + 2 + CELLS;
    let heading = format!("  {title:<left$}  {:>width$}", "noised");
    let beside = |truth: &str, error: &str| format!("  {truth:>9}  {error:>7}");
    let mut lines = vec![if with_truth { heading + &beside("true", "error") } else { heading }];
    for (row, value) in rows.iter().zip(&values) {
        let mut line = format!("  {:<labels$}  {}  {value:>width$}", row.label, scale.bar(row));
        if let Some(truth) = row.truth {
            line.push_str(&beside(&thousands(truth), &error(row.value - truth)));
        }
        lines.push(line);
    }
    lines.join("\n")
}

impl Row {
    fn top(&self) -> i128 {
        self.value.max(0) + i128::from(self.half_width)
    }
}

struct Scale {
    top: i128,
    signs: Signs,
}

impl Scale {
    fn bar(&self, row: &Row) -> String {
        let end = self.eighths(row.value);
        let (from, to) = (
            self.eighths(row.value - i128::from(row.half_width)),
            self.eighths(row.value + i128::from(row.half_width)),
        );
        let mut bar = if to - end >= EIGHTHS { self.with_whisker(from, end, to) } else { self.plain(end) };
        let drawn = bar.chars().count();
        bar.extend(std::iter::repeat_n(' ', CELLS.saturating_sub(drawn)));
        bar
    }

    /// A position on the scale in eighths of a sign; below zero nothing is drawn.
    fn eighths(&self, value: i128) -> usize {
        let steps = i128::try_from(CELLS * EIGHTHS).expect("a few hundred");
        let position = value.clamp(0, self.top).saturating_mul(steps) / self.top;
        usize::try_from(position).expect("between zero and a few hundred")
    }

    fn plain(&self, end: usize) -> String {
        let (full, rest) = (end / EIGHTHS, end % EIGHTHS);
        match self.signs {
            Signs::Unicode => {
                let part = "▏▎▍▌▋▊▉".chars().nth(rest.wrapping_sub(1));
                "█".chars().cycle().take(full).chain(part).collect()
            }
            Signs::Ascii => "#".repeat(full + usize::from(rest >= EIGHTHS / 2)),
        }
    }

    /// Solid up to where the interval begins, shaded up to the value, a line to where it ends.
    fn with_whisker(&self, from: usize, end: usize, to: usize) -> String {
        let (solid, shaded) = (from / EIGHTHS, end / EIGHTHS);
        let last = (to / EIGHTHS).min(CELLS).max(shaded + 1) - 1;
        let [full, part, line, tick] = self.signs.choose(['█', '▒', '─', '┤'], ['#', '%', '-', '|']);
        (0..=last)
            .map(|cell| match cell {
                _ if cell < solid => full,
                _ if cell < shaded => part,
                _ if cell < last => line,
                _ => tick,
            })
            .collect()
    }
}

fn value(row: &Row, signs: Signs) -> String {
    match row.half_width {
        0 => thousands(row.value),
        width => format!("{} {}{}", thousands(row.value), signs.plus_minus(), thousands(width)),
    }
}

fn error(error: i128) -> String {
    if error > 0 { format!("+{}", thousands(error)) } else { thousands(error) }
}

/// The longest bar, in signs.
const CELLS: usize = 24;
/// Block elements divide a sign into this many parts.
const EIGHTHS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, value: i128, half_width: u64, truth: i128) -> Row {
        Row { label: label.to_owned(), value, half_width, truth: Some(truth) }
    }

    #[test]
    fn bars_are_as_long_as_their_values_and_the_numbers_stand_below_each_other() {
        let rows = [row("0-50", 760, 8, 762), row("50-100", 1_600, 8, 1_597), row(">100", -3, 8, 0)];
        let expected = "  page-load-ms                        noised       true    error\n  \
                        0-50    ███████████▎               760 ±8        762       -2\n  \
                        50-100  ███████████████████████▉  1,600 ±8      1,597       +3\n  \
                        >100                                -3 ±8          0       -3";
        let drawn = chart("page-load-ms", &rows, Signs::Unicode);
        let tidy = |text: &str| {
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(tidy(&drawn), tidy(expected));
        let widths: Vec<usize> = drawn.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| Some(width) == widths.first()), "{drawn}");
    }

    #[test]
    fn a_whisker_spans_the_interval_once_it_is_a_sign_long() {
        let rows = [row("a", 12, 6, 10), row("b", 18, 6, 18)];
        let drawn = chart("t", &rows, Signs::Unicode);
        assert!(drawn.contains("██████▒▒▒▒▒▒─────┤ "), "{drawn}");
        assert!(drawn.contains("████████████▒▒▒▒▒▒─────┤"), "{drawn}");
        let ascii = chart("t", &rows, Signs::Ascii);
        assert!(ascii.is_ascii() && ascii.contains("######%%%%%%-----|"), "{ascii}");
    }

    #[test]
    fn totals_without_noise_and_without_truth_are_only_bars_and_values() {
        let rows = [Row { label: "yes".to_owned(), value: 10, half_width: 0, truth: None }];
        let drawn = chart("t", &rows, Signs::Ascii);
        assert!(drawn.ends_with(&format!("{}      10", "#".repeat(CELLS))), "{drawn}");
        assert!(!drawn.contains("true"), "{drawn}");
        let nothing = [Row { label: "yes".to_owned(), value: 0, half_width: 0, truth: None }];
        assert!(!chart("t", &nothing, Signs::Ascii).contains('#'));
    }
}
