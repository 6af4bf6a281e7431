//! What happens to tasks that no release matches: by default nothing is released.

use super::reader::Section;

/// The `[unmatched]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unmatched {
    Refuse,
    ReleaseWithoutDp { justification: String, expires: u64 },
}

pub(super) fn read(section: &Section<'_>) -> Option<Unmatched> {
    section.refuse_other_keys(&["action", "justification", "expires"], &[]);
    section.required_text("action", "\"refuse\"");
    let words = [("refuse", true), ("release_without_dp", false)];
    let refuse = section.choice("action", &words)?.value;
    let justification = section.text("justification");
    let expires = section.day("expires");
    for key in ["justification", "expires"] {
        if refuse && section.has(key) {
            let what = format!("unmatched.action = \"refuse\" needs no {key}");
            section.reader.report(section.key_place(key), "E042", what, "remove it");
        } else if !refuse && !section.has(key) {
            section.reader.report(
                section.key_place("action"),
                "E042",
                format!("unmatched.action = \"release_without_dp\" has no {key}"),
                "say why and until when: justification = \"...\" and expires = 2027-06-30",
            );
        }
    }
    if refuse {
        return Some(Unmatched::Refuse);
    }
    let (justification, expires) = (justification?.value, end_of_day(expires?.value));
    Some(Unmatched::ReleaseWithoutDp { justification, expires })
}

/// Seconds from 1970 to the midnight (UTC) that ends a day; zero for days before 1970.
///
/// # Reference
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn end_of_day(date: toml_edit::Date) -> u64 {
    let (month, day) = (i64::from(date.month), i64::from(date.day));
    let year = i64::from(date.year) - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    u64::try_from((days + 1) * 86_400).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_holds_until_the_end_of_its_day() {
        let end = |year, month, day| end_of_day(toml_edit::Date { year, month, day });
        assert_eq!(end(1970, 1, 1), 86_400);
        assert_eq!(end(2024, 2, 29), 1_709_251_200);
        assert_eq!(end(2026, 12, 31), 1_798_761_600);
        assert_eq!(end(1900, 1, 1), 0);
    }
}
