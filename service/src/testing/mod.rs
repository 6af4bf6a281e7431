//! A fresh database of each kind for a test, certificates, and a network inside of one process. Behind the feature `testing`; no server carries it.

mod authority;
mod network;

use std::env;
use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::Connection as _;
use sqlx::migrate::{MigrateDatabase as _, Migrator};
use tempfile::TempDir;

pub use self::authority::{Authority, Folder, Issued, restrict};
pub use self::network::{Carried, Network};
use crate::store::{Store, StoreError, StoreOptions};

/// A database that nobody else uses. An SQLite file is removed when this is dropped; a database on the
/// server is left to the server, which `cargo xtask test` starts for one run and throws away.
pub struct TestDatabase {
    /// `sqlite` or `postgres`, to name the half of a test that failed.
    pub kind: &'static str,
    /// What [`Store::open`] takes.
    pub url: String,
    _folder: Option<TempDir>,
}

impl TestDatabase {
    /// Opens it, as a server would at its start.
    pub async fn open(&self, migrator: &Migrator) -> Result<Store, StoreError> {
        // Many tests share one server, and it has places for a hundred connections.
        let options = StoreOptions { max_connections: 6, ..StoreOptions::default() };
        Store::open_with(&self.url, migrator, &options).await
    }
}

impl TestDatabase {
    /// Another database with the same content: what a backup holds. Nobody may be connected to a server's any more, and
    /// whoever was is waited for.
    ///
    /// # Panics
    /// When the database cannot be copied.
    pub async fn copy(&self) -> Self {
        sqlx::any::install_default_drivers();
        if self.kind == "sqlite" {
            let copy = sqlite();
            let file = copy.url.strip_prefix("sqlite:").unwrap_or_default();
            let mut source = sqlx::AnyConnection::connect(&self.url).await.expect("it is there");
            let copied = sqlx::query("VACUUM INTO $1").bind(file).execute(&mut source).await;
            copied.expect("SQLite copies what it has");
            return copy;
        }
        let server = env::var("MICA_TEST_POSTGRES").expect("the server that the database is on");
        let (name, url) = {
            let name = fresh_name();
            (name.clone(), name_database(&server, &name))
        };
        let source = name_in(&self.url);
        let statement = format!("CREATE DATABASE {name} TEMPLATE {source}");
        let mut connection = sqlx::AnyConnection::connect(&server).await.expect("the server answers");
        for _ in 0..100 {
            let copied = sqlx::query(sqlx::AssertSqlSafe(statement.clone())).execute(&mut connection).await;
            if copied.is_ok() {
                return Self { kind: "postgres", url, _folder: None };
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("somebody is still connected to {source}");
    }
}

/// One fresh database of each kind.
///
/// # Panics
/// Without `MICA_TEST_POSTGRES`, the URL of a server on which databases may be created, a test would pass
/// that never ran: it fails with a sentence instead. `MICA_TEST_SQLITE_ONLY=1` asks for that half alone.
pub async fn databases() -> Vec<TestDatabase> {
    let mut databases = vec![sqlite()];
    databases.extend(postgres().await);
    databases
}

/// A fresh SQLite file in a folder of its own.
///
/// # Panics
/// When there is no place for temporary files.
pub fn sqlite() -> TestDatabase {
    let folder = tempfile::tempdir().expect("tests need a place for temporary files");
    let url = format!("sqlite:{}", folder.path().join("test.db").display());
    TestDatabase { kind: "sqlite", url, _folder: Some(folder) }
}

/// A fresh database on the PostgreSQL server of the run; none when only SQLite was asked for.
///
/// # Panics
/// As [`databases`].
pub async fn postgres() -> Option<TestDatabase> {
    let Ok(server) = env::var("MICA_TEST_POSTGRES") else {
        assert!(
            env::var("MICA_TEST_SQLITE_ONLY").is_ok_and(|value| value == "1"),
            "this test also runs on PostgreSQL: run `cargo xtask test`, which starts a server, \
             or set MICA_TEST_SQLITE_ONLY=1 to leave that half out"
        );
        eprintln!("PostgreSQL was left out of this test, as MICA_TEST_SQLITE_ONLY=1 asks");
        return None;
    };
    let url = name_database(&server, &fresh_name());
    sqlx::any::install_default_drivers();
    sqlx::Any::create_database(&url).await.expect("MICA_TEST_POSTGRES names a server to create databases on");
    Some(TestDatabase { kind: "postgres", url, _folder: None })
}

fn fresh_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Process numbers come round again, and a server may outlive a run.
    format!("mica_test_{}_{number}_{:08x}", id(), rand::random::<u32>())
}

/// Puts the name of a database into the URL of a server, which may carry one and parameters.
fn name_database(server: &str, name: &str) -> String {
    let (address, parameters) = match server.split_once('?') {
        Some((address, parameters)) => (address, format!("?{parameters}")),
        None => (server, String::new()),
    };
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address.get(host..).and_then(|rest| rest.find('/')).map_or(address.len(), |at| host + at);
    let address = address.get(..end).unwrap_or(address);
    format!("{address}/{name}{parameters}")
}

fn name_in(url: &str) -> &str {
    let path = url.split('?').next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::{name_database, name_in};

    #[test]
    fn the_name_of_the_database_replaces_the_one_in_the_url() {
        assert_eq!(name_database("postgres://u:p@h:5432", "x"), "postgres://u:p@h:5432/x");
        assert_eq!(name_database("postgres://h/postgres?host=/run", "x"), "postgres://h/x?host=/run");
        assert_eq!(name_in("postgres://h/x?host=/run"), "x");
    }
}
