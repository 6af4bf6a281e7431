//! What commands say about privacy is in `docs/privacy.md`, with the tests that hold it.

use std::fs;

fn read(path: &str) -> String {
    let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The texts in double quotes in a file of Rust, as they are printed but for their placeholders. Tests and comments do
/// not count.
fn literals(code: &str) -> Vec<String> {
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut literals = Vec::new();
    let mut letters = code.chars();
    while letters.by_ref().any(|letter| letter == '"') {
        let mut text = String::new();
        while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
            match letter {
                '\\' => text.extend(letters.next().map(|next| if next == '"' { '"' } else { ' ' })),
                letter => text.push(letter),
            }
        }
        literals.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    literals
}

/// Sentences and headings, no names: several words, one of them about privacy. What help texts show is said elsewhere too.
fn speaks_of_privacy(literal: &str) -> bool {
    let words = [
        "nois",
        "epsilon",
        "priva",
        "guarantee",
        "budget",
        "spent",
        "protect",
        "confidence",
        "charge",
        "ledger",
        "promise",
        "weaker",
        "statement",
        "odds",
        "expose",
    ];
    let lower = literal.to_lowercase();
    let help = literal.starts_with("Examples:")
        || literal.contains("What is checked:")
        || literal.contains("This command");
    literal.split(' ').count() >= 3 && !help && words.iter().any(|word| lower.contains(word))
}

/// The words of the table's first column.
fn rows(page: &str) -> Vec<String> {
    let (_, table) = page.split_once("| Words | Said by | Test |\n").expect("the table of the words");
    let rows = table.lines().take_while(|line| line.starts_with('|')).skip(1);
    rows.map(|row| {
        let words =
            row.split_once('“').and_then(|(_, rest)| rest.split_once('”')).expect("words in quotes").0;
        assert!(row.rsplit('|').nth(1).is_some_and(|tests| tests.contains('`')), "no test: {row}");
        words.to_owned()
    })
    .collect()
}

#[test]
fn whatever_a_command_says_about_privacy_has_a_row_with_its_test() {
    let files = [
        "collect/released.rs",
        "demo/programme.rs",
        "dev/sheet.rs",
        "task/show.rs",
        "doctor/aggregator.rs",
        "budget/accept.rs",
        "budget/history.rs",
        "budget/mod.rs",
        "budget/show.rs",
        "budget/verify.rs",
        "policy/diff.rs",
        "policy/explain.rs",
        "policy/plan.rs",
        "report.rs",
    ];
    let said: Vec<String> = files
        .iter()
        .flat_map(|file| literals(&read(&format!("cli/src/commands/{file}"))))
        .filter(|literal| speaks_of_privacy(literal))
        .collect();
    let rows = rows(&read("docs/privacy.md"));
    let without: Vec<&String> =
        said.iter().filter(|it| !rows.iter().any(|row| it.contains(row.as_str()))).collect();
    assert!(without.is_empty(), "no row in docs/privacy.md, section 12: {without:#?}");
    let unsaid: Vec<&String> =
        rows.iter().filter(|row| !said.iter().any(|it| it.contains(row.as_str()))).collect();
    assert!(unsaid.is_empty(), "nobody says this any more: {unsaid:#?}");
}
