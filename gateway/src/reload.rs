//! What can change while a gateway runs: where inner requests may go, and for which relays it works.
//!
//! A changed configuration is taken up whole or not at all; a request that was begun ends by the one before.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use mica_service::operators;
use mica_service::tls::Peers;
use thiserror::Error;

use crate::bounds;
use crate::config::Config;
use crate::relays::{RelayError, Relays};
use crate::route::{RouteError, RouteTable};

/// Something that can be exchanged while others look at it.
pub(crate) struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    pub(crate) fn new(first: T) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(first))))
    }

    /// What it is at this moment.
    pub(crate) fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, next: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

/// Changes how a gateway works. Clones are for the same gateway.
#[derive(Clone)]
pub struct Reload {
    pub(crate) routes: Arc<Live<RouteTable>>,
    pub(crate) relays: Arc<Live<Relays>>,
    pub(crate) peers: Peers,
    pub(crate) in_force: Arc<Mutex<Config>>,
}

/// A configuration that is not taken up. The one before stays in force, all of it.
#[derive(Debug, Error)]
pub enum Kept {
    /// Something changed that is fixed when the gateway starts.
    #[error("{0} cannot change while the gateway runs; stop it and start it again")]
    Fixed(&'static str),
    /// A gateway could not start with it either: the key, and a sentence.
    #[error("{0}: {1}")]
    Value(&'static str, String),
    /// A route of the table makes no sense.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A relay of the list makes no sense.
    #[error(transparent)]
    Relay(#[from] RelayError),
}

impl Reload {
    /// Says in the log what nobody has said of who runs what.
    pub(crate) fn announce(&self) {
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(what) = in_force.unsaid_operators() {
            tracing::warn!("{what}");
        }
    }

    /// Works by this configuration from now on, or goes on by the one before.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn adopt(&self, config: Config) -> Result<(), Kept> {
        // What no gateway could start with need not be told to wait for a start.
        bounds::check_all(&config).map_err(|(key, what)| Kept::Value(key, what))?;
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = in_force.fixed_difference(&config) {
            return Err(Kept::Fixed(key));
        }
        let (routes, relays) = (RouteTable::of(&config, &self.peers)?, Relays::load(&config)?);
        self.routes.replace(routes);
        self.relays.replace(relays);
        *in_force = config;
        drop(in_force);
        self.announce();
        Ok(())
    }
}

impl Config {
    /// What to warn of as long as nobody has said who runs relay and gateway.
    #[must_use]
    pub fn unsaid_operators(&self) -> Option<String> {
        let relays = !self.relays.is_empty() && self.relays.iter().all(|relay| relay.operator.is_some());
        let keys = [("operator", self.operator.is_some()), ("[[relays]] with the operator of each", relays)];
        if self.insecure_one_operator { None } else { operators::unsaid(&keys) }
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn a_gateway_of_which_nobody_says_who_runs_it_warns_unless_it_is_a_trial() {
        let read = |text: &str| {
            let text = format!("listen = \"127.0.0.1:0\"\ndatabase = \"sqlite:x\"\n{text}");
            toml::from_str::<Config>(&text).expect("a configuration")
        };
        let warning = read("").unsaid_operators().expect("nothing is said");
        assert!(warning.ends_with("write operator and [[relays]] with the operator of each"), "{warning}");
        assert_eq!(read("insecure_one_operator = true").unsaid_operators(), None);
        let relay = "operator = \"one\"\n[[relays]]\nname = \"r\"\ntoken_file = \"t\"\n";
        assert!(read(relay).unsaid_operators().is_some_and(|what| !what.contains("write operator")));
        assert_eq!(read(&format!("{relay}operator = \"another\"\n")).unsaid_operators(), None);
    }
}
