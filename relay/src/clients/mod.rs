//! Who may use this relay, and how much.
//!
//! In the journey of a report this is the doorman of the relay. Both questions are answered here and leave no trace: nothing
//! about a client, its token or its limit is logged or sent on, so the gateway cannot tell a relay that asks them from one
//! that does not. What is kept of a client is a hash under a key that dies with the process.

mod credentials;
mod limiter;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{Extensions, HeaderMap};
use mica_service::listener::Caller;

pub use self::credentials::ClientsConfig;
pub(crate) use self::credentials::Credentials;
use self::limiter::Limiter;
pub use self::limiter::{LimitBy, RateLimit};
use crate::counters::Outcome;
use crate::refusal::Refusal;

/// Who sent a request, as far as it matters who else waits with it: an address and a credential, each as a hash that is
/// forgotten with the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sender {
    pub(crate) address: Option<u64>,
    pub(crate) credential: Option<u64>,
}

/// The rules in force. They can change while requests come.
pub(crate) struct Door(RwLock<Arc<Rules>>);

/// Who is let in, and how often.
pub(crate) struct Rules {
    pub(crate) credentials: Option<Credentials>,
    limit: Option<(RateLimit, Arc<Limiter>)>,
}

impl Rules {
    pub(crate) fn new(credentials: Option<Credentials>, limit: Option<RateLimit>) -> Self {
        Self { credentials, limit: limit.map(|limit| (limit, Arc::new(Limiter::new(limit)))) }
    }

    fn admit(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Sender, Refusal> {
        let caller = extensions.get::<Caller>().copied().map(Caller::hash);
        if let Some((RateLimit { by: LimitBy::Address, .. }, limiter)) = &self.limit {
            ask(limiter, caller)?;
        }
        let Some(credentials) = &self.credentials else {
            return Ok(Sender { address: caller, credential: None });
        };
        let credential = credentials.admit(headers, extensions).ok_or(Refusal::of(Outcome::Stranger))?;
        let credential = Some(credential);
        if let Some((RateLimit { by: LimitBy::Credential, .. }, limiter)) = &self.limit {
            ask(limiter, credential)?;
            // Whoever runs the relay says that a credential is a client, wherever it comes from.
            return Ok(Sender { address: None, credential });
        }
        Ok(Sender { address: caller, credential })
    }
}

fn ask(limiter: &Limiter, client: Option<u64>) -> Result<(), Refusal> {
    let Some(client) = client else { return Ok(()) };
    limiter
        .take(client)
        .map_err(|wait| Refusal { outcome: Outcome::Limited, retry_after: Some(seconds(wait)) })
}

/// Whole seconds, the last of them begun.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl Door {
    pub(crate) fn new(rules: Rules) -> Self {
        Self(RwLock::new(Arc::new(rules)))
    }

    /// Lets a request in, or says why not. Nothing of its body has been read.
    pub(crate) fn admit(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Sender, Refusal> {
        let rules = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        rules.admit(headers, extensions)
    }

    /// Other rules from now on. Whoever was limited under the same limit stays so.
    pub(crate) fn adopt(&self, mut rules: Rules) {
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let (Some((limit, limiter)), Some((old, kept))) = (&mut rules.limit, &now.limit)
            && limit == old
        {
            *limiter = Arc::clone(kept);
        }
        *now = Arc::new(rules);
    }
}
