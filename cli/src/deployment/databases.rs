//! One database for each role that keeps something, in a folder or on a PostgreSQL server, and gone again when they are
//! only for a while.

use std::path::{Path, PathBuf};

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::exit::{Exit, Failure};

/// The URLs of the databases. The relay has none: it keeps nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Databases {
    pub(crate) leader: String,
    pub(crate) helper: String,
    pub(crate) gateway: String,
}

impl Databases {
    /// Files in a folder.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let file = |role: &str| format!("sqlite:{}", folder.join(format!("{role}.db")).display());
        Self { leader: file("leader"), helper: file("helper"), gateway: file("gateway") }
    }

    /// Files beside the one that is named: `/data/mica.db` stands for `/data/mica.leader.db` and so on.
    pub(crate) fn beside(file: &Path) -> Self {
        let name = |role: &str| format!("sqlite:{}", beside(file, &format!("{role}.db")).display());
        Self { leader: name("leader"), helper: name("helper"), gateway: name("gateway") }
    }

    /// Databases on the PostgreSQL server of `url`, made where they are missing, called `prefix_leader` and so on.
    ///
    /// # Errors
    /// When the server cannot be reached, or does not let this user make databases.
    pub(crate) async fn on_server(url: &str, prefix: &str) -> Result<Self, Failure> {
        let name = |role: &str| format!("{prefix}_{role}");
        let mut connection = connect(url).await?;
        for role in ROLES {
            let name = name(role);
            let found = sqlx::query("-- find_database\nSELECT COUNT(*) FROM pg_database WHERE datname = $1")
                .bind(&name)
                .fetch_one(&mut connection)
                .await
                .and_then(|row| row.try_get::<i64, _>(0))
                .map_err(|error| failed(&error))?;
            if found == 0 {
                execute(&mut connection, format!("CREATE DATABASE {}", identifier(&name))).await?;
            }
        }
        connection.close().await.map_err(|error| failed(&error))?;
        let of = |role| with_name(url, &name(role));
        Ok(Self { leader: of("leader"), helper: of("helper"), gateway: of("gateway") })
    }

    /// Drops what [`Databases::on_server`] made.
    ///
    /// # Errors
    /// When the server does not do it.
    pub(crate) async fn drop_from_server(url: &str, prefix: &str) -> Result<(), Failure> {
        let mut connection = connect(url).await?;
        for role in ROLES {
            let name = identifier(&format!("{prefix}_{role}"));
            execute(&mut connection, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        }
        connection.close().await.map_err(|error| failed(&error))
    }
}

/// `/data/mica.db` and `leader.db` are `/data/mica.leader.db`.
pub(crate) fn beside(file: &Path, ending: &str) -> PathBuf {
    let stem = file.file_stem().map_or_else(|| "mica".into(), |stem| stem.to_string_lossy().into_owned());
    file.with_file_name(format!("{stem}.{ending}"))
}

/// Whether the URL is one of a PostgreSQL server.
pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The name of the database in a URL of a PostgreSQL server, if it names one.
pub(crate) fn name_in(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let path = rest.split_once('/')?.1;
    let name = path.split(['?', '#']).next()?;
    (!name.is_empty()).then_some(name)
}

/// The URL with another database.
fn with_name(url: &str, name: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{authority}/{name}{query}")
}

/// To the database that the URL names; to the one that every server has where that is missing.
async fn connect(url: &str) -> Result<AnyConnection, Failure> {
    sqlx::any::install_default_drivers();
    match connect_to(url).await {
        Ok(connection) => Ok(connection),
        Err(first) => connect_to(&with_name(url, "postgres")).await.map_err(|_| unreachable(&first)),
    }
}

/// Making a database may take its time; nobody needs to be told in a log.
async fn connect_to(url: &str) -> Result<AnyConnection, sqlx::Error> {
    url.parse::<AnyConnectOptions>()?.disable_statement_logging().connect().await
}

async fn execute(connection: &mut AnyConnection, statement: String) -> Result<(), Failure> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map_err(|error| failed(&error))?;
    Ok(())
}

/// A quoted name: what is between the quotes is never read as SQL.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Without the URL, which may hold a password.
fn unreachable(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Configuration(_) => Failure::invalid(
            "the URL of the database is malformed; write it as postgres://user@host:port/name",
        ),
        _ => Failure::new(Exit::Unreachable, format!("cannot reach the database server: {error}")),
    }
}

fn failed(error: &sqlx::Error) -> Failure {
    Failure::invalid(format!("the database server refused: {error}"))
}

const ROLES: [&str; 3] = ["leader", "helper", "gateway"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_a_url_is_exchanged_and_the_rest_is_kept() {
        for (url, expected) in [
            ("postgres://u:p@h:5/db?sslmode=disable", "postgres://u:p@h:5/x_leader?sslmode=disable"),
            ("postgresql://h", "postgresql://h/x_leader"),
            ("postgres:///db?host=/run/pg", "postgres:///x_leader?host=/run/pg"),
        ] {
            assert_eq!(with_name(url, "x_leader"), expected);
        }
        assert_eq!(name_in("postgres://u@h:5/db?a=b"), Some("db"));
        assert_eq!(name_in("postgres://u@h:5/"), None);
        assert_eq!(name_in("postgres://u@h:5"), None);
    }

    #[test]
    fn files_lie_beside_the_one_that_is_named() {
        let databases = Databases::beside(Path::new("/data/mica.db"));
        assert_eq!(databases.leader, "sqlite:/data/mica.leader.db");
        assert_eq!(databases.gateway, "sqlite:/data/mica.gateway.db");
    }

    #[test]
    fn a_name_with_quotes_stays_a_name() {
        assert_eq!(identifier("a\"; DROP"), "\"a\"\"; DROP\"");
    }
}
