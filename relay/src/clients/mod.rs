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
        let limiter =
            |by| self.limit.as_ref().filter(|(limit, _)| limit.by == by).map(|(_, limiter)| limiter);
        let by_address = limiter(LimitBy::Address);
        let credential = match &self.credentials {
            None => None,
            Some(credentials) => {
                let shown = credentials.admit(headers, extensions);
                if let (None, Some(limiter)) = (shown, by_address) {
                    // In a bucket of its own: strangers behind the same address must not use up that of clients.
                    ask(limiter, caller.map(|caller| !caller))?;
                }
                Some(shown.ok_or(Refusal::of(Outcome::Stranger))?)
            }
        };
        if let Some(limiter) = by_address {
            ask(limiter, caller)?;
        }
        if let Some(limiter) = limiter(LimitBy::Credential) {
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
        if let (Some(credentials), Some(old)) = (&mut rules.credentials, &now.credentials) {
            credentials.keep_key_of(old);
        }
        *now = Arc::new(rules);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use http::HeaderValue;
    use mica_service::listener::Callers;
    use mica_service::token::TokenHash;

    use super::*;

    struct World {
        _folder: tempfile::TempDir,
        config: ClientsConfig,
        limit: RateLimit,
        callers: Callers,
    }

    impl World {
        /// Two tokens are known, and each client may ask twice.
        fn new(by: LimitBy) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tokens");
            let hashes = ["one", "two"].map(|token| TokenHash::of(token.as_bytes()).to_hex());
            std::fs::write(&path, hashes.join("\n")).unwrap();
            let config = ClientsConfig { tokens_file: Some(path), certificates: false };
            let (requests, per) = (NonZeroU32::new(2).unwrap(), Duration::from_hours(1));
            let limit = RateLimit { requests, per, burst: None, by, ipv6_prefix: 64 };
            Self { _folder: folder, config, limit, callers: Callers::new(64) }
        }

        /// What is read of the configuration each time.
        fn rules(&self) -> Rules {
            Rules::new(Some(Credentials::load(&self.config, false).unwrap()), Some(self.limit))
        }

        /// What becomes of a request from there with this token.
        fn ask(&self, door: &Door, address: &str, token: &str) -> Result<Sender, Outcome> {
            let (mut headers, mut extensions) = (HeaderMap::new(), Extensions::new());
            headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
            extensions.insert(self.callers.of(address.parse().unwrap()));
            door.admit(&headers, &extensions).map_err(|refusal| refusal.outcome)
        }
    }

    #[test]
    fn a_configuration_that_is_read_again_forgets_nobody_who_is_limited() {
        for (by, elsewhere) in [(LimitBy::Address, "192.0.2.1"), (LimitBy::Credential, "192.0.2.7")] {
            let mut world = World::new(by);
            let door = Door::new(world.rules());
            let first = world.ask(&door, "192.0.2.1", "one").unwrap();
            assert!(world.ask(&door, "192.0.2.1", "one").is_ok());
            assert_eq!(world.ask(&door, elsewhere, "one"), Err(Outcome::Limited), "{by:?}");
            door.adopt(world.rules());
            assert_eq!(world.ask(&door, elsewhere, "one"), Err(Outcome::Limited), "{by:?}");
            assert!(world.ask(&door, "192.0.2.9", "two").is_ok(), "{by:?}: somebody else");
            world.limit.requests = NonZeroU32::new(3).unwrap();
            door.adopt(world.rules());
            assert_eq!(
                world.ask(&door, "192.0.2.1", "one"),
                Ok(first),
                "{by:?}: another limit, the same client"
            );
        }
    }

    #[test]
    fn strangers_behind_an_address_do_not_use_up_what_its_clients_may_ask() {
        let world = World::new(LimitBy::Address);
        let door = Door::new(world.rules());
        let stranger = || world.ask(&door, "192.0.2.1", "three");
        let told = [stranger(), stranger(), stranger()];
        assert_eq!(told, [Err(Outcome::Stranger), Err(Outcome::Stranger), Err(Outcome::Limited)]);
        assert!(world.ask(&door, "192.0.2.1", "one").is_ok() && world.ask(&door, "192.0.2.1", "two").is_ok());
        assert_eq!(world.ask(&door, "192.0.2.1", "two"), Err(Outcome::Limited));
    }

    #[test]
    fn who_waits_with_whom_is_told_by_address_and_credential_or_by_what_is_limited() {
        for (by, alike) in [(LimitBy::Address, false), (LimitBy::Credential, true)] {
            let world = World::new(by);
            let door = Door::new(world.rules());
            let one = world.ask(&door, "192.0.2.1", "one").unwrap();
            assert!(one != world.ask(&door, "192.0.2.1", "two").unwrap(), "{by:?}");
            assert_eq!(one == world.ask(&door, "192.0.2.2", "one").unwrap(), alike, "{by:?}");
        }
    }
}
