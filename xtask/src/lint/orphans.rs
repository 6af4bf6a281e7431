//! A file that no crate has as a module is compiled by nobody: its tests never run, and whoever searches for them by name
//! is fooled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::packages;
use super::report;
use super::sources::Source;

pub(super) fn check(root: &Path, sources: &[Source]) -> Result<()> {
    let packages = packages::own(root)?;
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_path_buf();
    let mut crates: Vec<PathBuf> = packages
        .iter()
        .flat_map(|package| &package.targets)
        .map(|target| relative(&target.src_path))
        .collect();
    let mut folders: Vec<PathBuf> = packages.iter().map(|package| relative(package.folder())).collect();
    for folder in packages_of_their_own(&folders, sources) {
        crates.push(folder.join("src/main.rs"));
        folders.push(folder);
    }
    report(&orphans(&folders, &crates, sources))
}

/// The folders of packages that are no part of the workspace: programs that are built where they are wanted.
fn packages_of_their_own(folders: &[PathBuf], sources: &[Source]) -> Vec<PathBuf> {
    let manifests = sources.iter().filter(|source| source.path.file_name() == Some("Cargo.toml".as_ref()));
    let all = manifests.filter(|source| source.text.lines().any(|line| line == "[workspace]"));
    let all = all.filter_map(|source| source.path.parent()).filter(|folder| *folder != Path::new(""));
    all.filter(|folder| folders.iter().all(|known| known != folder)).map(Path::to_path_buf).collect()
}

/// The Rust files in the packages of these folders that none of the crates with these first files reaches.
fn orphans(folders: &[PathBuf], crates: &[PathBuf], sources: &[Source]) -> Vec<String> {
    let texts: BTreeMap<&Path, &str> = sources
        .iter()
        .filter(|source| source.is_rust())
        .map(|source| (source.path.as_path(), source.text.as_str()))
        .collect();
    let mut reached = BTreeSet::new();
    // Each with whether its modules are beside it, as those of the first file of a crate are.
    let mut open: Vec<(PathBuf, bool)> = crates.iter().map(|path| (path.clone(), true)).collect();
    while let Some((path, first)) = open.pop() {
        let Some(text) = texts.get(path.as_path()) else { continue };
        if reached.insert(path.clone()) {
            open.extend(modules(&path, first, text));
        }
    }
    texts
        .keys()
        .filter(|path| folders.iter().any(|folder| path.starts_with(folder)) && !reached.contains(**path))
        .map(|path| {
            format!(
                "{}: no crate has this file as a module, so nothing compiles it; name it with `mod`, or remove it",
                path.display()
            )
        })
        .collect()
}

/// Where the modules that a file names may be.
fn modules(path: &Path, first: bool, text: &str) -> Vec<(PathBuf, bool)> {
    let beside = path.parent().unwrap_or(Path::new(""));
    let is_folder = first || path.file_name().is_some_and(|name| name == "mod.rs");
    let below = if is_folder { beside.to_path_buf() } else { path.with_extension("") };
    let mut named = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = between(line, "#[path = \"", "\"]") {
            named = Some(plain(&beside.join(name)));
        } else if let Some(name) = between(line, "include!(\"", "\"") {
            found.push((plain(&beside.join(name)), false));
        } else if let Some(name) = module(line) {
            if let Some(path) = named.take() {
                found.push((path, true));
            } else {
                found.push((below.join(format!("{name}.rs")), false));
                found.push((below.join(name).join("mod.rs"), true));
            }
        }
    }
    found
}

/// The name in `mod name;`, whoever may see it.
fn module(line: &str) -> Option<&str> {
    let (before, name) = line.strip_suffix(';')?.rsplit_once(' ')?;
    let is_name = name.bytes().all(|letter| letter == b'_' || letter.is_ascii_alphanumeric());
    ((before == "mod" || before.starts_with("pub") && before.ends_with(" mod")) && is_name).then_some(name)
}

fn between<'l>(line: &'l str, before: &str, after: &str) -> Option<&'l str> {
    let rest = line.split_once(before)?.1;
    Some(rest.split_once(after)?.0)
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source { path: PathBuf::from(path), text: (*text).to_owned() })
            .collect();
        let crates = ["a/src/lib.rs", "a/tests/all.rs"].map(PathBuf::from);
        let findings = orphans(&[PathBuf::from("a")], &crates, &sources);
        let file = |finding: &String| finding.split(':').next().unwrap_or_default().to_owned();
        findings.iter().map(file).collect()
    }

    #[test]
    fn a_file_that_no_crate_reaches_is_found() {
        let files = [
            ("a/src/lib.rs", "mod b;\npub mod c;\npub(crate) mod d;\n// mod lost;\n"),
            ("a/src/b.rs", "#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\n"),
            ("a/src/b_tests.rs", "include!(\"../shared/e.rs\");"),
            ("a/shared/e.rs", ""),
            ("a/src/c/mod.rs", "mod f;"),
            ("a/src/c/f.rs", ""),
            ("a/src/d.rs", "mod g;"),
            ("a/src/d/g.rs", ""),
            ("a/src/g.rs", ""),
            ("a/src/lost.rs", "mod also;"),
            ("a/src/lost/also.rs", ""),
            ("a/tests/all.rs", "mod h;"),
            ("a/tests/h.rs", ""),
            ("a/tests/i.rs", "#[test]\nfn it_holds() {}"),
            ("elsewhere/j.rs", ""),
        ];
        let lost = ["a/src/g.rs", "a/src/lost/also.rs", "a/src/lost.rs", "a/tests/i.rs"];
        assert_eq!(found(&files), lost);
    }

    #[test]
    fn a_package_that_is_no_part_of_the_workspace_is_known_by_its_manifest() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
        let sources = [
            source("Cargo.toml", "[workspace]\n"),
            source("a/Cargo.toml", "[package]\n"),
            source("a/inner/peer/Cargo.toml", "[package]\n\n[workspace]\n"),
            source("a/inner/peer/notes.toml", "[workspace]\n"),
        ];
        let found = packages_of_their_own(&["a".into()], &sources);
        assert_eq!(found, [Path::new("a/inner/peer")]);
    }

    #[test]
    fn a_module_is_known_by_its_declaration_alone() {
        let lines = ["mod a;", "pub mod a;", "pub(super) mod a;", "pub(in crate::x) mod a;"];
        assert!(lines.into_iter().all(|line| module(line) == Some("a")));
        for line in ["mod a {", "use a;", "// mod a;", "let mod_a = b;", "model a;"] {
            assert_eq!(module(line), None, "{line}");
        }
    }
}
