//! What can change while the relay runs: how it mixes, whom it serves and how often, what it shows to the gateway.
//!
//! A changed configuration is taken up whole or not at all, and no request is lost over it. It must never be logged: it
//! has tokens in it.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use http::HeaderValue;
use mica_service::http::HttpClient;
use mica_service::operators;
use mica_service::room::Room;
use mica_service::token;
use thiserror::Error;

use crate::BuildError;
use crate::bounds;
use crate::clients::{Credentials, Door, Rules};
use crate::config::Config;
use crate::counters::Counters;
use crate::pool::{Mixing, Pool};

/// Changes how a relay works. Clones are for the same relay.
#[derive(Clone)]
pub struct Reload {
    pool: Arc<Pool>,
    door: Arc<Door>,
    token: Arc<RwLock<Option<HeaderValue>>>,
    in_force: Arc<Mutex<Config>>,
}

/// A configuration that is not taken up. The one before stays in force, all of it.
#[derive(Debug, Error)]
pub enum Kept {
    /// Something changed that is fixed when the relay starts.
    #[error("`{0}` cannot change while the relay runs; stop it and start it again")]
    Fixed(&'static str),
    /// A relay could not start with it either.
    #[error(transparent)]
    Invalid(#[from] BuildError),
}

/// The part of a configuration that can change, read and checked.
pub(crate) struct Settings {
    mixing: Option<Mixing>,
    rules: Rules,
    token: Option<HeaderValue>,
}

impl Settings {
    /// Reads the files that `config` names.
    pub(crate) fn read(config: &Config) -> Result<Self, BuildError> {
        let check = |mixing: Mixing| mixing.checked(config.timeout, config.max_buffered_bytes);
        let mixing = config.mixing.map(check).transpose()?;
        let asks = config.tls.as_ref().is_some_and(|tls| tls.client_roots.is_some());
        let credentials =
            config.clients.as_ref().map(|clients| Credentials::load(clients, asks)).transpose()?;
        let limit = config.rate_limit.map(|limit| limit.checked(credentials.is_some())).transpose()?;
        let token = config.gateway_token_file.as_deref().map(token::authorization).transpose();
        let token = token.map_err(|what| ("gateway_token_file", what))?;
        if !config.insecure_one_operator {
            let others = [
                ("gateway_operator", "gateway", config.gateway_operator.as_deref()),
                ("leader_operator", "leader", config.leader_operator.as_deref()),
            ];
            for (key, role, theirs) in others {
                let ours = config
                    .operator
                    .as_deref()
                    .filter(|ours| theirs.is_some_and(|theirs| operators::is_same(ours, theirs)));
                if let Some(ours) = ours {
                    return Err((key, operators::refusal(ours, "relay", role)).into());
                }
            }
        }
        Ok(Self { mixing, rules: Rules::new(credentials, limit), token })
    }
}

impl Reload {
    /// For a relay that starts.
    pub(crate) fn new(
        config: Config,
        settings: Settings,
        gateway: HttpClient,
        room: &Arc<Room>,
        counters: &Counters,
    ) -> Self {
        let Settings { mixing, rules, token } = settings;
        Self {
            pool: Arc::new(Pool::new(mixing, gateway, Arc::clone(room), counters.clone())),
            door: Arc::new(Door::new(rules)),
            token: Arc::new(RwLock::new(token)),
            in_force: Arc::new(Mutex::new(config)),
        }
    }

    /// Works by this configuration from now on, or goes on by the one before.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn adopt(&self, config: Config) -> Result<(), Kept> {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        // What a start refuses is not taken up later either.
        bounds::check(&config).map_err(BuildError::from)?;
        if let Some(key) = in_force.fixed_difference(&config) {
            return Err(Kept::Fixed(key));
        }
        let Settings { mixing, rules, token } = Settings::read(&config)?;
        self.door.adopt(rules);
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
        let mixes_otherwise = self.pool.adopt(mixing);
        *in_force = config;
        drop(in_force);
        if mixes_otherwise {
            self.announce();
        }
        Ok(())
    }

    /// Says in the log whether requests are mixed, and how.
    pub(crate) fn announce(&self) {
        self.pool.announce();
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(what) = in_force.unsaid_operators() {
            tracing::warn!("{what}");
        }
        if in_force.mixing.is_some() && in_force.rate_limit.is_none() {
            tracing::warn!(
                "requests are mixed and nobody's are limited: add [rate_limit], so that pools are dear to fill"
            );
        }
    }

    pub(crate) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
    }

    pub(crate) fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door)
    }

    pub(crate) fn token(&self) -> Arc<RwLock<Option<HeaderValue>>> {
        Arc::clone(&self.token)
    }
}

impl Config {
    /// What to warn of as long as nobody has said who runs relay and gateway.
    #[must_use]
    pub fn unsaid_operators(&self) -> Option<String> {
        let keys =
            [("operator", self.operator.is_some()), ("gateway_operator", self.gateway_operator.is_some())];
        if self.insecure_one_operator { None } else { operators::unsaid(&keys) }
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn a_relay_of_which_nobody_says_who_runs_it_warns_unless_it_is_a_trial() {
        let mut config = Config::new("127.0.0.1:0", "http://127.0.0.1:1/");
        let unsaid = config.unsaid_operators();
        assert!(unsaid.is_some_and(|what| what.ends_with("write operator and gateway_operator")));
        config.insecure_one_operator = true;
        assert_eq!(config.unsaid_operators(), None);
        config.insecure_one_operator = false;
        (config.operator, config.gateway_operator) = (Some("one".to_owned()), Some("another".to_owned()));
        assert_eq!(config.unsaid_operators(), None);
    }
}
