//! From a URL to a store: file, connections, migrations.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _};

use super::line::Lines;
use super::{Dialect, Store, StoreError, StoreOptions};
use crate::wake::Wake;

pub(super) async fn open(
    url: &str,
    migrator: &Migrator,
    options: &StoreOptions,
) -> Result<Store, StoreError> {
    sqlx::any::install_default_drivers();
    let (dialect, connect) = parse(url)?;
    create(url)?;
    let schema_version = migrate(dialect, &connect, migrator).await?;
    Ok(connected(dialect, connect, schema_version, options))
}

/// The database as it is: nothing is created and nothing migrated. Nothing when there is none yet.
pub(super) async fn open_to_read(
    url: &str,
    migrator: &Migrator,
    options: &StoreOptions,
) -> Result<Option<Store>, StoreError> {
    sqlx::any::install_default_drivers();
    let (dialect, connect) = parse(url)?;
    if sqlite_path(url).is_some_and(|path| !path.is_file()) {
        return Ok(None);
    }
    let mut connection = connect.connect().await?;
    let found = sqlx::query_scalar::<_, i64>("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
        .fetch_one(&mut connection)
        .await;
    connection.close().await?;
    let supported = migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
    match found {
        Ok(found) if found == supported => Ok(Some(connected(dialect, connect, found, options))),
        Ok(found) if found > supported => Err(StoreError::NewerSchema { found, supported }),
        Ok(found) => Err(StoreError::OlderSchema { found, supported }),
        Err(sqlx::Error::Database(error)) if is_missing_table(error.as_ref()) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// No migration was ever applied.
fn is_missing_table(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "42P01") || error.message().starts_with("no such table")
}

fn connected(
    dialect: Dialect,
    connect: AnyConnectOptions,
    schema_version: i64,
    options: &StoreOptions,
) -> Store {
    let writers = pool(dialect, connect.clone(), options, true);
    let readers = match dialect {
        Dialect::Sqlite => pool(dialect, connect, options, false),
        Dialect::Postgres => writers.clone(),
    };
    Store {
        dialect,
        writers,
        readers,
        lines: Lines::default(),
        wake: Wake::new(),
        schema_version,
        #[cfg(feature = "testing")]
        fuse: super::fuse::Fuse::default(),
    }
}

fn parse(url: &str) -> Result<(Dialect, AnyConnectOptions), StoreError> {
    let (dialect, url) = if let Some(path) = url.strip_prefix("sqlite:") {
        (Dialect::Sqlite, sqlite_url(path)?)
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        (Dialect::Postgres, url.to_owned())
    } else {
        return Err(StoreError::BadUrl(
            "the URL of a database starts with sqlite: and a path, or with postgres://".to_owned(),
        ));
    };
    // The URL may hold a password: it is not repeated.
    let options: AnyConnectOptions = url.parse().map_err(|_| {
        StoreError::BadUrl(
            "the URL of the database is malformed; a password in it must be percent-encoded".to_owned(),
        )
    })?;
    Ok((dialect, options.disable_statement_logging()))
}

/// The file of an SQLite database.
fn sqlite_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    Some(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
}

/// Spells the path of a file as sqlx reads it.
fn sqlite_url(path: &str) -> Result<String, StoreError> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.contains(":memory:") || path.contains('?') {
        return Err(StoreError::BadUrl(
            "the URL of an SQLite database is sqlite: and the path of a file, without parameters; \
             a database in memory cannot keep what it accepted"
                .to_owned(),
        ));
    }
    let path = std::path::absolute(path).map_err(|error| unwritable(Path::new(path), &error.to_string()))?;
    let text = path.to_str().ok_or_else(|| unwritable(&path, "its path is not UTF-8"))?;
    Ok(format!("sqlite://{}?mode=rw", percent_encode(text)))
}

/// Makes sure that the file of an SQLite database is there and can be written.
fn create(url: &str) -> Result<(), StoreError> {
    let Some(path) = sqlite_path(url) else { return Ok(()) };
    let path = std::path::absolute(&path).map_err(|error| unwritable(&path, &error.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        let why = format!("there is no folder {}; create it or choose another path", folder.display());
        return Err(unwritable(&path, &why));
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // The file holds keys: nobody but its owner may read it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path).map_err(|error| unwritable(&path, &error.to_string()))?;
    Ok(())
}

fn unwritable(path: &Path, why: &str) -> StoreError {
    StoreError::Unwritable(format!("cannot write the database {}: {why}", path.display()))
}

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            url.push(char::from(byte));
        } else {
            write!(url, "%{byte:02X}").expect("a string can always be written to");
        }
        url
    })
}

fn pool(dialect: Dialect, connect: AnyConnectOptions, options: &StoreOptions, writes: bool) -> AnyPool {
    let pool = AnyPoolOptions::new()
        .acquire_timeout(options.acquire_timeout)
        // A connection that died is found by `BEGIN`, which is tried again; a ping costs a round trip each.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move { dialect.prepare(connection, writes).await })
        });
    let pool = match (dialect, writes) {
        (Dialect::Sqlite, true) => pool.max_connections(1).idle_timeout(None).max_lifetime(None),
        (Dialect::Sqlite, false) => pool.max_connections(options.max_connections).max_lifetime(None),
        (Dialect::Postgres, _) => pool.max_connections(options.max_connections),
    };
    pool.connect_lazy_with(connect)
}

/// Brings the schema up to date and returns its version. Several processes may do so at once: on
/// PostgreSQL sqlx takes a lock, on SQLite the one that comes second tries again and finds nothing to do.
async fn migrate(
    dialect: Dialect,
    connect: &AnyConnectOptions,
    migrator: &Migrator,
) -> Result<i64, StoreError> {
    let migrator = translate(dialect, migrator);
    let latest = migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
    let mut attempts = 0;
    loop {
        let mut connection = connect.connect().await?;
        let outcome = migrate_once(dialect, &mut connection, &migrator).await;
        // Also gives back the lock of a migration that failed.
        let closed = connection.close().await;
        match outcome {
            Ok(()) => {
                closed?;
                return Ok(latest);
            }
            Err(MigrateError::VersionMissing(found)) if found > latest => {
                return Err(StoreError::NewerSchema { found, supported: latest });
            }
            Err(MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version)) => {
                return Err(StoreError::AlteredSchema { version });
            }
            Err(_) if dialect == Dialect::Sqlite && attempts < MIGRATION_ATTEMPTS => {
                attempts += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                return Err(error.into());
            }
            Err(other) => return Err(StoreError::Database(other.to_string())),
        }
    }
}

async fn migrate_once(
    dialect: Dialect,
    connection: &mut AnyConnection,
    migrator: &Migrator,
) -> Result<(), MigrateError> {
    dialect.prepare(connection, true).await?;
    if dialect == Dialect::Postgres {
        // Another replica may be migrating: that can take longer than any lock should.
        sqlx::query("SET lock_timeout = 0").execute(&mut *connection).await?;
    }
    // Not `run`: with its `Acquire` the future could not be spawned.
    migrator.run_direct(None, connection, false).await
}

/// The same migrations in the words of the database. Their checksums stay those of the files, so that a
/// better translation does not look like an altered migration.
fn translate(dialect: Dialect, migrator: &Migrator) -> Migrator {
    let migrations = migrator.iter().cloned().map(|mut migration| {
        let sql = dialect.translate(migration.sql.as_str()).into_owned();
        migration.sql = AssertSqlSafe(sql).into_sql_str();
        migration
    });
    Migrator::with_migrations(migrations.collect())
}

const MIGRATION_ATTEMPTS: usize = 5;
