//! Where the processes of a run keep what outlives them.

use std::path::Path;

use mica_service::testing::{TestDatabase, postgres};
use sqlx::migrate::MigrateDatabase as _;
use tempfile::TempDir;

/// One database for the leaders and one for the helper.
pub(crate) enum Databases {
    /// Files in a folder that goes with this.
    Sqlite { leader: String, helper: String, _folder: TempDir },
    /// On the server of the tests.
    Postgres { leader: TestDatabase, helper: TestDatabase },
}

impl Databases {
    /// Files, in memory where the machine has a place for such.
    pub(crate) fn sqlite() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a place for temporary files");
        let url = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
        Self::Sqlite { leader: url("leader.db"), helper: url("helper.db"), _folder: folder }
    }

    /// On the server that `MICA_TEST_POSTGRES` names, if the tests have one.
    pub(crate) async fn postgres() -> Option<Self> {
        Some(Self::Postgres { leader: postgres().await?, helper: postgres().await? })
    }

    pub(crate) fn leader(&self) -> &str {
        match self {
            Self::Sqlite { leader, .. } => leader,
            Self::Postgres { leader, .. } => &leader.url,
        }
    }

    pub(crate) fn helper(&self) -> &str {
        match self {
            Self::Sqlite { helper, .. } => helper,
            Self::Postgres { helper, .. } => &helper.url,
        }
    }

    /// Leaves nothing behind, for thousands of runs would fill the server.
    pub(crate) async fn remove(self) {
        if let Self::Postgres { leader, helper } = self {
            for database in [leader, helper] {
                let removed = sqlx::Postgres::force_drop_database(&database.url).await;
                removed.expect("a database of this run");
            }
        }
    }
}
