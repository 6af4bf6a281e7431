//! Configuration: one TOML file per process, overridden by the environment, overridden by flags.
//!
//! A key that nobody knows is an error with its place in the file and a guess at what was meant. Every
//! value can say where it came from. Secrets belong in files or in the environment, never in flags, which
//! every user of a machine can read.

pub mod bounds;
mod duration;
mod merge;
mod origin;

use std::path::Path;

use mica_diagnostic::{Diagnostic, parse_toml};
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use self::duration::{duration, parse_duration};
pub use self::origin::{Origin, Provenance};

/// A configuration, and where each of its values came from. A key that is not in `provenance` has its
/// default.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// What the process works with.
    pub config: T,
    /// The origin of each key that was given.
    pub provenance: Provenance,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read: one sentence.
    #[error("{0}")]
    Unreadable(String),
    /// The file is wrong, at this place.
    #[error("{0}")]
    Invalid(Box<Diagnostic>),
    /// A variable of the environment or a flag is wrong.
    #[error("{origin}: {what}; {fix}")]
    Override {
        /// Which one.
        origin: Origin,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        fix: String,
    },
}

/// Reads the file at `path`, and `MICA_<ROLE>__<KEY>` from the environment of the process over it.
pub fn load<T: DeserializeOwned>(path: &Path, role: &str) -> Result<Loaded<T>, ConfigError> {
    Sources::file(path)?.environment(role, std::env::vars_os()).load()
}

/// What a configuration is made of; the later wins.
#[derive(Debug, Clone)]
pub struct Sources {
    file: String,
    text: String,
    overrides: Vec<Override>,
}

#[derive(Debug, Clone)]
struct Override {
    path: Vec<String>,
    value: String,
    origin: Origin,
}

impl Sources {
    /// Begins with the file at `path`.
    pub fn file(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError::Unreadable(format!("cannot read the configuration {file}: {error}"))
        })?;
        Ok(Self::text(file, text))
    }

    /// Begins with a text; `file` is what messages call it.
    pub fn text(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self { file: file.into(), text: text.into(), overrides: Vec::new() }
    }

    /// Adds the variables that belong to `role`: `MICA_LEADER__DATABASE__URL` is `url` in `[database]` of
    /// the leader. A value is read as TOML where the key wants a number, a boolean or a list, else as text.
    #[must_use]
    pub fn environment<K, V>(mut self, role: &str, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<std::ffi::OsString>,
        V: Into<std::ffi::OsString>,
    {
        let prefix = format!("MICA_{}__", role.to_ascii_uppercase());
        let mut found: Vec<Override> = variables
            .into_iter()
            .filter_map(|(name, value)| {
                Some((name.into().into_string().ok()?, value.into().into_string().ok()?))
            })
            .filter_map(|(name, value)| {
                let key = name.strip_prefix(&prefix)?.to_ascii_lowercase();
                let path = key.split("__").map(str::to_owned).collect();
                Some(Override { path, value, origin: Origin::Environment(name) })
            })
            .collect();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        self.overrides.extend(found);
        self
    }

    /// Adds a flag of the command line: `key` is the dotted path in the file.
    #[must_use]
    pub fn flag(mut self, flag: &str, key: &str, value: impl Into<String>) -> Self {
        let path = key.split('.').map(str::to_owned).collect();
        self.overrides.push(Override { path, value: value.into(), origin: Origin::Flag(flag.to_owned()) });
        self
    }

    /// Puts everything together.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Loaded<T>, ConfigError> {
        let config = if self.overrides.is_empty() {
            parse_toml(&self.file, &self.text, CODE).map_err(ConfigError::Invalid)?
        } else {
            self.merged()?
        };
        Ok(Loaded { config, provenance: self.provenance() })
    }
}

/// The code of findings in configuration files.
const CODE: &str = "C001";

#[cfg(test)]
mod tests;
