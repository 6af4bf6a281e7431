//! What must not stand in the tree, and what the compiler does not see: stubs, tests that are switched off, paths of
//! one machine, spans that would record what a handler was given, and shares that could be sealed without noise.

use std::path::Path;

use anyhow::Result;

use super::sources::Source;
use super::{place, report};

/// A word and why it must not be there. (Each is written in two parts, or this file would be the first finding.)
struct Rule {
    word: &'static str,
    why: &'static str,
}

/// For Rust files.
const CODE: [Rule; 6] = [
    Rule {
        word: concat!("to", "do!("),
        why: "a stub; write it, or leave the feature out and say so in the README",
    },
    Rule {
        word: concat!("unimple", "mented!("),
        why: "a stub; write it, or leave the feature out and say so in the README",
    },
    Rule {
        word: concat!("#[ign", "ore"),
        why: "a test that does not run holds nothing; make it run or remove it",
    },
    Rule {
        word: concat!("```ign", "ore"),
        why: "an example that is not compiled goes stale; make it compile or mark it `text`",
    },
    Rule { word: concat!("FIX", "ME"), why: "mend it, or write down what is missing where users look" },
    Rule { word: concat!("db", "g!("), why: "a debugging aid" },
];

/// For every file.
const EVERYWHERE: [Rule; 3] = [
    Rule { word: concat!("@", "@"), why: "a place that was to be filled in" },
    Rule { word: concat!("/ro", "ot/"), why: "a path of one machine" },
    Rule { word: concat!("/ho", "me/"), why: "a path of one machine" },
];

/// How an attribute that makes a span begins, after `#[` and perhaps a path.
const SPAN: &str = "instrument";

pub(super) fn check(sources: &[Source]) -> Result<()> {
    let mut findings = Vec::new();
    for source in sources {
        find_words(source, &EVERYWHERE, &mut findings);
        if source.is_rust() {
            find_words(source, &CODE, &mut findings);
            find_recording_spans(source, &mut findings);
            find_ways_around_the_noise(source, &mut findings);
        }
    }
    report(&findings)
}

fn find_words(source: &Source, rules: &[Rule], findings: &mut Vec<String>) {
    for (number, line) in (1..).zip(source.text.lines()) {
        for rule in rules.iter().filter(|rule| line.contains(rule.word)) {
            findings.push(format!("{}: `{}` is {}", place(source, number), rule.word, rule.why));
        }
    }
}

/// A span records every argument by default: addresses, headers, bodies.
fn find_recording_spans(source: &Source, findings: &mut Vec<String>) {
    let mut rest = source.text.lines().zip(1..);
    while let Some((line, number)) = rest.next() {
        let Some(attribute) = line.trim_start().strip_prefix("#[") else { continue };
        if !attribute.trim_start_matches("tracing::").starts_with(SPAN) {
            continue;
        }
        let mut whole = line.to_owned();
        while !whole.trim_end().ends_with(']') {
            let Some((line, _)) = rest.next() else { break };
            whole.push_str(line);
        }
        if !whole.contains("skip_all") {
            findings
                .push(format!("{}: a span without `skip_all` records every argument", place(source, number)));
        }
    }
}

/// What may be sealed to a collector is a trait of `mica-dap`, because that crate knows no noise. Rust cannot keep others from
/// implementing it.
const SEALABLE: &str = concat!("Noised", "Share for ");

/// Where it is implemented for what has passed the gate.
const GATE: &str = "dp/src/release.rs";

fn find_ways_around_the_noise(source: &Source, findings: &mut Vec<String>) {
    let mut parts = source.path.iter();
    if source.path == Path::new(GATE) || parts.any(|part| part == "tests" || part == "tests.rs") {
        return;
    }
    for (number, line) in (1..).zip(source.text.lines()) {
        if line.contains(SEALABLE) && line.contains("impl") {
            let place = place(source, number);
            findings.push(format!(
                "{place}: a share is sealed that has not passed {GATE}, without noise or budget"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, text: &str) -> bool {
        check(&[Source { path: name.into(), text: text.into() }]).is_err()
    }

    #[test]
    fn a_stub_is_found_in_code_and_left_alone_in_prose() {
        let stub = format!("fn f() {{ {}) }}", CODE[0].word);
        assert!(found("a.rs", &stub));
        assert!(!found("a.md", &stub));
    }

    #[test]
    fn a_path_of_one_machine_is_found_everywhere() {
        let path = format!("see {}someone/notes", EVERYWHERE[1].word);
        assert!(found("a.md", &path));
        assert!(found("a.toml", &path));
    }

    #[test]
    fn nothing_but_the_gate_and_tests_makes_a_share_that_can_be_sealed() {
        let way_around = format!("impl hpke::{SEALABLE}Exact {{}}");
        for name in ["aggregator/src/release/draw.rs", "dp/src/noise.rs", "dap/src/hpke/mod.rs"] {
            assert!(found(name, &way_around), "{name}");
        }
        for name in [GATE, "dap/src/hpke/tests.rs", "aggregator/tests/aggregator/a.rs", "tests/world/a.rs"] {
            assert!(!found(name, &way_around), "{name}");
        }
    }

    #[test]
    fn a_span_must_skip_its_arguments() {
        assert!(found("a.rs", "#[instrument]\nfn f() {}"));
        assert!(found("a.rs", "    #[tracing::instrument(fields(task = %id))]\nfn f() {}"));
        assert!(found("a.rs", "#[instrument(\n    fields(task)\n)]\nfn skip_all() {}"));
        assert!(!found("a.rs", "#[instrument(skip_all, fields(task = %id))]\nfn f() {}"));
        assert!(!found("a.rs", "#[tracing::instrument(\n    skip_all,\n    fields(task)\n)]\nfn f() {}"));
    }
}
