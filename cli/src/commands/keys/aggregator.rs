//! The HPKE keys of a leader or a helper.

use mica_aggregator::Config;
use mica_aggregator::hpke_keys::{self, KeyFacts, RotateError};
use mica_dap::hpke::Suite;
use mica_service::clock::Clock;
use mica_service::config::Loaded;
use mica_service::store::Store;

use super::{Shown, UNKNOWN};
use crate::commands::server;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

pub(super) async fn list(settings: &Settings) -> Result<Vec<Shown>, Failure> {
    let (config, store) = open(settings).await?;
    let keys = hpke_keys::list(&store, &config.hpke_keys).await?;
    store.close().await;
    Ok(keys.iter().map(shown).collect())
}

pub(super) async fn rotate(settings: &Settings, suites: &[Suite]) -> Result<Vec<Shown>, Failure> {
    let (config, store) = open(settings).await?;
    let made = hpke_keys::rotate(&store, &config.hpke_keys, suites, Clock::system().now()).await;
    store.close().await;
    Ok(made?.iter().map(shown).collect())
}

impl From<RotateError> for Failure {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Store(error) => error.into(),
            RotateError::NoIdentifier => Self::new(Exit::NotReady, error),
            RotateError::OtherSuite(_) => Self::usage(error),
        }
    }
}

async fn open(settings: &Settings) -> Result<(Config, Store), Failure> {
    let Loaded { config, provenance } = settings.load::<Config>()?;
    let config = config.relative_to(settings.folder());
    server::check_database(settings, &provenance, &config.database)?;
    let store = Store::open(&config.database, mica_aggregator::store::migrator()).await?;
    Ok((config, store))
}

fn shown(key: &KeyFacts) -> Shown {
    let kind = key.suite.map_or(UNKNOWN, Suite::name);
    Shown { id: key.config_id, kind, life: key.life, until: key.until }
}
