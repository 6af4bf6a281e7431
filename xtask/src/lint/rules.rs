//! `deny.toml`, as far as we use it.
//!
//! It is written for cargo-deny and read here too, so that the rules hold on a machine without that program. An
//! unknown key is refused: a rule that only one of the two readers applies would be worse than none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

const FILE: &str = "deny.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    pub(super) graph: Graph,
    pub(super) licenses: Licenses,
    pub(super) bans: Bans,
    pub(super) sources: Sources,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Graph {
    /// Only what is compiled for these counts.
    pub(super) targets: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Licenses {
    pub(super) allow: Vec<String>,
    #[serde(default)]
    pub(super) exceptions: Vec<Exception>,
    #[serde(default)]
    pub(super) clarify: Vec<Clarification>,
}

/// Licences that one package may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exception {
    #[serde(rename = "crate")]
    pub(super) package: String,
    pub(super) allow: Vec<String>,
}

/// The licence of a package that names a file instead of an expression.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Clarification {
    #[serde(rename = "crate")]
    pub(super) package: String,
    pub(super) expression: String,
    pub(super) license_files: Vec<LicenceFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LicenceFile {
    pub(super) path: String,
    /// cargo-deny's fingerprint: XXH32 of the text.
    pub(super) hash: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Bans {
    pub(super) multiple_versions: String,
    pub(super) wildcards: String,
    pub(super) allow_wildcard_paths: bool,
    pub(super) deny: Vec<Ban>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Ban {
    #[serde(rename = "crate")]
    pub(super) package: String,
    pub(super) reason: String,
    /// One version is welcome, a second is not.
    #[serde(default)]
    pub(super) deny_multiple_versions: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Sources {
    pub(super) unknown_registry: String,
    pub(super) unknown_git: String,
    pub(super) allow_registry: Vec<String>,
}

impl Rules {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
        Self::parse(&text).context(FILE)
    }

    fn parse(text: &str) -> Result<Self> {
        let rules: Self = toml::from_str(text)?;
        let levels = BTreeMap::from([
            ("bans.multiple-versions", (&rules.bans.multiple_versions, "allow")),
            ("bans.wildcards", (&rules.bans.wildcards, "deny")),
            ("sources.unknown-registry", (&rules.sources.unknown_registry, "deny")),
            ("sources.unknown-git", (&rules.sources.unknown_git, "deny")),
        ]);
        for (key, (given, known)) in levels {
            if given != known {
                bail!("{key} = \"{given}\": the check in xtask knows only \"{known}\"; teach it first");
            }
        }
        if !rules.bans.allow_wildcard_paths {
            bail!("bans.allow-wildcard-paths must be true: our own packages depend on each other by path");
        }
        Ok(rules)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small file with one rule of each kind.
    pub(in super::super) const EXAMPLE: &str = r#"
        [graph]
        targets = ["x86_64-unknown-linux-gnu"]
        [licenses]
        allow = ["MIT", "Apache-2.0", "Unicode-3.0"]
        exceptions = [{ crate = "prio", allow = ["MPL-2.0"] }]
        [[licenses.clarify]]
        crate = "opendp"
        expression = "MIT"
        license-files = [{ path = "LICENSE", hash = 0x1 }]
        [bans]
        multiple-versions = "allow"
        wildcards = "deny"
        allow-wildcard-paths = true
        deny = [
            { crate = "openssl", reason = "one TLS stack" },
            { crate = "hpke", deny-multiple-versions = true, reason = "one is enough" },
        ]
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
        allow-registry = ["https://github.com/rust-lang/crates.io-index"]
    "#;

    pub(in super::super) fn example() -> Rules {
        Rules::parse(EXAMPLE).unwrap()
    }

    #[test]
    fn the_committed_file_is_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Rules::read(root).unwrap();
    }

    #[test]
    fn a_key_that_is_not_applied_here_is_refused() {
        let unknown = EXAMPLE.replace("wildcards = \"deny\"", "wildcards = \"deny\"\nhighlight = \"all\"");
        assert!(Rules::parse(&unknown).is_err());
        let unknown = EXAMPLE.replace("unknown-git = \"deny\"", "unknown-git = \"warn\"");
        assert!(Rules::parse(&unknown).is_err());
    }
}
