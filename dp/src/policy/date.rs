//! Days and moments as a policy file writes them, in seconds since 1970.

use toml_edit::{Date, Datetime, Offset};

/// Seconds to the midnight (UTC) that ends a day; zero for days before 1970.
pub(super) fn end_of_day(date: Date) -> u64 {
    u64::try_from((days(date) + 1) * 86_400).unwrap_or(0)
}

/// Seconds to a moment; nothing for a moment without a time or an offset, and for one before 1970.
pub(super) fn moment(datetime: &Datetime) -> Option<u64> {
    let (date, time, offset) = (datetime.date?, datetime.time?, datetime.offset?);
    let ahead = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    let second = i64::from(time.second.unwrap_or(0));
    let of_day = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + second;
    u64::try_from(days(date) * 86_400 + of_day - ahead).ok()
}

/// Days since 1970.
///
/// # Reference
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days(date: Date) -> i64 {
    let (month, day) = (i64::from(date.month), i64::from(date.day));
    let year = i64::from(date.year) - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_holds_until_the_end_of_its_day() {
        let end = |year, month, day| end_of_day(Date { year, month, day });
        assert_eq!(end(1970, 1, 1), 86_400);
        assert_eq!(end(2024, 2, 29), 1_709_251_200);
        assert_eq!(end(2026, 12, 31), 1_798_761_600);
        assert_eq!(end(1900, 1, 1), 0);
    }

    #[test]
    fn a_moment_is_the_same_wherever_it_is_written() {
        let at = |text: &str| moment(&text.parse().unwrap());
        assert_eq!(at("1970-01-01T00:00:01Z"), Some(1));
        assert_eq!(at("2026-12-31T23:00:00Z"), Some(1_798_757_999 + 1));
        assert_eq!(at("2027-01-01T00:30:00+01:30"), at("2026-12-31T23:00:00Z"));
        assert_eq!(at("2026-12-31T20:00:00-03:00"), at("2026-12-31T23:00:00Z"));
        for none in ["2026-12-31", "2026-12-31T00:00:00", "00:00:00", "1969-12-31T23:59:59Z"] {
            assert_eq!(at(none), None, "{none}");
        }
    }
}
