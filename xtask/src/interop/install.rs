//! Fetches a peer from where its makers published it, in the version that is pinned, and builds it below the target folder.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Peer;
use crate::process;

/// Where a peer comes from.
pub(super) enum Source {
    /// A program that cargo installs, by this name.
    Binary(&'static str),
    /// A library that a program of ours uses, in this folder of `xtask/interop`.
    Program(&'static str),
    /// The same for Node.
    Node(&'static str),
}

/// Fetches and builds `peer` and gives the path of what is to be run.
pub(super) fn install(root: &Path, target: &Path, peer: &Peer) -> Result<PathBuf> {
    let below = target.join("interop");
    let build = below.join("build");
    match peer.source {
        Source::Binary(name) => {
            let installed = below.join("installed").join(name);
            let mut install = process::cargo(root, "install");
            install.args(["--locked", "--debug", "--quiet", &format!("{name}@{}", peer.version)]);
            install.arg("--root").arg(&installed).arg("--target-dir").arg(&build);
            succeed(&mut install)?;
            Ok(installed.join("bin").join(name))
        }
        Source::Program(name) => {
            let copy = copy(root, &below, name)?;
            let mut command = process::cargo(root, "build");
            command.arg("--quiet").arg("--manifest-path").arg(copy.join("Cargo.toml"));
            command.arg("--target-dir").arg(&build);
            succeed(&mut command)?;
            Ok(build.join("debug").join(format!("mica-interop-{name}")))
        }
        Source::Node(name) => {
            let copy = copy(root, &below, name)?;
            let mut install = Command::new("npm");
            install.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]);
            succeed(install.args(["--loglevel", "error"]).current_dir(&copy))?;
            Ok(copy.join("client.mjs"))
        }
    }
}

/// A program that cargo installs, built as its makers would ship it: for whoever measures it.
pub(super) fn shipped(root: &Path, target: &Path, peer: &Peer) -> Result<PathBuf> {
    let Source::Binary(name) = peer.source else { bail!("{} is no program of its own", peer.name) };
    let below = target.join("interop");
    let installed = below.join("shipped").join(name);
    let mut install = process::cargo(root, "install");
    install.args(["--locked", "--quiet", &format!("{name}@{}", peer.version)]);
    succeed(install.arg("--root").arg(&installed).arg("--target-dir").arg(below.join("build")))?;
    Ok(installed.join("bin").join(name))
}

/// Says what is being done, to people only.
pub(super) fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("== {what}");
    }
}

/// A copy of one of our programs, so that what is built and locked there leaves the tree as it is.
fn copy(root: &Path, below: &Path, name: &str) -> Result<PathBuf> {
    let to = below.join("programs").join(name);
    copy_folder(&root.join("xtask/interop").join(name), &to)?;
    Ok(to)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &copy)?;
        } else if fs::read(&source).ok() != fs::read(&copy).ok() {
            // What is the same keeps its time, so that nothing is built twice.
            fs::copy(&source, &copy).with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}

/// Runs it to its end.
fn succeed(command: &mut Command) -> Result<()> {
    // Nobody looks into these with a debugger, and none is built often.
    command.env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
    let status = process::run_aside(command)?;
    if !status.success() {
        let name = command.get_program().to_string_lossy().into_owned();
        bail!("{name} ended with {status}; what it said is on standard error");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_copied_whole_and_only_what_changed() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir_all(from.join("src")).unwrap();
        fs::write(from.join("Cargo.toml"), "manifest").unwrap();
        fs::write(from.join("src/main.rs"), "first").unwrap();
        copy_folder(&from, &to).unwrap();
        let manifest = fs::metadata(to.join("Cargo.toml")).unwrap().modified().unwrap();
        fs::write(to.join("Cargo.lock"), "kept").unwrap();
        fs::write(from.join("src/main.rs"), "second").unwrap();
        copy_folder(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("src/main.rs")).unwrap(), "second");
        assert_eq!(fs::read_to_string(to.join("Cargo.lock")).unwrap(), "kept");
        assert_eq!(fs::metadata(to.join("Cargo.toml")).unwrap().modified().unwrap(), manifest);
    }
}
