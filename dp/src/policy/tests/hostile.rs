//! Files that somebody broke: findings with places, and never a panic; and what does not change a promise.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Two names that look alike and are not the same, and words that are read in another order than they stand.
const UNSEEN: [&str; 13] = [
    "\\u00ad", "\\u200b", "\\u200c", "\\u200d", "\\u2060", "\\ufeff", "\\u202a", "\\u202b", "\\u202c",
    "\\u202d", "\\u2067", "\\u2068", "\\u2069",
];

/// The line that a policy would like to have printed inside its guarantee.
#[test]
fn e004_no_text_of_a_policy_forges_a_line() {
    let said = "justification = \"DPIA-2026-114\"";
    for letter in
        ["\\n", "\\r", "\\u001b[2J", "\\u0085", "\\u2028", "\\u202e", "\\u2066", "\\u200f", "\\u0000"]
            .into_iter()
            .chain(UNSEEN)
    {
        let text = format!("x{letter}Budget 'b': nothing is ever lost");
        fires(
            "E004",
            &[
                (said, &format!("justification = \"{text}\"")),
                (said, &format!("{said}\nowner = \"{text}\"")),
                ("label = \"page-load\"", &format!("label = \"{text}\"")),
                ("id = \"acme\"", &format!("id = \"{text}\"")),
            ],
        );
        // Also where the text is quoted by what is found.
        for written in [format!("\"{text}\" = 1\n{said}"), format!("task = \"{text}\"\n{said}")] {
            for finding in findings(&with(said, &written)) {
                let line = finding.to_string();
                assert!(
                    !line.chars().any(|it| it.is_control()
                        || "\u{ad}\u{feff}".contains(it)
                        || ('\u{200b}'..='\u{200f}').contains(&it)
                        || ('\u{2028}'..='\u{202e}').contains(&it)
                        || ('\u{2060}'..='\u{2069}').contains(&it)),
                    "{line:?}"
                );
            }
        }
    }
    passes("E004", &[(said, "justification = \"Grüße, weil § 6 (1) f – 日本\"")]);
}

#[test]
fn a_finding_quotes_the_beginning_of_what_is_too_long() {
    let (digits, letters) = ("1".repeat(200_000), "é".repeat(200_000));
    for change in [
        ("rho = 0.25", format!("rho = 0.{digits}")),
        ("rho = 0.25", format!("rho = -{digits}.5")),
        ("rho = 0.25", format!("rho = \"{digits}x\"")),
        ("id = \"acme\"", format!("id = \"{letters}\"")),
        ("id = \"x\"", format!("id = \"{letters}\"")),
        ("label = \"page-load\"", format!("label = \"{letters}*{letters}\"")),
        ("label = \"page-load\"", format!("task_ids = [\"{letters}\"]")),
        ("dp-policy/1", letters.clone()),
        ("on_exhausted = \"refuse\"", format!("on_exhausted = \"{letters}\"")),
        ("on_exhausted", format!("\"{letters}\" = 1\non_exhausted")),
    ] {
        let found = findings(&with(change.0, &change.1));
        assert!(!found.is_empty(), "{}", change.0);
        for finding in found {
            let line = finding.to_string();
            assert!(line.chars().count() < 600, "{}: {} characters", change.0, line.chars().count());
        }
    }
    let long = findings(&with("rho = 0.25", &format!("rho = 0.{digits}")));
    let expected = format!("rho 0.{}…(200002 characters) has more digits than the ledger", &digits[..98]);
    assert!(long.iter().any(|it| it.code == "E003" && it.what == expected), "{long:?}");
}

#[test]
fn e004_names_are_letters_digits_and_little_else() {
    for name in ["a b", "ä", "a\\\"b", "<script>", &"x".repeat(101)] {
        fires(
            "E004",
            &[("id = \"acme\"", &format!("id = \"{name}\"")), ("id = \"x\"", &format!("id = \"{name}\""))],
        );
    }
    passes("E004", &[("id = \"acme\"", "id = \"Acme/web_2026.v1-b\"")]);
}

/// Every file to start from, and the good one.
fn valid() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let mut texts = vec![GOOD.to_owned()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "toml") {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
    texts
}

/// Whatever the text is: it is read, or it has an error, and all that is found stands in it.
fn check(text: &str) -> Result<(), TestCaseError> {
    let found = findings(text);
    let lines: Vec<&str> = text.split('\n').collect();
    for finding in &found {
        let line = lines.get(finding.line - 1);
        prop_assert!(line.is_some(), "{finding} in {} lines", lines.len());
        prop_assert!(finding.col >= 1 && finding.col <= line.unwrap().chars().count() + 1, "{finding}");
        prop_assert!(!finding.what.is_empty() && !finding.fix.is_empty(), "{finding}");
    }
    let refused = Policy::parse("p.toml", text).is_err();
    prop_assert_eq!(refused, found.iter().any(|it| it.severity == Severity::Error));
    Ok(())
}

/// One way to break a text.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index, Index),
    Insert(Index, String),
    Repeat(Index),
    Swap(Index, Index),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let words = prop::sample::select(vec![
        "=",
        "\"",
        "\n",
        "[",
        "]",
        "{",
        "}",
        "[[budget]]\n",
        "[[release]]\n",
        "nan",
        "-1",
        "1e400",
        "0",
        "9999999999999999999",
        "\u{e9}",
        "\u{0}",
        "1/0",
        "id = 1\n",
        ".",
        ",",
        "#",
        "'",
        "1979-05-27",
        "true",
        "[]",
        "{}",
        "rho",
        "\u{1F600}",
    ]);
    let any = any::<Index>;
    prop_oneof![
        (any(), any()).prop_map(|(a, b)| Damage::Cut(a, b)),
        (any(), words).prop_map(|(at, word)| Damage::Insert(at, word.to_owned())),
        any().prop_map(Damage::Repeat),
        (any(), any()).prop_map(|(a, b)| Damage::Swap(a, b)),
    ]
}

fn damage(text: &str, damage: &Damage) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    match damage {
        Damage::Cut(from, length) => {
            let from = from.index(letters.len() + 1);
            let to = (from + length.index(20)).min(letters.len());
            letters.iter().take(from).chain(letters.iter().skip(to)).collect()
        }
        Damage::Insert(at, word) => {
            let at = at.index(letters.len() + 1);
            letters
                .iter()
                .take(at)
                .copied()
                .chain(word.chars())
                .chain(letters.iter().skip(at).copied())
                .collect()
        }
        Damage::Repeat(at) if !lines.is_empty() => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at]);
            lines.concat()
        }
        Damage::Swap(a, b) if !lines.is_empty() => {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
            lines.concat()
        }
        _ => text.to_owned(),
    }
}

/// The tables of a file in another order, its keys in another order within them, with other spaces and comments.
fn rewritten(text: &str, seed: u64) -> String {
    let mut tables: Vec<Vec<String>> = vec![Vec::new()];
    for line in text.lines().map(|line| bare(line).trim().to_owned()).filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            tables.push(Vec::new());
        }
        tables.last_mut().unwrap().push(line);
    }
    let mut state = seed;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    let last = tables.len();
    for at in 1..last {
        let other = at + next(last - at);
        tables.swap(at, other);
    }
    for table in &mut tables {
        let first = usize::from(table.first().is_some_and(|line| line.starts_with('[')));
        for at in first..table.len() {
            let other = at + next(table.len() - at);
            table.swap(at, other);
        }
    }
    let mut out = String::from("# written again\n");
    for line in tables.iter().flatten() {
        let spaces = " ".repeat(next(4));
        writeln!(out, "{spaces}{line}{spaces} # {}", next(1000)).unwrap();
        out.push_str(&"\n".repeat(next(3)));
    }
    out
}

/// A line without its comment. No text of these files has a hash in quotes.
fn bare(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

fn statements(text: &str) -> Vec<(String, [u8; 32])> {
    let mut statements: Vec<_> =
        policy(text).plans().map(|plan| (plan.release_id().to_owned(), plan.statement().sha256())).collect();
    statements.sort();
    statements
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_broken_file_is_findings_with_places_and_never_a_panic(
        file in any::<Index>(),
        damages in prop::collection::vec(any_damage(), 1..5),
    ) {
        let valid = valid();
        let text = damages.iter().fold(valid[file.index(valid.len())].clone(), |text, it| damage(&text, it));
        check(&text)?;
    }

    #[test]
    fn a_statement_does_not_depend_on_order_spaces_or_comments(file in any::<Index>(), seed in any::<u64>()) {
        let valid = valid();
        let text = &valid[file.index(valid.len())];
        prop_assert_eq!(statements(text), statements(&rewritten(text, seed)));
    }
}

#[test]
fn what_is_no_policy_at_all_is_refused() {
    for text in [
        "",
        "\u{0}",
        "= = =",
        "[[budget]]",
        "budget = 1",
        "release = [1]",
        "[[release]]\n[[release.match]]",
        "policy = []",
        "\u{feff}",
        "schema = \"dp-policy/1\"\r\n\u{e9} = 1",
    ] {
        assert!(!errors(text).is_empty(), "{text:?}");
        check(text).unwrap();
    }
    for (cut, _) in GOOD.char_indices() {
        check(&GOOD[..cut]).unwrap();
    }
}

/// Two thousand faults are a hundred findings, and none of them lets the file pass.
#[test]
fn a_file_that_is_nothing_but_faults_is_told_of_the_first() {
    let text = format!("{GOOD}\n{}", "[[release]]\nidd = 1\n".repeat(900));
    let found = findings(&text);
    assert_eq!(found.iter().filter(|it| it.severity == Severity::Error).count(), 101);
    assert!(found.iter().any(|it| it.what == "there is more wrong than these 100"), "{found:?}");
    check(&text).unwrap();
}

#[test]
fn a_policy_has_at_most_a_thousand_releases() {
    let text = "schema = \"dp-policy/1\"\n".to_owned() + &"[[release]]\n".repeat(20_000);
    let found = findings(&text);
    assert!(
        found.iter().any(|it| it.what.contains("more than 1000 times [[release]]") && it.line == 1002),
        "{:?}",
        found.last()
    );
}
