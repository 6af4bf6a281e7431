//! Which peers did not accept us, kept from the moment the alert is read until somebody asks what went wrong: in TLS 1.3
//! that is after the handshake, and an HTTP client may have forgotten by then why its connection broke.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// By host and port as they were asked. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(Arc<Mutex<HashMap<String, String>>>);

impl Refusals {
    pub(crate) fn note(&self, host: &str, why: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), why);
    }

    pub(crate) fn take(&self, host: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(host)
    }
}
