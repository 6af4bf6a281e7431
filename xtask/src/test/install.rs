//! Where PostgreSQL's programs are, and how they come onto a machine that has none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::process;

/// Debian keeps the server programs here, one folder per version, and not on `PATH`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// While this file exists, installing the package makes no cluster and starts no server.
const NO_SYSTEM_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/mica-xtask.conf";

/// The folder with `initdb` and `postgres`, after an installation if need be.
pub(crate) fn find_or_install() -> Result<PathBuf> {
    if let Some(folder) = find() {
        return Ok(folder);
    }
    if !geteuid().is_root() || !process::on_path("apt-get") {
        bail!(
            "PostgreSQL's server programs (initdb, postgres) are neither on PATH nor under {DEBIAN}; install them \
             (Debian and Ubuntu: `apt-get install postgresql`) and run this again, or leave those tests out with \
             `cargo xtask test --sqlite-only`"
        );
    }
    install()?;
    find().context("the package postgresql is installed, but has brought no initdb")
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|folder| is_complete(folder)).or_else(|| newest(Path::new(DEBIAN)))
}

/// The `bin` folder of the newest version below `root` that has a server.
fn newest(root: &Path) -> Option<PathBuf> {
    fs::read_dir(root)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse::<u32>().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| is_complete(folder))
        .max()
        .map(|(_, folder)| folder)
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
}

fn install() -> Result<()> {
    eprintln!("== no PostgreSQL here: installing the package postgresql");
    let file = Path::new(NO_SYSTEM_CLUSTER);
    let folder = file.parent().expect("the path has a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(file, "create_main_cluster = false\n"))
        .with_context(|| format!("cannot write {NO_SYSTEM_CLUSTER}"))?;
    let installed =
        apt(&["update"]).and_then(|()| apt(&["install", "-y", "--no-install-recommends", "postgresql"]));
    fs::remove_file(file).with_context(|| format!("cannot remove {NO_SYSTEM_CLUSTER}"))?;
    installed
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.arg("-q").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    if !process::run(&mut command)?.success() {
        bail!(
            "`apt-get {}` failed; install PostgreSQL's server programs by hand and run this again",
            arguments.join(" ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_has_a_server_is_taken() {
        let root = tempfile::tempdir().unwrap();
        for (version, programs) in
            [("9", &["initdb", "postgres"][..]), ("15", &["initdb", "postgres"]), ("17", &["psql"])]
        {
            let folder = root.path().join(version).join("bin");
            fs::create_dir_all(&folder).unwrap();
            for program in programs {
                fs::write(folder.join(program), "").unwrap();
            }
        }
        assert_eq!(newest(root.path()), Some(root.path().join("15/bin")));
    }

    #[test]
    fn a_machine_without_versions_has_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(newest(root.path()), None);
        assert_eq!(newest(&root.path().join("missing")), None);
    }
}
