//! Within what the reports of one batch must have been made, so that the cap on a unit's reports in it is kept.
//!
//! Whoever collects chooses a batch when all reports are there, so no client can count its reports per batch. It can
//! count them per piece of time; and a batch that lies in one piece has no more of them than the piece.

use std::fmt;

use super::calendar::CalendarUnit;
use super::span::Span;
use super::window::{NoWindow, Rolling, Window, duration, grid_cell};

/// The grid of pieces of time in each of which a unit sends at most `per_batch` reports: multiples of a length since
/// 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchWindow {
    length: i64,
}

impl BatchWindow {
    /// Pieces of `length` seconds.
    pub fn new(length: u64) -> Result<Self, NoWindow> {
        if length == 0 {
            return Err(NoWindow::NoLength);
        }
        if length > Rolling::LONGEST {
            return Err(NoWindow::TooLong);
        }
        Ok(Self { length: i64::try_from(length).expect("a hundred years of seconds fit") })
    }

    /// Seconds in a piece.
    pub fn length(self) -> i64 {
        self.length
    }

    /// The piece that holds the second `at`.
    pub fn cell(self, at: i64) -> Span {
        grid_cell(0, self.length, at)
    }

    /// From when on: said where it does not begin anew every midnight.
    fn counted(self) -> &'static str {
        if CalendarUnit::Day.longest() % self.length == 0 { "" } else { ", counted from 1970" }
    }

    /// How long a piece is, as people say it: `hour`, `30 days`.
    pub fn piece(self) -> String {
        let text = duration(self.length);
        text.strip_prefix("1 ").map_or_else(|| text.clone(), str::to_owned)
    }
}

impl fmt::Display for BatchWindow {
    /// What follows "in": `each hour (UTC)`, `each 30 days (UTC, counted from 1970)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "each {} (UTC{})", self.piece(), self.counted())
    }
}

/// The pieces of time in each of which a unit has at most `per_batch` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Those of a grid.
    Cell(BatchWindow),
    /// The windows of a cap that allows no more per window than per batch. All time holds whatever there is.
    Window(Window),
}

impl Within {
    /// Whether one piece holds all of `span`.
    pub fn holds(self, span: Span) -> bool {
        self.pieces(span) == 1
    }

    /// At most how many pieces hold all of `span` together; one only if it takes no more.
    pub(super) fn pieces(self, span: Span) -> u64 {
        let pieces = match self {
            Self::Cell(BatchWindow { length }) => {
                (span.to() - 1).div_euclid(length) - span.from().div_euclid(length) + 1
            }
            Self::Window(Window::Lifetime) => 1,
            // One begins where the span does: a rolling cap holds wherever its window begins.
            Self::Window(Window::Rolling(rolling)) => {
                span.seconds().div_euclid(rolling.length()) + i64::from(span.seconds() % rolling.length() > 0)
            }
            Self::Window(Window::Calendar(unit)) if unit.containing(span.from()).contains(span) => 1,
            Self::Window(Window::Calendar(unit)) => span.seconds() / unit.shortest() + 2,
        };
        pieces.unsigned_abs()
    }

    /// Whether a batch of the leader's choice, of which nobody knows the time beforehand, can be told to keep to it.
    pub fn can_be_selected(self) -> bool {
        matches!(self, Self::Window(Window::Lifetime))
    }

    /// The longest piece in seconds; nothing for all time.
    pub fn longest(self) -> Option<i64> {
        match self {
            Self::Cell(cells) => Some(cells.length),
            Self::Window(window) => window.longest(),
        }
    }
}

impl fmt::Display for Within {
    /// What follows "within": `one hour (UTC)`, `one piece of 6 hours (UTC)`, `30 days`, `one calendar month (UTC)`, `all time`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cell(cells) => {
                let (piece, counted) = (cells.piece(), cells.counted());
                let of = if piece.starts_with(|it: char| it.is_ascii_digit()) { "piece of " } else { "" };
                write!(f, "one {of}{piece} (UTC{counted})")
            }
            Self::Window(Window::Lifetime) => f.write_str("all time"),
            Self::Window(Window::Calendar(unit)) => write!(f, "one calendar {} (UTC)", unit.name()),
            Self::Window(Window::Rolling(rolling)) => f.write_str(&duration(rolling.length())),
        }
    }
}

/// A batch that reaches over more time than the caps on reports hold for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reports of {span} are more than one batch: a batch lies within {within}")]
pub struct TooWide {
    /// When the reports were made.
    pub span: Span,
    /// What holds them in one batch.
    pub within: Within,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;

    fn cells(length: i64) -> Within {
        Within::Cell(BatchWindow::new(length.unsigned_abs()).unwrap())
    }

    fn span(from: i64, to: i64) -> Span {
        Span::new(from, to).unwrap()
    }

    #[test]
    fn pieces_are_read_as_people_say_them() {
        let said = |length| BatchWindow::new(length).unwrap().to_string();
        assert_eq!(said(3600), "each hour (UTC)");
        assert_eq!(said(86_400), "each day (UTC)");
        assert_eq!(said(6 * 3600), "each 6 hours (UTC)");
        assert_eq!(said(30 * 86_400), "each 30 days (UTC, counted from 1970)");
        assert_eq!(BatchWindow::new(0), Err(NoWindow::NoLength));
        assert_eq!(BatchWindow::new(Rolling::LONGEST + 1), Err(NoWindow::TooLong));
    }

    #[test]
    fn a_batch_lies_in_one_piece_or_it_is_more_than_one_batch() {
        let hour = cells(3600);
        assert!(hour.holds(span(7200, 10_800)) && hour.holds(span(7260, 7320)));
        assert!(!hour.holds(span(7200, 10_801)) && !hour.holds(span(7199, 10_800)) && !hour.holds(Span::ALL));
        let week = Within::Window(Window::Rolling(Rolling::new(7 * 86_400, 86_400).unwrap()));
        assert!(week.holds(span(5, 5 + 7 * DAY)) && !week.holds(span(5, 6 + 7 * DAY)));
        let month = Within::Window(Window::Calendar(CalendarUnit::Month));
        assert!(month.holds(span(0, 31 * DAY)) && !month.holds(span(0, 31 * DAY + 1)));
        assert!(!month.holds(span(31 * DAY - 1, 31 * DAY + 1)));
        assert!(Within::Window(Window::Lifetime).holds(Span::ALL));
    }

    proptest! {
        /// What a span is charged for when it is more than one batch is never less than the pieces it meets.
        #[test]
        fn no_span_lies_in_more_pieces_than_are_counted(from in 0i64..4_000_000_000, seconds in 1i64..100_000_000, unit in 0usize..5) {
            let unit = CalendarUnit::EVERY[unit];
            let all = span(from, from + seconds);
            let (mut at, mut met) = (from, 0);
            while at < all.to() {
                at = unit.containing(at).to();
                met += 1;
            }
            let counted = Within::Window(Window::Calendar(unit)).pieces(all);
            prop_assert!(counted >= met, "{counted} {met}");
            prop_assert_eq!(counted == 1, met == 1);
        }
    }
}
