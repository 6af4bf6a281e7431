//! Files that a command reads and writes: what is secret is written for its owner's eyes only, and nothing
//! is ever written over.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use mica_dp::Policy;

use crate::exit::Failure;

/// Writes a new file that nobody but its owner may read.
///
/// # Errors
/// When there is such a file already, or it cannot be written.
pub(crate) fn create_private(path: &Path, content: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|error| {
        let path = path.display();
        match error.kind() {
            ErrorKind::AlreadyExists => {
                Failure::invalid(format!("{path} exists already; choose another folder or remove it"))
            }
            _ => Failure::invalid(format!("cannot write {path}: {error}")),
        }
    })
}

/// The text of a file; `what` says in the message what it should be.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path, what: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::invalid(format!("cannot read the {what} {}: {error}", path.display())))
}

/// The policy in a file.
///
/// # Errors
/// All findings, one line each.
pub(crate) fn policy(path: &Path) -> Result<Policy, Failure> {
    let text = read(path, "policy")?;
    Ok(Policy::parse(&path.display().to_string(), &text)?)
}
