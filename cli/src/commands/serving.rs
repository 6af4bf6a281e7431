//! An aggregator that is ready to serve, with what runs beside it: the operator's address, and the policy that is read
//! again. It runs alone, or a leader in the process of a gateway.

use std::fs::File;

use mica_aggregator::aggregator::Options;
use mica_aggregator::auth::TokenHash;
use mica_aggregator::{Aggregator, Role};
use mica_gateway::{Mounted, Place};
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::listener::{self, Limits};
use mica_service::shutdown::Shutdown;
use mica_service::store::Store;
use mica_service::telemetry;
use mica_service::tls::Acceptor;
use tokio::net::TcpListener;

use super::aggregator::Parts;
use super::{reload, server, warnings};
use crate::exit::Failure;

/// A leader or a helper whose database is open and whose listeners are bound.
pub(super) struct Serving {
    aggregator: Aggregator,
    listener: TcpListener,
    limits: Limits,
    admin: Option<(TcpListener, TokenHash, Option<Acceptor>)>,
    policy_file: reload::PolicyFile,
    /// Held while the file of SQLite is used.
    _alone: Option<File>,
}

impl Serving {
    /// Opens the database and checks the tasks; nothing is answered yet.
    pub(super) async fn prepare(
        role: Role,
        parts: Parts,
        listener: TcpListener,
        compute: ComputePool,
    ) -> Result<Self, Failure> {
        let Parts { config, policy, tasks, tls, peers, admin, taskprov, high_water_mark } = parts;
        let admin = match admin {
            Some(admin) => Some((listener::bind(admin.address).await?, admin.token, admin.tls)),
            None => None,
        };
        warnings::log(&warnings::of_aggregator(&config));
        let (schedule, limits) = (config.hpke_keys.clone(), config.limits().listener());
        let policy_file =
            reload::PolicyFile { path: config.policy.clone(), allowed: config.policy_allow.clone() };
        // Before the database is opened: a newer version would change its tables under the one that runs. And before the
        // leases of others are taken for those of the dead.
        let alone = server::alone(&config.database)?;
        let store = Store::open(&config.database, mica_aggregator::store::migrator()).await?;
        let options = Options {
            role,
            store,
            clock: Clock::system(),
            compute,
            http: HttpClient::new(HttpOptions { peers, ..HttpOptions::default() }),
            policy,
            tasks,
            limits: config.limits(),
        };
        let tasks = options.tasks.len();
        let aggregator = Aggregator::build_with_keys(options, schedule).await?;
        let aggregator = aggregator.with_tls(tls).with_taskprov(taskprov);
        let aggregator = aggregator.with_high_water_mark(&high_water_mark).await?;
        if config.mark_is_beside_database() {
            tracing::warn!(
                "the mark of the ledger is beside its database: if both are restored together, nothing is noticed; \
                 name [ledger] high_water_mark on another disk"
            );
        }
        tracing::info!(tasks, "built");
        Ok(Self { aggregator, listener, limits, admin, policy_file, _alone: alone })
    }

    /// Has a gateway in the same process hand over to this leader what goes to one of `places`.
    pub(super) fn mount(&self, at: Mounted, places: Vec<Place>) -> Mounted {
        places.into_iter().fold(at, |mounted, place| mounted.at(place, self.aggregator.mounted()))
    }

    /// Serves until `shutdown`, and until nobody can hand it anything over any more.
    pub(super) async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        let admin = match self.admin {
            Some((listener, token, tls)) => {
                let router = self.aggregator.admin(token);
                tracing::info!(address = %listener.local_addr()?, "the operator's address is open");
                let serving = listener::serve_over(tls, listener, router, self.limits, shutdown.clone());
                Some(telemetry::spawn(serving))
            }
            None => None,
        };
        let (hangup, reload) = (reload::Hangup::new()?, self.aggregator.policy_reload());
        let following = telemetry::spawn(reload::follow(hangup, self.policy_file, reload, shutdown.clone()));
        tracing::info!(address = %self.listener.local_addr()?, "listening");
        self.aggregator.run(self.listener, shutdown).await;
        following.await.map_err(Failure::unexpected)?;
        if let Some(admin) = admin {
            admin.await.map_err(Failure::unexpected)?;
        }
        Ok(())
    }
}
