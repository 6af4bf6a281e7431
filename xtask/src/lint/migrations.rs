//! A published migration has run on databases that we shall never see, so it never changes again.
//!
//! `xtask/migrations.sha256` names the published ones, in the format of `sha256sum`, and grows with each release.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::report;

const PUBLISHED: &str = "xtask/migrations.sha256";

pub(super) fn check(root: &Path) -> Result<()> {
    let list =
        fs::read_to_string(root.join(PUBLISHED)).with_context(|| format!("cannot read {PUBLISHED}"))?;
    let findings: Vec<String> = list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| finding(root, line))
        .collect();
    report(&findings)
}

fn finding(root: &Path, line: &str) -> Option<String> {
    let Some((expected, path)) = line.split_once("  ") else {
        return Some(format!("{PUBLISHED}: not a hash, two blanks and a path: {line}"));
    };
    let Ok(bytes) = fs::read(root.join(path)) else {
        return Some(format!("{path}: this migration is published and has gone; bring it back"));
    };
    let changed = hex::encode(Sha256::digest(bytes)) != expected;
    changed
        .then(|| format!("{path}: this migration is published and has changed; restore it and add a new one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(list: &str) -> Result<()> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("xtask")).unwrap();
        fs::write(root.path().join(PUBLISHED), list).unwrap();
        fs::write(root.path().join("1.sql"), "abc").unwrap();
        check(root.path())
    }

    #[test]
    fn an_unchanged_migration_passes() {
        published("# comment\n\nba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  1.sql\n")
            .unwrap();
    }

    #[test]
    fn a_changed_a_lost_and_an_unreadable_one_fail() {
        assert!(
            published("0a7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  1.sql\n").is_err()
        );
        assert!(
            published("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  2.sql\n").is_err()
        );
        assert!(published("1.sql\n").is_err());
    }
}
