//! A file that one can read in one go: the size of files is what tells legible trees from the others.
//!
//! The size of functions is clippy's business (`too_many_lines`, set in `clippy.toml`).

use anyhow::Result;

use super::report;
use super::sources::Source;

/// Past this a file should be split.
const LARGE: usize = 400;

/// Past this it must be.
const TOO_LARGE: usize = 600;

pub(super) fn check(sources: &[Source]) -> Result<()> {
    let rust = || sources.iter().filter(|source| source.is_rust());
    for source in rust().filter(|source| (LARGE + 1..=TOO_LARGE).contains(&lines(source))) {
        eprintln!(
            "warning: {} has {} lines; better no more than {LARGE}",
            source.path.display(),
            lines(source)
        );
    }
    let findings: Vec<String> = rust()
        .filter(|source| lines(source) > TOO_LARGE)
        .map(|source| {
            let path = source.path.display();
            format!(
                "{path} has {} lines and may have {TOO_LARGE}; split it by step of the journey or by table",
                lines(source)
            )
        })
        .collect();
    report(&findings)
}

fn lines(source: &Source) -> usize {
    source.text.lines().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, lines: usize) -> Source {
        Source { path: name.into(), text: "line\n".repeat(lines) }
    }

    #[test]
    fn files_up_to_the_limit_pass() {
        assert!(check(&[file("a.rs", 10), file("b.rs", LARGE + 1), file("c.rs", TOO_LARGE)]).is_ok());
    }

    #[test]
    fn a_file_over_the_limit_fails() {
        assert!(check(&[file("a.rs", 10), file("b.rs", TOO_LARGE + 1)]).is_err());
    }

    #[test]
    fn only_rust_has_a_limit() {
        assert!(check(&[file("a.md", TOO_LARGE + 1)]).is_ok());
    }
}
