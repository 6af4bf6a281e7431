//! Files that a command reads and writes: what is secret is written for its owner's eyes only, and nothing
//! is ever written over.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use mica_diagnostic::Diagnostic;
use mica_dp::Policy;
use mica_service::clock::Clock;

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

/// The policy of a server: one that is over is refused, and so is every warning that its operator has not allowed.
///
/// # Errors
/// All findings, one line each.
pub(crate) fn policy_to_serve(path: &Path, allowed: &[String]) -> Result<Policy, Failure> {
    let policy = policy(path)?;
    let mut findings = policy.check_time(Clock::system().now());
    for warning in policy.warnings().iter().filter(|it| !allowed.contains(&it.code)) {
        let code = &warning.code;
        let fix =
            format!("{}; where it is meant, add {code} to policy_allow in the configuration", warning.fix);
        findings.push(Diagnostic { fix, ..warning.clone() });
    }
    if findings.is_empty() { Ok(policy.allowing(allowed)) } else { Err(findings.into()) }
}
