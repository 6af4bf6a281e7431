//! The databases of the roles: an SQLite file each, or a PostgreSQL database each on one server.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AssertSqlSafe, ConnectOptions as _, Row as _};

use crate::parties::Role;
use crate::procfs;

/// Where the roles keep things.
pub(crate) enum Databases {
    /// Files in this folder.
    Sqlite(PathBuf),
    /// Databases on a server of this machine.
    Postgres(Postgres),
}

/// A server, and the part of their names that the databases of this run share.
pub(crate) struct Postgres {
    url: String,
    prefix: String,
    postmaster: u32,
}

/// The roles that keep anything.
const KEEPERS: [Role; 3] = [Role::Leader, Role::Helper, Role::Gateway];

impl Databases {
    /// An empty database for each role.
    pub(crate) async fn create(server: Option<&str>, folder: PathBuf) -> Result<Self> {
        sqlx::any::install_default_drivers();
        match server {
            None => Ok(Self::Sqlite(folder)),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Self::Postgres(Postgres::create(url).await?))
            }
            Some(_) => bail!(
                "--database takes postgres://USER:PASSWORD@127.0.0.1:PORT/DATABASE; leave it out for SQLite"
            ),
        }
    }

    /// What it is, in words.
    pub(crate) async fn name(&self) -> Result<String> {
        let query = match self {
            Self::Sqlite(_) => "SELECT 'SQLite ' || sqlite_version()",
            Self::Postgres(_) => "SELECT 'PostgreSQL ' || current_setting('server_version')",
        };
        let mut connection = match self {
            Self::Sqlite(_) => connect("sqlite::memory:").await?,
            Self::Postgres(server) => connect(&server.url).await?,
        };
        let row =
            sqlx::query(query).fetch_one(&mut connection).await.context("the database does not answer")?;
        row.try_get(0).context("the database has no version")
    }

    /// The URL for the configuration of a role.
    pub(crate) fn url(&self, role: Role) -> String {
        match self {
            Self::Sqlite(folder) => {
                format!("sqlite:{}", folder.join(format!("{}.db", role.name())).display())
            }
            Self::Postgres(server) => server.url_of(role),
        }
    }

    /// CPU time of the database server; the time of an embedded database is that of its role.
    pub(crate) fn cpu_time(&self) -> Result<Option<Duration>> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres(server) => procfs::cpu_time_of_family(server.postmaster).map(Some),
        }
    }

    /// The position in the server's write-ahead log, in bytes.
    pub(crate) async fn log_position(&self) -> Result<Option<u64>> {
        let Self::Postgres(server) = self else { return Ok(None) };
        let query = "SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS BIGINT)";
        number(&mut connect(&server.url).await?, query).await.map(Some)
    }

    /// Bytes in use: pages that are not free, after the database has been given the chance to free them.
    pub(crate) async fn bytes(&self, role: Role) -> Result<u64> {
        match self {
            Self::Sqlite(folder) => {
                let path = folder.join(format!("{}.db", role.name()));
                let mut connection = connect(&format!("sqlite://{}?mode=ro", path.display())).await?;
                let pages = number(&mut connection, "PRAGMA page_count").await?;
                let free = number(&mut connection, "PRAGMA freelist_count").await?;
                let size = number(&mut connection, "PRAGMA page_size").await?;
                Ok(pages.saturating_sub(free) * size)
            }
            Self::Postgres(server) => {
                let mut connection = connect(&server.url_of(role)).await?;
                sqlx::query("VACUUM").execute(&mut connection).await.context("cannot vacuum")?;
                number(&mut connection, "SELECT pg_database_size(current_database())").await
            }
        }
    }

    /// Removes what [`Self::create`] made. Files go with their folder.
    pub(crate) async fn remove(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(server) => server.drop_all().await,
        }
    }
}

impl Postgres {
    async fn create(url: &str) -> Result<Self> {
        let mut connection = connect(url).await?;
        let backend = number(&mut connection, "SELECT CAST(pg_backend_pid() AS BIGINT)").await?;
        let postmaster = u32::try_from(backend)
            .ok()
            .and_then(|backend| procfs::parent_and_name(backend).ok())
            .filter(|(_, name)| name.starts_with("postgres"))
            .map(|(parent, _)| parent)
            .context("the PostgreSQL server must run on this machine: its CPU time is part of the figure")?;
        let prefix = format!("mica_bench_{}", hex::encode(rand::random::<[u8; 4]>()));
        let server = Self { url: url.to_owned(), prefix, postmaster };
        for role in KEEPERS {
            let statement = format!("CREATE DATABASE {}_{}", server.prefix, role.name());
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await
                .context("cannot create a database; the user of --database needs the right to")?;
        }
        Ok(server)
    }

    fn url_of(&self, role: Role) -> String {
        let (before, parameters) = match self.url.split_once('?') {
            Some((before, parameters)) => (before, format!("?{parameters}")),
            None => (self.url.as_str(), String::new()),
        };
        let scheme = before.find("://").map_or(0, |at| at + 3);
        let server =
            before.get(scheme..).and_then(|rest| rest.find('/')).map_or(before.len(), |at| scheme + at);
        format!("{}/{}_{}{parameters}", before.get(..server).unwrap_or(before), self.prefix, role.name())
    }

    async fn drop_all(&self) -> Result<()> {
        let mut connection = connect(&self.url).await?;
        for role in KEEPERS {
            let statement = format!("DROP DATABASE IF EXISTS {}_{} WITH (FORCE)", self.prefix, role.name());
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await
                .context("cannot drop a database")?;
        }
        Ok(())
    }
}

async fn connect(url: &str) -> Result<AnyConnection> {
    // The URL may hold a password: it is not repeated.
    let options: AnyConnectOptions = url.parse().ok().context("the URL of the database is malformed")?;
    options.disable_statement_logging().connect().await.context("cannot reach the database")
}

async fn number(connection: &mut AnyConnection, query: &'static str) -> Result<u64> {
    let row = sqlx::query(query).fetch_one(connection).await.context("the database does not answer")?;
    let number: i64 = row.try_get(0).context("the database answers something else")?;
    u64::try_from(number).context("the database answers a negative number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_the_database_is_replaced() {
        let url_of = |url: &str| {
            let server = Postgres { url: url.to_owned(), prefix: "b".to_owned(), postmaster: 1 };
            server.url_of(Role::Leader)
        };
        assert_eq!(url_of("postgres://u:p@[::1]:5/db"), "postgres://u:p@[::1]:5/b_leader");
        assert_eq!(url_of("postgres://h"), "postgres://h/b_leader");
        assert_eq!(url_of("postgresql://h/x?host=/run"), "postgresql://h/b_leader?host=/run");
    }
}
