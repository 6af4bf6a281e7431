//! The window over which a budget is counted, on data time.

use std::fmt;

use super::calendar::{CalendarUnit, SECONDS_PER_DAY};
use super::span::Span;

/// What a limit holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// All time.
    Lifetime,
    /// Each day, week, ... of the calendar, UTC.
    Calendar(CalendarUnit),
    /// Every stretch of a length, wherever it begins on a grid.
    Rolling(Rolling),
}

/// The length of a rolling window and the grid on which it may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rolling {
    length: i64,
    epoch: i64,
}

/// The two durations make no rolling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWindow {
    /// A piece of no time.
    #[error("a length of zero seconds is no time")]
    NoLength,
    /// An epoch of no time.
    #[error("an epoch of zero seconds has no beginning")]
    NoEpoch,
    /// The length is not one or more whole epochs.
    #[error("the length of a rolling window is a multiple of its epoch")]
    NotAMultiple,
    /// More than [`Rolling::LONGEST`].
    #[error("a rolling window has at most 36525 days; use a lifetime window")]
    TooLong,
    /// More than [`Rolling::MOST_EPOCHS`].
    #[error("a rolling window has at most 100000 epochs; use a longer epoch")]
    TooFine,
}

impl Rolling {
    /// The longest window, in seconds: a hundred years.
    pub const LONGEST: u64 = 36_525 * 86_400;

    /// The most epochs in a window, which bounds what a server keeps and computes.
    pub const MOST_EPOCHS: u64 = 100_000;

    /// Every stretch of `length` seconds that begins at a multiple of `epoch` seconds since 1970.
    pub fn new(length: u64, epoch: u64) -> Result<Self, NoWindow> {
        if epoch == 0 {
            return Err(NoWindow::NoEpoch);
        }
        if length > Self::LONGEST {
            return Err(NoWindow::TooLong);
        }
        if length == 0 || !length.is_multiple_of(epoch) {
            return Err(NoWindow::NotAMultiple);
        }
        if length / epoch > Self::MOST_EPOCHS {
            return Err(NoWindow::TooFine);
        }
        let seconds = |it: u64| i64::try_from(it).expect("a hundred years of seconds fit");
        Ok(Self { length: seconds(length), epoch: seconds(epoch) })
    }

    /// Seconds in a window.
    pub fn length(self) -> i64 {
        self.length
    }

    /// Seconds in an epoch.
    pub fn epoch(self) -> i64 {
        self.epoch
    }
}

impl Window {
    /// The name policy files and statements use.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime",
            Self::Calendar(_) => "calendar",
            Self::Rolling(_) => "rolling",
        }
    }

    /// The piece of the window's grid that holds the second `at`: all time, the unit of the calendar, the epoch.
    pub fn cell(self, at: i64) -> Span {
        match self {
            Self::Lifetime => Span::ALL,
            Self::Calendar(unit) => unit.containing(at),
            Self::Rolling(rolling) => grid_cell(0, rolling.epoch, at),
        }
    }

    /// `span` with both ends moved outwards to the grid.
    pub fn snap(self, span: Span) -> Span {
        self.cell(span.from()).with(self.cell(span.to() - 1))
    }

    /// The shortest of several windows: the one in which a cap on reports is counted; nothing for none. Calendar units
    /// count by their longest, and of two that are equally long the rolling one is taken: it says more.
    pub fn shortest(windows: impl IntoIterator<Item = Self>) -> Option<Self> {
        windows.into_iter().min_by_key(|window| window.order())
    }

    /// The seconds of the longest window of its kind; nothing for all time.
    pub fn longest(self) -> Option<i64> {
        match self {
            Self::Lifetime => None,
            Self::Calendar(unit) => Some(unit.longest()),
            Self::Rolling(rolling) => Some(rolling.length),
        }
    }

    /// The window as that of a limit, which is kept where windows begin, and not between.
    pub fn on_grid(self) -> OnGrid {
        OnGrid(self)
    }

    fn order(self) -> (i64, u8, i64) {
        match self {
            Self::Rolling(rolling) => (rolling.length, 0, rolling.epoch),
            Self::Calendar(unit) => (unit.longest(), 1, 0),
            Self::Lifetime => (i64::MAX, 2, 0),
        }
    }
}

impl fmt::Display for Window {
    /// What follows "in": `any 30 days`, `any month`, `the life of the budget`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lifetime => f.write_str("the life of the budget"),
            Self::Calendar(unit) => write!(f, "any calendar {} (UTC)", unit.name()),
            Self::Rolling(rolling) => {
                write!(f, "any {}", duration(rolling.length))
            }
        }
    }
}

/// A window of which a limit is kept: [`Window::on_grid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnGrid(Window);

impl fmt::Display for OnGrid {
    /// What follows "in": `any 30 days that begin at midnight UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(window) = self;
        window.fmt(f)?;
        let begins = if window.to_string().starts_with("any 1 ") { "begins" } else { "begin" };
        match window {
            Window::Rolling(Rolling { epoch: SECONDS_PER_DAY, .. }) => {
                write!(f, " that {begins} at midnight UTC")
            }
            Window::Rolling(rolling) => {
                let step = duration(rolling.epoch);
                let step = step.strip_prefix("1 ").unwrap_or(&step);
                write!(f, " that {begins} on the grid of every {step} (UTC)")
            }
            Window::Lifetime | Window::Calendar(_) => Ok(()),
        }
    }
}

/// The piece of a grid of `width` seconds from `origin` on that holds the second `at`.
pub(super) fn grid_cell(origin: i64, width: i64, at: i64) -> Span {
    let begin = at - (at - origin).rem_euclid(width);
    Span::clamped(begin, begin + width)
}

/// Seconds in the largest unit that divides them: `30 days`, `1 hour`.
pub(super) fn duration(seconds: i64) -> String {
    let units = [(SECONDS_PER_DAY, "day"), (3600, "hour"), (60, "minute")];
    let (length, name) = units.into_iter().find(|(length, _)| seconds % length == 0).unwrap_or((1, "second"));
    let count = seconds / length;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 86_400;

    fn rolling(length: u64, epoch: u64) -> Window {
        Window::Rolling(Rolling::new(length, epoch).unwrap())
    }

    #[test]
    fn a_rolling_window_is_made_of_whole_epochs() {
        assert_eq!(Rolling::new(30 * DAY, 0), Err(NoWindow::NoEpoch));
        assert_eq!(Rolling::new(30 * DAY, 7 * DAY), Err(NoWindow::NotAMultiple));
        assert_eq!(Rolling::new(0, DAY), Err(NoWindow::NotAMultiple));
        assert_eq!(Rolling::new(DAY, 2 * DAY), Err(NoWindow::NotAMultiple));
        assert_eq!(Rolling::new(36_526 * DAY, DAY), Err(NoWindow::TooLong));
        assert_eq!(Rolling::new(u64::MAX, 1), Err(NoWindow::TooLong));
        assert_eq!(Rolling::new(30 * DAY, 1), Err(NoWindow::TooFine));
        assert!(Rolling::new(30 * DAY, 3600).is_ok());
    }

    #[test]
    fn a_window_is_read_as_people_say_it() {
        assert_eq!(rolling(30 * DAY, DAY).to_string(), "any 30 days");
        assert_eq!(rolling(DAY, 3600).to_string(), "any 1 day");
        assert_eq!(rolling(36 * 3600, 3600).to_string(), "any 36 hours");
        assert_eq!(Window::Calendar(CalendarUnit::Month).to_string(), "any calendar month (UTC)");
        assert_eq!(Window::Lifetime.to_string(), "the life of the budget");
        // A limit is not kept in days that begin at noon, and the words do not say so.
        assert_eq!(rolling(30 * DAY, DAY).on_grid().to_string(), "any 30 days that begin at midnight UTC");
        assert_eq!(
            rolling(DAY, 3600).on_grid().to_string(),
            "any 1 day that begins on the grid of every hour (UTC)"
        );
        assert_eq!(rolling(DAY, DAY).on_grid().to_string(), "any 1 day that begins at midnight UTC");
        assert_eq!(
            rolling(36 * 3600, 2 * 3600).on_grid().to_string(),
            "any 36 hours that begin on the grid of every 2 hours (UTC)"
        );
        assert_eq!(Window::Lifetime.on_grid().to_string(), "the life of the budget");
    }

    #[test]
    fn reports_are_counted_in_the_shortest_window() {
        let month = Window::Calendar(CalendarUnit::Month);
        let shortest = |windows: &[Window]| Window::shortest(windows.iter().copied());
        assert_eq!(shortest(&[]), None);
        assert_eq!(
            shortest(&[Window::Lifetime, month, rolling(30 * DAY, DAY)]),
            Some(rolling(30 * DAY, DAY))
        );
        assert_eq!(shortest(&[rolling(32 * DAY, DAY), month]), Some(month));
        assert_eq!(shortest(&[month, rolling(31 * DAY, DAY)]), Some(rolling(31 * DAY, DAY)));
        assert_eq!(shortest(&[Window::Lifetime, Window::Lifetime]), Some(Window::Lifetime));
    }

    fn any_window() -> impl Strategy<Value = Window> {
        prop_oneof![
            Just(Window::Lifetime),
            (0usize..5).prop_map(|unit| Window::Calendar(CalendarUnit::EVERY[unit])),
            (1u64..50, prop_oneof![Just(60u64), Just(3600), Just(DAY), Just(7 * DAY), Just(7)])
                .prop_map(|(epochs, epoch)| rolling(epochs * epoch, epoch)),
        ]
    }

    proptest! {
        #[test]
        fn snapping_moves_both_ends_outwards_and_only_once(
            window in any_window(),
            from in 0i64..4_000_000_000,
            length in 1i64..100_000_000,
        ) {
            let span = Span::new(from, from + length).unwrap();
            let snapped = window.snap(span);
            prop_assert!(snapped.contains(span));
            prop_assert_eq!(window.snap(snapped), snapped);
            prop_assert!(window.cell(snapped.from()).from() == snapped.from());
            // Nothing is added but the rest of the first and of the last cell.
            prop_assert!(window.cell(from).from() == snapped.from());
            prop_assert!(window.cell(from + length - 1).to() == snapped.to());
        }
    }
}
