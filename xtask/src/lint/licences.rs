//! What we are made of: licences we may pass on, no package we have decided against, nothing from unknown places.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use spdx::{Expression, ParseMode};
use twox_hash::XxHash32;

use super::packages::{self, Package};
use super::report;
use super::rules::{Clarification, Rules};

pub(super) fn check(root: &Path) -> Result<()> {
    let rules = Rules::read(root)?;
    let packages = packages::collect(root, &rules.graph.targets)?;
    eprintln!("   {} packages for {}", packages.len(), rules.graph.targets.join(", "));
    report(&findings(root, &rules, &packages))
}

fn findings(root: &Path, rules: &Rules, packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        let mut add =
            |problem: Option<String>| findings.extend(problem.map(|problem| format!("{name}: {problem}")));
        if package.is_ours(root) {
            add(wildcard(package));
        } else {
            add(foreign_source(rules, package));
            add(licence(rules, package).err().map(|error| format!("{error:#}")));
        }
        add(ban(rules, package, packages));
    }
    findings
}

/// Whether the licence of `package` is one we accept.
fn licence(rules: &Rules, package: &Package) -> Result<()> {
    let expression =
        match (&package.license, rules.licenses.clarify.iter().find(|known| known.package == package.name)) {
            (Some(expression), _) => expression.clone(),
            (None, Some(clarification)) => clarified(clarification, package)?,
            (None, None) => {
                bail!("names no licence; read its licence file and add a [[licenses.clarify]] to deny.toml")
            }
        };
    let exceptions = rules.licenses.exceptions.iter().filter(|exception| exception.package == package.name);
    let allowed: Vec<&String> =
        rules.licenses.allow.iter().chain(exceptions.flat_map(|exception| &exception.allow)).collect();
    // Old packages write `MIT/Apache-2.0`.
    let parsed = Expression::parse_mode(&expression, ParseMode::LAX)
        .with_context(|| format!("licence `{expression}`"))?;
    if !parsed.evaluate(|required| allowed.iter().any(|allowed| **allowed == required.to_string())) {
        bail!("licence `{expression}` is not allowed by deny.toml");
    }
    Ok(())
}

/// The licence that someone read in the files, as long as these are still what they read.
fn clarified(clarification: &Clarification, package: &Package) -> Result<String> {
    for file in &clarification.license_files {
        let text = fs::read_to_string(package.folder().join(&file.path))
            .with_context(|| format!("cannot read {}", file.path))?;
        let hash = fingerprint(&text);
        if hash != file.hash {
            bail!("{} has changed (0x{hash:08x}); read it and mend deny.toml", file.path);
        }
    }
    Ok(clarification.expression.clone())
}

/// The hash that cargo-deny knows a licence file by: line ends are made alike first.
fn fingerprint(text: &str) -> u32 {
    let text: String = text.lines().flat_map(|line| [line.trim_end_matches('\r'), "\n"]).collect();
    XxHash32::oneshot(0, text.as_bytes())
}

fn ban(rules: &Rules, package: &Package, packages: &[Package]) -> Option<String> {
    let ban = rules.bans.deny.iter().find(|ban| ban.package == package.name)?;
    let versions = packages.iter().filter(|other| other.name == package.name).count();
    if ban.deny_multiple_versions && versions < 2 {
        return None;
    }
    let what = if ban.deny_multiple_versions { "may be there in one version only" } else { "is banned" };
    Some(format!(
        "{what}: {} (who brings it: `cargo tree --workspace --invert {}`)",
        ban.reason, package.name
    ))
}

fn foreign_source(rules: &Rules, package: &Package) -> Option<String> {
    let Some(source) = &package.source else {
        return Some("comes from a folder outside of this repository".to_owned());
    };
    let known = source
        .strip_prefix("registry+")
        .is_some_and(|url| rules.sources.allow_registry.iter().any(|allowed| allowed == url));
    (!known).then(|| format!("comes from {source}, which is no registry that deny.toml allows"))
}

/// A dependency that takes any version, which none of ours may ask for except of each other.
fn wildcard(package: &Package) -> Option<String> {
    let dependency =
        package.dependencies.iter().find(|dependency| dependency.req == "*" && dependency.path.is_none())?;
    Some(format!("asks for any version of {}; name one", dependency.name))
}

#[cfg(test)]
mod tests {
    use super::super::packages::Dependency;
    use super::super::rules::tests::example;
    use super::*;

    const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn package(name: &str, license: Option<&str>) -> Package {
        Package {
            name: name.into(),
            version: "1.0.0".into(),
            license: license.map(Into::into),
            source: Some(REGISTRY.into()),
            manifest_path: "/elsewhere/Cargo.toml".into(),
            dependencies: Vec::new(),
            targets: Vec::new(),
        }
    }

    fn count(packages: &[Package]) -> usize {
        findings(Path::new("/mica"), &example(), packages).len()
    }

    #[test]
    fn allowed_licences_pass_in_every_spelling() {
        for expression in
            ["MIT", "MIT OR GPL-3.0-only", "(MIT OR Apache-2.0) AND Unicode-3.0", "MIT/Apache-2.0"]
        {
            assert_eq!(count(&[package("a", Some(expression))]), 0, "{expression}");
        }
    }

    #[test]
    fn other_licences_fail() {
        for expression in
            ["GPL-3.0-only", "MIT AND GPL-3.0-only", "Apache-2.0 WITH LLVM-exception", "nonsense"]
        {
            assert_eq!(count(&[package("a", Some(expression))]), 1, "{expression}");
        }
        assert_eq!(count(&[package("a", None)]), 1);
    }

    #[test]
    fn an_exception_is_for_one_package() {
        assert_eq!(count(&[package("prio", Some("MPL-2.0 AND MIT"))]), 0);
        assert_eq!(count(&[package("other", Some("MPL-2.0 AND MIT"))]), 1);
    }

    #[test]
    fn a_clarified_licence_holds_while_its_file_is_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let opendp =
            || Package { manifest_path: folder.path().join("Cargo.toml"), ..package("opendp", None) };
        let mut rules = example();
        fs::write(folder.path().join("LICENSE"), "MIT License\r\n").unwrap();
        rules.licenses.clarify[0].license_files[0].hash = fingerprint("MIT License\n");
        assert_eq!(findings(Path::new("/mica"), &rules, &[opendp()]).len(), 0);
        fs::write(folder.path().join("LICENSE"), "Another License\n").unwrap();
        assert_eq!(findings(Path::new("/mica"), &rules, &[opendp()]).len(), 1);
    }

    #[test]
    fn the_fingerprint_is_xxh32() {
        assert_eq!(XxHash32::oneshot(0, b""), 0x02cc_5d05);
        assert_eq!(fingerprint("a\r\nb"), XxHash32::oneshot(0, b"a\nb\n"));
    }

    #[test]
    fn a_banned_package_and_a_second_version_fail() {
        assert_eq!(count(&[package("openssl", Some("MIT"))]), 1);
        let second = Package { version: "2.0.0".into(), ..package("hpke", Some("MIT")) };
        assert_eq!(count(&[package("hpke", Some("MIT"))]), 0);
        assert_eq!(count(&[package("hpke", Some("MIT")), second]), 2);
    }

    #[test]
    fn only_the_known_registry_is_a_source() {
        for source in [None, Some("git+https://example.org/a"), Some("registry+https://example.org/index")] {
            let package = Package { source: source.map(Into::into), ..package("a", Some("MIT")) };
            assert_eq!(count(&[package]), 1, "{source:?}");
        }
    }

    #[test]
    fn we_name_the_versions_we_want() {
        let asks = |path: Option<&str>| Package {
            source: None,
            manifest_path: "/mica/dap/Cargo.toml".into(),
            dependencies: vec![Dependency { name: "b".into(), req: "*".into(), path: path.map(Into::into) }],
            ..package("a", Some("MPL-2.0"))
        };
        assert_eq!(count(&[asks(Some("/mica/b"))]), 0);
        assert_eq!(count(&[asks(None)]), 1);
    }
}
