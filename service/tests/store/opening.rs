//! Opening a database, and bringing its schema up to date.

use mica_service::store::{Store, StoreError};
use mica_service::testing::{TestDatabase, databases, sqlite};
use sqlx::migrate::Migrator;

use crate::{MIGRATIONS, available, grant, spend};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_processes_may_start_at_once_on_an_empty_database() {
    for database in databases().await {
        let starts: Vec<_> = (0..6)
            .map(|_| {
                let url = database.url.clone();
                tokio::spawn(async move { Store::open(&url, &MIGRATIONS).await })
            })
            .collect();
        for start in starts {
            let store = start.await.unwrap().unwrap();
            assert_eq!(store.schema_version(), 2, "{}", database.kind);
        }
    }
}

#[tokio::test]
async fn what_is_stored_is_there_after_a_restart() {
    for database in databases().await {
        let store = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&store, "kept", 3).await.unwrap();
        store.close().await;
        let store = database.open(&MIGRATIONS).await.unwrap();
        assert_eq!(available(&store, id).await, 3, "{}", database.kind);
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    for database in databases().await {
        database.open(&MIGRATIONS).await.unwrap().close().await;
        let older = older();
        let refused = database.open(&older).await.unwrap_err();
        assert_eq!(refused, StoreError::NewerSchema { found: 2, supported: 1 }, "{}", database.kind);
        assert!(refused.to_string().contains("run the newer program"));
    }
}

#[tokio::test]
async fn an_altered_migration_is_refused() {
    for database in databases().await {
        open_older(&database).await;
        let mut altered: Vec<_> = MIGRATIONS.iter().cloned().collect();
        altered[0].checksum = b"another file".as_slice().into();
        let refused = database.open(&Migrator::with_migrations(altered)).await.unwrap_err();
        assert_eq!(refused, StoreError::AlteredSchema { version: 1 }, "{}", database.kind);
    }
}

#[tokio::test]
async fn an_older_database_is_brought_up_to_date() {
    for database in databases().await {
        let id = open_older(&database).await;
        let store = database.open(&MIGRATIONS).await.unwrap();
        assert!(spend(&store, id, 1).await.unwrap(), "{}", database.kind);
    }
}

#[tokio::test]
async fn who_only_looks_creates_nothing_and_migrates_nothing() {
    for database in databases().await {
        let look = || Store::open_to_read(&database.url, &MIGRATIONS);
        assert!(look().await.unwrap().is_none(), "{}: there is no database yet", database.kind);
        open_older(&database).await;
        let refused = look().await.unwrap_err();
        assert_eq!(refused, StoreError::OlderSchema { found: 1, supported: 2 }, "{}", database.kind);
        let server = database.open(&MIGRATIONS).await.unwrap();
        let id = grant(&server, "seen", 3).await.unwrap();
        let store = look().await.unwrap().expect("there is a database now");
        assert_eq!(available(&store, id).await, 3, "{}: beside a server", database.kind);
        store.close().await;
        assert!(spend(&server, id, 1).await.unwrap(), "{}", database.kind);
        let newer = Store::open_to_read(&database.url, &older()).await.unwrap_err();
        assert_eq!(newer, StoreError::NewerSchema { found: 2, supported: 1 }, "{}", database.kind);
    }
    let none = Store::open_to_read("sqlite:/nowhere/at/all/test.db", &MIGRATIONS).await;
    assert!(none.unwrap().is_none() && !std::path::Path::new("/nowhere").exists());
}

async fn open_older(database: &TestDatabase) -> i64 {
    let store = database.open(&older()).await.unwrap();
    let id = grant(&store, "older", 1).await.unwrap();
    store.close().await;
    id
}

fn older() -> Migrator {
    Migrator::with_migrations(MIGRATIONS.iter().filter(|migration| migration.version == 1).cloned().collect())
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named_in_one_sentence() {
    let refused = Store::open("sqlite:/nowhere/at/all/test.db", &MIGRATIONS).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cannot write the database /nowhere/at/all/test.db: there is no folder /nowhere/at/all; \
         create it or choose another path"
    );
    for path in ["/proc/self/test.db", "/dev/null/test.db"] {
        let refused = Store::open(&format!("sqlite:{path}"), &MIGRATIONS).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unwritable(_)), "{refused:?}");
        assert!(refused.to_string().starts_with(&format!("cannot write the database {path}: ")), "{refused}");
    }
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_repeating_it() {
    for url in ["", "mysql://u:secret@h/d", "sqlite:", "sqlite::memory:", "postgres://u:sec/ret@[h/d"] {
        let refused = Store::open(url, &MIGRATIONS).await.unwrap_err();
        assert!(matches!(refused, StoreError::BadUrl(_)), "{url}: {refused:?}");
        assert!(!refused.to_string().contains("sec"), "{refused}");
    }
    let refused = Store::open("postgres://127.0.0.1:1/nothing", &MIGRATIONS).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unreachable(_)), "{refused:?}");
}

#[tokio::test]
async fn paths_of_sqlite_are_taken_literally() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["with space.db", "with%20percent.db", "with#hash.db", "ümläut.db"] {
        let path = folder.path().join(name);
        let url = format!("sqlite://{}", path.display());
        Store::open(&url, &MIGRATIONS).await.unwrap().close().await;
        assert!(path.metadata().unwrap().len() > 0, "{name}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_an_sqlite_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let database = sqlite();
    let store = database.open(&MIGRATIONS).await.unwrap();
    grant(&store, "private", 1).await.unwrap();
    let path = database.url.strip_prefix("sqlite:").unwrap().to_owned();
    for file in [path.clone(), format!("{path}-wal"), format!("{path}-shm")] {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "{file}");
    }
}
