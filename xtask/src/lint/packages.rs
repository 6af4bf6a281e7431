//! The packages that our binaries are made of, as `cargo metadata` tells of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;

/// One package of the dependency graph.
#[derive(Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    /// `None` is a folder of this machine.
    pub(super) source: Option<String>,
    pub(super) manifest_path: PathBuf,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) targets: Vec<Target>,
}

/// A crate of a package.
#[derive(Deserialize)]
pub(super) struct Target {
    /// Its first file.
    pub(super) src_path: PathBuf,
}

/// What a package asks for.
#[derive(Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) req: String,
    pub(super) path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

impl Package {
    /// Whether this package lives in the workspace at `root`.
    pub(super) fn is_ours(&self, root: &Path) -> bool {
        self.source.is_none() && self.manifest_path.starts_with(root)
    }

    /// The folder of its files.
    pub(super) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }
}

/// Every package that is compiled for one of `targets`, in the versions of `Cargo.lock`.
pub(super) fn collect(root: &Path, targets: &[String]) -> Result<Vec<Package>> {
    let mut command = process::cargo(root, "metadata");
    command.args(["--format-version", "1", "--locked"]);
    for target in targets {
        command.args(["--filter-platform", target]);
    }
    ask(command)
}

/// The packages of the workspace.
pub(super) fn own(root: &Path) -> Result<Vec<Package>> {
    let mut command = process::cargo(root, "metadata");
    command.args(["--format-version", "1", "--locked", "--no-deps"]);
    ask(command)
}

fn ask(mut command: Command) -> Result<Vec<Package>> {
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata says")?;
    Ok(metadata.packages)
}
