//! A stretch of data time: half-open, in whole seconds of UTC.

use std::fmt;

use super::calendar::write_second;

/// From one second up to, and without, another; seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    from: i64,
    to: i64,
}

/// The two seconds are no span of data time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSpan {
    /// It ends where it begins, or earlier.
    #[error("a span of data time ends after it begins")]
    Empty,
    /// Outside the years that a calendar names.
    #[error("data time lies between the years 1970 and 9999")]
    OutOfRange,
}

/// The first second of the year 9999: what comes later has no name in a calendar.
const LATEST: i64 = 253_370_764_800;

impl Span {
    /// All of data time; also the span of a release of which nothing better is known.
    pub const ALL: Self = Self { from: -LATEST, to: LATEST };

    /// From `from` up to, and without, `to`.
    pub fn new(from: i64, to: i64) -> Result<Self, NoSpan> {
        if from >= to {
            return Err(NoSpan::Empty);
        }
        if from < Self::ALL.from || to > Self::ALL.to {
            return Err(NoSpan::OutOfRange);
        }
        Ok(Self { from, to })
    }

    /// The span of reports whose timestamps lie in `[start, end)`, in the seconds of DAP.
    pub fn of_reports(start: u64, end: u64) -> Result<Self, NoSpan> {
        let second = |at: u64| i64::try_from(at).map_err(|_| NoSpan::OutOfRange);
        Self::new(second(start)?, second(end)?)
    }

    /// What the accountant computes itself: kept within [`Span::ALL`].
    pub(super) fn clamped(from: i64, to: i64) -> Self {
        let from = from.clamp(Self::ALL.from, Self::ALL.to - 1);
        Self { from, to: to.clamp(from + 1, Self::ALL.to) }
    }

    /// The first second.
    pub fn from(self) -> i64 {
        self.from
    }

    /// The first second after it.
    pub fn to(self) -> i64 {
        self.to
    }

    /// How many seconds it has.
    pub fn seconds(self) -> i64 {
        self.to - self.from
    }

    /// Whether every second of `other` is one of this span.
    pub fn contains(self, other: Self) -> bool {
        self.from <= other.from && other.to <= self.to
    }

    /// Whether the two share a second.
    pub fn meets(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// The seconds that both have.
    pub fn common(self, other: Self) -> Option<Self> {
        self.meets(other).then(|| Self { from: self.from.max(other.from), to: self.to.min(other.to) })
    }

    /// The shortest span that holds both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to) }
    }
}

impl fmt::Display for Span {
    /// `2026-11-01 to 2026-12-01`, with the time of day where it is not midnight.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("all time");
        }
        write_second(f, self.from)?;
        f.write_str(" to ")?;
        write_second(f, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_second_and_a_place_in_the_calendar() {
        assert_eq!(Span::new(5, 5), Err(NoSpan::Empty));
        assert_eq!(Span::new(6, 5), Err(NoSpan::Empty));
        assert_eq!(Span::of_reports(0, u64::MAX), Err(NoSpan::OutOfRange));
        assert_eq!(Span::of_reports(0, 253_370_764_801), Err(NoSpan::OutOfRange));
        assert!(Span::of_reports(0, 253_370_764_800).is_ok());
    }

    #[test]
    fn spans_that_only_touch_do_not_meet() {
        let span = |from, to| Span::new(from, to).unwrap();
        assert!(!span(0, 10).meets(span(10, 20)));
        assert!(span(0, 11).meets(span(10, 20)));
        assert_eq!(span(0, 11).common(span(10, 20)), Some(span(10, 11)));
        assert!(span(0, 20).contains(span(10, 20)) && !span(10, 20).contains(span(9, 20)));
        assert_eq!(span(0, 1).with(span(8, 9)), span(0, 9));
    }

    #[test]
    fn a_span_reads_like_a_calendar() {
        let span = Span::of_reports(1_793_491_200, 1_796_083_200).unwrap();
        assert_eq!(span.to_string(), "2026-11-01 to 2026-12-01");
        let span = Span::of_reports(1_793_491_200, 1_793_494_800).unwrap();
        assert_eq!(span.to_string(), "2026-11-01 to 2026-11-01T01:00:00Z");
        assert_eq!(Span::ALL.to_string(), "all time");
    }
}
