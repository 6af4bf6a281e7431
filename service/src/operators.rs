//! Who runs what: parties that must not know what the other knows are not run by one operator (RFC 9458 6, DAP 8.1).

/// The names of two parties, if they are the same operator's however they are spelled.
pub fn is_same(one: &str, other: &str) -> bool {
    let plain = |name: &str| {
        let letters = name.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    let (one, other) = (plain(one), plain(other));
    !one.is_empty() && one == other
}

/// Why two parties of one operator do not do, and what to do about it.
pub fn refusal(ours: &str, role: &str, other_role: &str) -> String {
    let consequence = match (role, other_role) {
        ("leader", "helper") | ("helper", "leader") => "could put the two shares of every report together",
        _ => "would know who sent what",
    };
    format!(
        "the {role} and the {other_role} are both of the operator `{ours}`, who {consequence}; have another \
         organisation run one of them, or write insecure_one_operator = true for a trial"
    )
}

/// What to warn of when nobody has said who runs what, so that it cannot be compared. `keys` are those that would say.
pub fn unsaid(keys: &[(&str, bool)]) -> Option<String> {
    let missing: Vec<&str> = keys.iter().filter(|(_, is_said)| !is_said).map(|(key, _)| *key).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "nobody checks that relay and gateway are run by two organisations, which privacy depends on: write {}",
            missing.join(" and ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{is_same, unsaid};

    #[test]
    fn what_nobody_has_said_of_operators_is_named() {
        assert_eq!(unsaid(&[("operator", true), ("gateway_operator", true)]), None);
        let warning = unsaid(&[("operator", false), ("gateway_operator", false)]).expect("a warning");
        assert!(warning.ends_with("write operator and gateway_operator"), "{warning}");
    }

    #[test]
    fn one_operator_is_found_however_it_is_spelled() {
        for (one, other, same) in [
            ("Example e.V.", "example eV", true),
            ("a", "A.", true),
            ("a", "b", false),
            ("", "", false),
            ("!", "?", false),
        ] {
            assert_eq!(is_same(one, other), same, "{one} {other}");
        }
    }
}
