//! Who runs what: a relay and a gateway of one operator hide nothing (RFC 9458 6).

/// Whether two names are of the same operator, however they are spelled.
fn is_same(one: &str, other: &str) -> bool {
    let plain = |name: &str| {
        let letters = name.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    plain(one) == plain(other)
}

/// Refuses a relay whose operator also runs what it must be kept apart from. The error is the key and a sentence.
pub(crate) fn check(
    ours: Option<&str>,
    others: [(&'static str, &'static str, Option<&str>); 2],
) -> Result<(), (&'static str, String)> {
    let Some(ours) = ours else { return Ok(()) };
    for (key, role, theirs) in others {
        if theirs.is_some_and(|theirs| is_same(ours, theirs)) {
            let what = format!(
                "the relay and the {role} are both of the operator `{ours}`, who would know who sent what; have \
                 another organisation run one of them, or write insecure_one_operator = true for a trial"
            );
            return Err((key, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_operator_is_found_however_it_is_spelled() {
        for (ours, gateway, leader, found) in [
            (Some("Example e.V."), Some("example eV"), None, Some("gateway_operator")),
            (Some("a"), Some("b"), Some("A"), Some("leader_operator")),
            (Some("a"), Some("b"), Some("b"), None),
            (Some("a"), None, None, None),
            (None, Some("a"), Some("a"), None),
        ] {
            let others = [("gateway_operator", "gateway", gateway), ("leader_operator", "leader", leader)];
            assert_eq!(
                check(ours, others).err().map(|(key, _)| key),
                found,
                "{ours:?} {gateway:?} {leader:?}"
            );
        }
    }
}
