//! Where the program under test is: named by `MICA_BIN`, or built once, as the tests themselves were built.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `mica` program.
pub fn mica() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| env::var_os("MICA_BIN").map_or_else(build, PathBuf::from))
}

/// Builds it with the profile and into the target folder of this test program, which lies in `TARGET/PROFILE/deps`.
fn build() -> PathBuf {
    let tests = env::current_exe().expect("a running program knows its file");
    let folder = tests.parent().and_then(Path::parent).expect("tests lie in TARGET/PROFILE/deps");
    let target = folder.parent().expect("tests lie in TARGET/PROFILE/deps");
    let profile = folder.file_name().filter(|name| *name != "debug").unwrap_or(OsStr::new("dev"));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo.args(["build", "--quiet", "--package", "mica-cli", "--bin", "mica", "--profile"]);
    cargo.arg(profile).arg("--target-dir").arg(target);
    // What cargo tells the tests about their own package is not true of the program.
    for (name, _) in env::vars_os() {
        let of_tests = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if of_tests {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "the program under test does not build");
    folder.join("mica")
}
