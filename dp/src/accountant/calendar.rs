//! Days, weeks, months, quarters and years of UTC, as seconds since 1970. The one file that names `jiff`.

use std::fmt;

use jiff::civil::{Date, date};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};

use super::span::Span;

/// A unit of the civil calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CalendarUnit {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday (ISO 8601).
    Week,
    /// A month.
    Month,
    /// Three months, from January, April, July or October.
    Quarter,
    /// A year, from January.
    Year,
}

impl CalendarUnit {
    /// Every unit, from the shortest.
    pub const EVERY: [Self; 5] = [Self::Day, Self::Week, Self::Month, Self::Quarter, Self::Year];

    /// The name policy files and statements use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }

    /// The seconds of the longest of its kind.
    pub fn longest(self) -> i64 {
        let days = match self {
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 31,
            Self::Quarter => 92,
            Self::Year => 366,
        };
        days * SECONDS_PER_DAY
    }

    /// The seconds of the shortest of its kind.
    pub fn shortest(self) -> i64 {
        let days = match self {
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 28,
            Self::Quarter => 90,
            Self::Year => 365,
        };
        days * SECONDS_PER_DAY
    }

    /// The day, week, ... that holds the second `at`.
    pub fn containing(self, at: i64) -> Span {
        let day = date_of(at);
        let first = match self {
            Self::Day => day,
            Self::Week => {
                let since_monday = day.weekday().to_monday_zero_offset();
                day.checked_sub(i64::from(since_monday).days()).unwrap_or(day)
            }
            Self::Month => day.first_of_month(),
            Self::Quarter => {
                let month = (day.month() - 1) / 3 * 3 + 1;
                date(day.year(), month, 1)
            }
            Self::Year => day.first_of_year(),
        };
        let length = match self {
            Self::Day => 1.day(),
            Self::Week => 1.week(),
            Self::Month => 1.month(),
            Self::Quarter => 3.months(),
            Self::Year => 1.year(),
        };
        let next = first.checked_add(length).unwrap_or(Date::MAX);
        Span::clamped(midnight(first), midnight(next))
    }
}

pub(super) const SECONDS_PER_DAY: i64 = 86_400;

/// Writes a second the way people write it, without the time of day at midnight.
pub(super) fn write_second(f: &mut fmt::Formatter<'_>, second: i64) -> fmt::Result {
    if second.rem_euclid(SECONDS_PER_DAY) == 0 {
        return write!(f, "{}", date_of(second));
    }
    write!(f, "{}", timestamp(second))
}

pub(super) fn timestamp(second: i64) -> Timestamp {
    let at = second.clamp(Span::ALL.from(), Span::ALL.to());
    Timestamp::from_second(at).expect("a span ends before the last year of the calendar")
}

fn date_of(second: i64) -> Date {
    Offset::UTC.to_datetime(timestamp(second)).date()
}

fn midnight(day: Date) -> i64 {
    Offset::UTC
        .to_timestamp(day.to_datetime(jiff::civil::Time::midnight()))
        .expect("midnight in UTC is a time")
        .as_second()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn units(day: &str) -> [String; 5] {
        let at = midnight(day.parse().unwrap()) + 3600;
        CalendarUnit::EVERY.map(|unit| unit.containing(at).to_string())
    }

    #[test]
    fn units_are_those_of_the_calendar_on_the_wall() {
        assert_eq!(
            units("2026-11-21"),
            [
                "2026-11-21 to 2026-11-22",
                "2026-11-16 to 2026-11-23",
                "2026-11-01 to 2026-12-01",
                "2026-10-01 to 2027-01-01",
                "2026-01-01 to 2027-01-01",
            ]
        );
        assert_eq!(
            units("2028-02-29"),
            [
                "2028-02-29 to 2028-03-01",
                "2028-02-28 to 2028-03-06",
                "2028-02-01 to 2028-03-01",
                "2028-01-01 to 2028-04-01",
                "2028-01-01 to 2029-01-01",
            ]
        );
        assert_eq!(CalendarUnit::Week.containing(0).to_string(), "1969-12-29 to 1970-01-05");
    }

    proptest! {
        #[test]
        fn units_follow_one_another_without_gap_or_overlap(at in 0i64..253_370_764_800) {
            for unit in CalendarUnit::EVERY {
                let this = unit.containing(at);
                prop_assert!(this.from() <= at && at < this.to());
                prop_assert!(unit.shortest() <= this.seconds() && this.seconds() <= unit.longest());
                prop_assert_eq!(unit.containing(this.from()), this);
                prop_assert_eq!(unit.containing(this.to() - 1), this);
                if this.to() < Span::ALL.to() {
                    prop_assert_eq!(unit.containing(this.to()).from(), this.to());
                }
                prop_assert_eq!(unit.containing(this.from() - 1).to(), this.from());
            }
        }
    }
}
