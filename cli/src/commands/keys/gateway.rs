//! The keys of a gateway.

use mica_envelope::Kem;
use mica_gateway::keys::{self, KeyFacts, RotateError, Schedule};
use mica_gateway::{Config, MIGRATOR};
use mica_service::clock::Clock;
use mica_service::config::Loaded;
use mica_service::store::Store;

use super::{Shown, UNKNOWN};
use crate::commands::server;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

pub(super) async fn list(settings: &Settings) -> Result<Vec<Shown>, Failure> {
    let (schedule, store) = open(settings).await?;
    let keys = keys::list(&store, &schedule).await?;
    store.close().await;
    Ok(keys.iter().map(shown).collect())
}

pub(super) async fn rotate(settings: &Settings, kems: &[Kem]) -> Result<Vec<Shown>, Failure> {
    let (schedule, store) = open(settings).await?;
    let made = keys::rotate(&store, &schedule, kems, Clock::system().now()).await;
    store.close().await;
    Ok(made?.iter().map(shown).collect())
}

impl From<RotateError> for Failure {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Store(error) => error.into(),
            RotateError::NoIdentifier | RotateError::StillAccepted { .. } => Self::new(Exit::NotReady, error),
            RotateError::OtherKem(_) => Self::usage(error),
        }
    }
}

async fn open(settings: &Settings) -> Result<(Schedule, Store), Failure> {
    let Loaded { config, provenance } = settings.load::<Config>()?;
    let schedule = config.schedule().map_err(|why| {
        let (key, what) = why.split_once(": ").unwrap_or(("keys", &why));
        settings.wrong(&provenance, key, what, "correct this value")
    })?;
    let database = server::database_relative_to(settings, config.database);
    server::check_database(settings, &provenance, &database)?;
    Ok((schedule, Store::open(&database, &MIGRATOR).await?))
}

fn shown(key: &KeyFacts) -> Shown {
    Shown { id: key.key_id, kind: key.kem.map_or(UNKNOWN, Kem::name), life: key.life, until: key.until }
}
