//! What happens to tasks that no release matches: by default nothing is released.

use super::catalogue;
use super::date::end_of_day;
use super::reader::Section;

/// The `[unmatched]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unmatched {
    Refuse,
    ReleaseWithoutDp { justification: String, last_day: String, expires: u64 },
}

pub(super) fn read(section: &Section<'_>) -> Option<Unmatched> {
    section.refuse_other_keys(&catalogue::UNMATCHED, &[]);
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
    let (justification, last_day) = (justification?.value, expires?.value);
    let what = format!(
        "tasks that no release matches leave without noise until {last_day}: nothing of them is private"
    );
    let fix = "it is printed with the guarantees of the policy; allow W045 if you mean it";
    section.reader.warn(section.key_place("action"), "W045", what, fix);
    let expires = end_of_day(last_day);
    Some(Unmatched::ReleaseWithoutDp { justification, last_day: last_day.to_string(), expires })
}
