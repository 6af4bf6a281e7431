//! What can be wrong with the files of TLS.

use thiserror::Error;

/// A file that does not do. Holds no key material.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key}: {what}; {fix}")]
pub struct TlsError {
    /// The key of the configuration that names the file, such as `tls.certificate`.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl TlsError {
    pub(crate) fn new(key: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { key: key.to_owned(), what: what.into(), fix: fix.into() }
    }
}
