//! What is wrong in a file a person wrote, where, and what to do about it.
//!
//! Policy files and configuration files are read by different crates and refused in one voice:
//! `file:line:col: code: what is wrong; what to do`. The text is for people, the code for scripts.
//!
//! Nothing here reads a file or knows what a file means; it never sees a report or a key, and it
//! quotes names of keys, never values of secrets.

mod position;
mod toml_error;

use std::fmt;

pub use position::{Lines, locate, suggest};
pub use toml_error::{from_toml, from_toml_as, parse_toml};

/// One finding in one file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// The file as the user named it.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub col: usize,
    /// A short stable code such as `E001`.
    pub code: String,
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is of no use until this is corrected.
    Error,
    /// The file can be used by somebody who has read this and means it.
    Warning,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, col, code, what, fix, .. } = self;
        write!(f, "{file}:{line}:{col}: {code}: {what}; {fix}")
    }
}

impl std::error::Error for Diagnostic {}
