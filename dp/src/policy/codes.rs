//! The codes of findings: which there are, and which of them an operator may allow.

use mica_diagnostic::suggest;

/// The findings that stand in the way until they are allowed by their code; E041 is one unless a check is strict.
pub const WARNINGS: [&str; 10] =
    ["W013", "W015", "W032", "W036", "E041", "W045", "W051", "W053", "W054", "W062"];

/// The findings that nobody can allow.
const ERRORS: [&str; 29] = [
    "E001", "E002", "E003", "E004", "E010", "E011", "E012", "E014", "E020", "E021", "E022", "E023", "E024",
    "E025", "E026", "E030", "E031", "E033", "E034", "E035", "E040", "E042", "E043", "E044", "E050", "E052",
    "E060", "E061", "E070",
];

/// What is wrong with a code in a list of allowed warnings, and what to write; nothing when it can be allowed.
pub fn not_allowable(code: &str) -> Option<(String, String)> {
    if WARNINGS.contains(&code) {
        return None;
    }
    let warnings = || format!("the warnings are {}", WARNINGS.join(", "));
    if ERRORS.contains(&code) {
        let what = format!("{code} is an error and cannot be allowed");
        return Some((what, format!("correct the policy and remove {code} here; {}", warnings())));
    }
    let likely = code.trim().to_ascii_uppercase();
    let near = WARNINGS.into_iter().find(|known| *known == likely).or_else(|| suggest(&likely, WARNINGS));
    let fix =
        near.map_or_else(|| format!("remove it; {}", warnings()), |near| format!("did you mean {near}?"));
    Some((format!("there is no warning \"{}\"", code.escape_debug()), fix))
}
